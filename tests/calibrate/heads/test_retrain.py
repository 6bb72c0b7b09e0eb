"""Each retrained head beside scikit-learn's, and the result that carries it."""

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestCentroid

from calibrate import FeatureCache, feature_cache, fit, retrain_head
from calibrate.errors import BadCache, NotConverged, UnknownMethod, WrongShape
from calibrate.heads import HEADS, trainer
from tests.models import HIDDEN, network, weights

PRIOR = {2: np.array([0.9, 0.1]), 3: np.array([0.75, 0.2, 0.05])}


def long_tailed(k: int = 3, n: int = 500, seed: int = 0, weighted: bool = False, d: int = HIDDEN) -> FeatureCache:
    """Normal classes of one spread and unequal size, under the head of `tests.models`."""
    rng = np.random.default_rng(seed)
    means = 0.8 * np.random.default_rng(99).normal(size=(k, d))
    labels = np.concatenate([np.arange(k), np.arange(k), rng.choice(k, p=PRIOR[k], size=n - 2 * k)])
    features = (means[labels] + rng.normal(size=(n, d))) * [3.0, 0.1, *[1.0] * (d - 2)] + 5
    head = weights(k)
    return feature_cache(
        features=features,
        labels=labels,
        weight=head["w2"],
        bias=head["b2"],
        classes=["a", "b", "c"][:k],
        sample_weight=rng.integers(1, 4, n) if weighted else None,
    )


