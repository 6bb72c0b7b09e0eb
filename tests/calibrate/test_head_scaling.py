"""Tau-normalisation and LWS: the points they end in are the published heads, and the search is the best there is."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

from calibrate import FeatureCache, OperatingPoint, feature_cache, fit
from calibrate.errors import MissingHead, UnknownMethod

PRIOR = np.array([0.7, 0.2, 0.1])


def value(metric: str, labels: NDArray[np.int64], decided: NDArray[np.int64]) -> float:
    """A metric by scikit-learn."""
    recalls = recall_score(labels, decided, average=None, zero_division=0)
    return {
        "accuracy": lambda: float(accuracy_score(labels, decided)),
        "f1_macro": lambda: float(f1_score(labels, decided, average="macro", zero_division=0)),
        "balanced_accuracy": lambda: float(recalls.mean()),
        "g_mean": lambda: float(recalls.prod() ** (1 / recalls.size)),
    }[metric]()


def long_tailed(seed: int = 0, n: int = 400, d: int = 4) -> FeatureCache:
    """Normal classes of unequal size under a head whose rare classes have smaller weights, as trained heads have."""
    rng = np.random.default_rng(seed)
    k = PRIOR.size
    means = rng.normal(size=(k, d))
    labels = np.concatenate([np.arange(k), np.arange(k), rng.choice(k, p=PRIOR, size=n - 2 * k)])
    weight, bias = means * [[1.6], [1.0], [0.6]], np.log(PRIOR) - 0.3
    features = means[labels] + rng.normal(size=(n, d))
    return feature_cache(features=features, labels=labels, weight=weight, bias=bias, classes=["a", "b", "c"])


def head_of(cache: FeatureCache) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Features, weight and bias."""
    assert cache.features is not None
    assert cache.weight is not None
    assert cache.bias is not None
    return cache.features.astype(np.float64), cache.weight.astype(np.float64), cache.bias.astype(np.float64)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.5])
def test_the_points_are_the_rescaled_heads(tau: float) -> None:
    """As published without the bias, or with the head's own; tau = 0 with it is the plain model."""
    cache = long_tailed()
    x, w, beta = head_of(cache)
    rescaled = w / np.linalg.norm(w, axis=1, keepdims=True) ** tau
    dropped = fit(cache, method="tau_normalization", metric="accuracy", tau=tau, evidence=False).point
    kept = fit(cache, method="tau_normalization_keep_bias", metric="accuracy", tau=tau, evidence=False).point
    assert np.array_equal(dropped.decide(cache.logits), (x @ rescaled.T).argmax(axis=1))
    assert np.array_equal(kept.decide(cache.logits), (x @ rescaled.T + beta).argmax(axis=1))
    if tau == 0:
        assert kept == OperatingPoint.argmax(cache.classes)


@pytest.mark.parametrize("method", ["tau_normalization", "tau_normalization_keep_bias"])
@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "g_mean"])
def test_the_fitted_tau_is_the_best_of_a_fine_grid(method: str, metric: str) -> None:
    """Beside 401 heads rescaled by hand."""
    cache = long_tailed(1)
    x, w, beta = head_of(cache)
    found = fit(cache, method=method, metric=metric, evidence=False)
    norms = np.linalg.norm(w, axis=1)
    ours = value(metric, cache.labels, found.point.decide(cache.logits))
    for tau in np.linspace(0, 4, 401):
        scores = x @ (w / norms[:, np.newaxis] ** tau).T + (beta if method.endswith("keep_bias") else 0)
        assert ours >= value(metric, cache.labels, scores.argmax(axis=1)) - 1e-12
    assert 0 <= found.parameters["tau"] <= 4