def arrays(cache: FeatureCache) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Features and labels."""
    assert cache.features is not None
    return cache.features, cache.labels


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_trained_heads_are_class_weighted_logistic_regression(k: int, weighted: bool) -> None:
    """The mean over class-balanced draws is class-weighted cross-entropy, so both equal scikit-learn's.

    Its C is 1 / (n l2); twice that in two classes, where it has one row of weights and we have two that share them.
    """
    cache = long_tailed(k, weighted=weighted)
    x, y = arrays(cache)
    own = np.ones(len(y)) if cache.sample_weight is None else cache.sample_weight
    l2, c = 1e-3, 1e3 if k == 3 else 2e3
    balanced = own / np.bincount(y, own)[y] / k
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=20_000).fit(x, y, sample_weight=balanced)
    expected = reference.predict_log_proba(x)
    if not weighted:
        theirs = LogisticRegression(C=c / len(y), class_weight="balanced", tol=1e-10, max_iter=20_000).fit(x, y)
        assert np.allclose(theirs.predict_log_proba(x), expected, atol=2e-4)
    for method in ("crt", "weighted_cross_entropy"):
        head = retrain_head(cache, method=method, l2=l2)
        logits = head.logits(x)
        logits -= np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) + logits.max(1)[:, None]
        assert np.allclose(logits, expected, atol=1e-3)
        assert np.allclose(head.prior, 1 / k)


def test_batches_come_near_the_whole() -> None:
    """Adam on class-balanced draws reaches nearly the same objective, the same for the same seed."""
    cache = long_tailed(2, 100)
    x, y = arrays(cache)
    whole = retrain_head(cache, l2=1e-2)
    found = [
        retrain_head(cache, l2=1e-2, full_batch=0, batch_rows=100, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(found[0].weight, found[1].weight)
    assert not np.array_equal(found[0].weight, found[2].weight)

    def objective(logits: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
        lost = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
        return float(sum(lost[y == c].mean() for c in (0, 1)) / 2 + 1e-2 / 2 * (weight**2).sum())

    least = objective(whole.logits(x), whole.weight)
    assert least <= objective(found[0].logits(x), found[0].weight) <= least * 1.01


def test_a_feature_that_never_changes_is_left_out() -> None:
    """To rounding: a constant column (a dead unit) has no spread and gets no weight."""
    cache = long_tailed(2, 100)
    x, y = arrays(cache)
    dead = feature_cache(features=np.column_stack([x, np.full(len(y), 0.1)]), logits=cache.logits, labels=y)
    found, plain = retrain_head(dead), retrain_head(cache)
    assert np.allclose(found.weight[:, :-1], plain.weight, atol=1e-4)
    assert np.allclose(found.weight[:, -1], 0, atol=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_nearest_class_mean_is_nearest_centroid(k: int) -> None:
    """Row by row, the distances too; and by cosine to the same means."""
    cache = long_tailed(k)
    x, y = arrays(cache)
    reference = NearestCentroid().fit(x, y)
    head = retrain_head(cache, method="nearest_class_mean")
    assert np.array_equal(head.logits(x).argmax(axis=1), reference.predict(x))
    distances = (x**2).sum(axis=1, keepdims=True) - head.logits(x)
    assert np.allclose(distances, ((x[:, None] - reference.centroids_) ** 2).sum(axis=2))
    cosine = retrain_head(cache, method="nearest_class_mean_cosine").logits(x)
    similar = cosine_similarity(x, reference.centroids_)
    assert np.allclose(cosine / np.linalg.norm(x, axis=1, keepdims=True), similar)


@pytest.mark.parametrize("method", HEADS)
def test_every_head_has_evidence_on_the_validation_rows(method: str) -> None:
    """It is that of argmax under the new logits, beside the old head's; points can be fitted on top."""
    train, validation = long_tailed(), long_tailed(seed=1)
    head = retrain_head(train, method=method, validation=validation, l2=None)
    x, y = arrays(validation)
    value = head.evidence["balanced_accuracy"]
    assert value.kind == "held_out"
    assert value.value == pytest.approx(balanced_accuracy_score(y, head.logits(x).argmax(axis=1)))
    old = balanced_accuracy_score(y, validation.logits.argmax(axis=1))
    assert head.before["balanced_accuracy"].value == pytest.approx(old)
    assert value.value > old
    under = head.cache_of(validation)
    assert np.array_equal(under.logits, head.logits(x))
    assert fit(under, metric="g_mean", method="logit_adjustment", evidence=False).prior is not None
    assert head.to_dict()["changed"]
    assert retrain_head(train, method=method).evidence == {}


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("softmax", [False, True])
def test_the_onnx_model_runs_with_the_new_head(k: int, softmax: bool) -> None:
    """Its logits are those of the head on the body's features, to float32."""
    head = retrain_head(long_tailed(k))
    made = head.write_onnx(network(k, softmax=softmax))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(made).run(None, {"x": x})
    body = weights(k)
    wanted = head.logits(np.maximum(x @ body["w1"] + body["b1"], 0))
    if softmax:
        wanted = np.exp(wanted - wanted.max(axis=1, keepdims=True))
        wanted /= wanted.sum(axis=1, keepdims=True)
    assert np.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No features, the training rows as evidence, options that are not there, no minimum within reach."""
    cache = long_tailed()
    bare = feature_cache(logits=cache.logits, labels=cache.labels, classes=cache.classes)
    with pytest.raises(BadCache, match="trained on features"):
        retrain_head(bare)
    with pytest.raises(BadCache, match="would flatter"):
        retrain_head(cache, validation=cache)
    with pytest.raises(UnknownMethod, match="head must be one of crt"):
        retrain_head(cache, method="svm")
    with pytest.raises(UnknownMethod, match="has no option 'l2'"):
        retrain_head(cache, method="nearest_class_mean", l2=0.1)
    with pytest.raises(UnknownMethod, match="l2 must be a number of at least 0, got -1"):
        retrain_head(cache, l2=-1.0)
    with pytest.raises(WrongShape, match="wanted 6 columns, got 2"):
        retrain_head(cache, method="nearest_class_mean").logits([[1.0, 2.0]])
    monkeypatch.setattr(trainer, "_MOST_STEPS", 1)
    with pytest.raises(NotConverged, match="larger l2"):
        retrain_head(cache)
    monkeypatch.setattr(trainer, "_MOST_PASSES", 1)
    with pytest.raises(NotConverged, match="help"):
        retrain_head(cache, full_batch=0)