@pytest.mark.parametrize("keep_bias", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_lws_has_the_least_class_balanced_cross_entropy(keep_bias: bool, weighted: bool) -> None:
    """By scikit-learn's log loss with balanced weights: no other scales near or far are better."""
    cache = long_tailed(2)
    x, w, beta = head_of(cache)
    rng = np.random.default_rng(5)
    own = rng.integers(1, 4, cache.rows).astype(float) if weighted else np.ones(cache.rows)
    if weighted:
        cache = feature_cache(
            features=x, weight=w, bias=beta, labels=cache.labels, classes=cache.classes, sample_weight=own
        )
    point = fit(cache, method="lws_keep_bias" if keep_bias else "lws", metric="accuracy", evidence=False).point
    balanced = own / np.bincount(cache.labels, own)[cache.labels]

    def loss(scale: NDArray[np.float64]) -> float:
        z = (x @ w.T) * scale + (beta if keep_bias else beta * scale)
        exps = np.exp(z - z.max(axis=1, keepdims=True))
        return float(log_loss(cache.labels, exps / exps.sum(axis=1, keepdims=True), sample_weight=balanced))

    least = loss(point.scale)
    for spread in (1e-3, 0.1, 1.0):
        for _ in range(50):
            assert loss(np.maximum(point.scale + rng.normal(size=3) * spread, 1e-6)) >= least - 1e-12
    scores = (x @ w.T) * point.scale + (beta if keep_bias else beta * point.scale)
    assert np.array_equal(point.decide(cache.logits), scores.argmax(axis=1))


def test_evidence_is_corrected_and_of_a_given_tau_held_out() -> None:
    """The rows have a say in a fitted tau and in LWS's scales, none in a given tau."""
    cache = long_tailed(3)
    for method, kind in (("tau_normalization", "optimism_corrected"), ("lws", "optimism_corrected")):
        assert fit(cache, method=method, metric="g_mean").evidence["g_mean"].kind == kind
    given = fit(cache, method="tau_normalization", tau=0.7, metric="g_mean")
    assert given.evidence["g_mean"].kind == "held_out"


def test_behind_a_calibration_map_the_head_is_mapped_too() -> None:
    """Tau-normalisation drops the bias of the mapped head, and one temperature for all classes changes no decision."""
    cache = long_tailed(6)
    x, w, beta = head_of(cache)
    found = fit(
        cache, method="tau_normalization", tau=0.5, metric="accuracy", calibration="temperature", evidence=False
    )
    rescaled = w / np.linalg.norm(w, axis=1, keepdims=True) ** 0.5
    assert beta.any()
    assert np.array_equal(found.point.decide(cache.logits), (x @ rescaled.T).argmax(axis=1))


def test_it_helps_the_tail() -> None:
    """As published, macro recall on new rows rises over the plain model's; a long-tailed bias that is kept holds it."""
    whole = long_tailed(4, 1500)
    x, w, beta = head_of(whole)
    fitting, fresh = (
        feature_cache(features=x[rows], weight=w, bias=beta, labels=whole.labels[rows], classes=whole.classes)
        for rows in (slice(0, 500), slice(500, None))
    )
    plain = value("balanced_accuracy", fresh.labels, fresh.logits.argmax(axis=1))
    for method in ("tau_normalization", "lws"):
        point = fit(fitting, method=method, metric="balanced_accuracy", evidence=False).point
        assert value("balanced_accuracy", fresh.labels, point.decide(fresh.logits)) > plain


def test_what_is_missing_is_named() -> None:
    """No head, a head of one logit, a tau that is none."""
    cache = long_tailed()
    bare = feature_cache(logits=cache.logits, labels=cache.labels, classes=cache.classes)
    for method in ("tau_normalization", "tau_normalization_keep_bias", "lws_keep_bias"):
        with pytest.raises(MissingHead, match="weight \\(k, d\\) and bias"):
            fit(bare, method=method, metric="f1_macro")
    x = np.array([[-1.0], [0.5], [1.0], [-0.2]])
    one_logit = feature_cache(features=x, weight=[[1.0]], bias=[0.1], labels=[0, 1, 1, 0], classes=["no", "yes"])
    with pytest.raises(MissingHead, match="class 'no' is 0"):
        fit(one_logit, method="tau_normalization", metric="f1")
    with pytest.raises(UnknownMethod, match="from -100 to 100, got nan"):
        fit(cache, method="tau_normalization", metric="f1_macro", tau=float("nan"))
    with pytest.raises(UnknownMethod, match="no option 'tau'"):
        fit(cache, method="lws", metric="f1_macro", tau=1.0)
