"""Evidence comes from rows that did not fit, and the result says what it rests on."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from calibrate import FeatureCache, OperatingPoint, feature_cache, fit
from calibrate.errors import BadCache, BadPrior, MissingClass, UnknownMetric
from calibrate.evidence import of_fit
from calibrate.folds import stratified_folds
from calibrate.methods import METHODS, Fitted, Task
from calibrate.objective import parse_objective
from tests.problems import BINARY, MULTICLASS, Problem, draw
from tests.reference import binary_metric, cells


def cache_of(problem: Problem) -> FeatureCache:
    """The problem as a cache with its prior."""
    return feature_cache(logits=problem.logits, labels=problem.labels, classes=problem.classes, prior=problem.prior)


def test_no_row_is_scored_by_a_point_that_it_fitted() -> None:
    """Each part of the cross-fit is decided by a fit that never used it, and every row is in exactly one part."""
    problem = BINARY[1]
    seen: list[set[float]] = []
    objective = parse_objective("f1", None, problem.classes)

    def spying(task: Task) -> Fitted:
        seen.append(set(task.logits[:, 1].tolist()))
        assert np.array_equal(task.state_logits, task.logits)
        return METHODS["bias_adjustment"].fit(task)

    task = Task(problem.logits, problem.labels, tuple(problem.classes), objective, problem.logits)
    evidence = of_fit(task, METHODS["bias_adjustment"].fit(task), spying, [objective.metric])
    assert evidence.point["f1"].kind == "optimism_corrected"
    assert evidence.procedure["f1"].kind == "cross_fitted"
    every = set(problem.logits[:, 1].tolist())
    left_out = [every - fitted_on for fitted_on in seen]
    assert len(seen) == 5
    assert set.union(*left_out) == every
    assert sum(map(len, left_out)) == len(every) == len(problem.labels)
    decided = np.empty(len(problem.labels), dtype=np.intp)
    for fold in left_out:
        rows = np.isin(problem.logits[:, 1], list(fold))
        kept = np.flatnonzero(~rows)
        decided[rows] = METHODS["bias_adjustment"].fit(task.with_rows(kept)).point.decide(problem.logits[rows])
    assert evidence.procedure["f1"].value == pytest.approx(binary_metric("f1", *cells(problem.labels, decided)))


def test_folds_are_stratified() -> None:
    """Each fold has its share of each class, to within one row."""
    labels = np.repeat([0, 1, 2], [103, 20, 5])
    folds = stratified_folds(labels, 5, np.random.default_rng(1))
    for label, rows in enumerate([103, 20, 5]):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.sum() == rows
        assert counts.max() - counts.min() <= 1


def test_evidence_is_lower_than_the_fitting_rows_own_score() -> None:
    """The optimism that is never reported: few positives, many cuts, the mean over many draws."""
    gaps = []
    for seed in range(30):
        problem = draw((0.9, 0.1), 150, seed)
        result = fit(cache_of(problem), metric="f1", search="exact")
        own = binary_metric("f1", *cells(problem.labels, result.point.decide(problem.logits)))
        gaps.append(own - result.evidence["f1"].value)
    assert np.mean(gaps) > 0.02


def test_held_out_rows_are_scored_by_the_point_itself() -> None:
    """Evidence on another cache is that point's decisions there, and `before` is the plain model's."""
    problem, other = BINARY[0], draw((0.95, 0.05), 500, 99)
    result = fit(cache_of(problem), metric="g_mean", evidence=cache_of(other))
    for name in ("g_mean", "recall", "precision", "f1"):
        ours = binary_metric(name, *cells(other.labels, result.point.decide(other.logits)))
        plain = binary_metric(name, *cells(other.labels, (other.logits[:, 1] > other.logits[:, 0]).astype(int)))
        assert result.evidence[name].value == pytest.approx(ours)
        assert result.before[name].value == pytest.approx(plain)
        assert result.evidence[name].kind == "held_out"
    assert result.evidence["recall"].rows == (other.labels == 1).sum()


def test_what_nothing_was_fitted_for_is_held_out_as_it_stands() -> None:
    """A prior threshold never looks at the rows, so all of them may score it."""
    problem = BINARY[0]
    result = fit(cache_of(problem), method="prior_threshold", metric="f1")
    decided = result.point.decide(problem.logits)
    assert result.evidence["f1"].kind == "held_out"
    assert result.evidence["f1"].value == pytest.approx(binary_metric("f1", *cells(problem.labels, decided)))


def test_evidence_can_be_skipped_and_never_comes_from_the_fitting_rows() -> None:
    """False gives none; the fitting cache itself is refused."""
    cache = cache_of(BINARY[0])
    assert fit(cache, metric="f1", evidence=False).evidence == {}
    with pytest.raises(BadCache, match="are the fitting rows"):
        fit(cache, metric="f1", evidence=cache_of(BINARY[0]))


@pytest.mark.parametrize("wrong", ["test.npz", 1, None, [0.5]])
def test_other_rows_come_as_a_cache(wrong: object) -> None:
    """The name of a file is not taken as `True`, which would give evidence of the fitting rows."""
    cache, plain_fit = cache_of(BINARY[0]), inspect.unwrap(fit)  # without the types that tests check before
    with pytest.raises(BadCache, match="evidence must be True, False or a feature cache, got"):
        plain_fit(cache, metric="f1", evidence=wrong)
    if wrong is not None:
        with pytest.raises(BadCache, match="train must be a feature cache, got"):
            plain_fit(cache, metric="f1", train=wrong)


def test_one_row_of_a_class_is_a_warning_not_a_refusal() -> None:
    """There is a point, evidence that says next to nothing of the row's class, and the reason for both."""
    result = fit(cache_of(BINARY[3]), metric="f1")
    assert {each.kind for each in result.evidence.values()} == {"simultaneous"}
    assert result.evidence["recall"].high - result.evidence["recall"].low > 0.95
    assert result.procedure == result.gain == {}
    assert any("'class b' has 1 rows" in text for text in result.warnings)
    assert any("bands, which are wider: class 'class b' has 1 row" in text for text in result.warnings)


def test_a_metric_that_asks_for_one_class_only_is_called_out() -> None:
    """Recall alone is best when everything is positive."""
    result = fit(cache_of(BINARY[6]), metric="recall", evidence=False)
    assert any("no fitting rows of 4 decided 'class a': 'recall' alone asks for that" in w for w in result.warnings)
    result = fit(cache_of(BINARY[1]), metric="precision", evidence=False)
    assert any("decided 'class b': 'precision' alone asks for that" in w for w in result.warnings)


def test_margins_that_float32_cannot_tell_apart_are_called_out() -> None:
    """The neighbours of the cut are one step of float64 apart."""
    margins = np.array([1.0, 1.0 + 1e-12, 0.0, 2.0])
    result = fit(logits=margins, labels=[0, 1, 0, 1], metric="f1", search="exact", evidence=False)
    assert any("a float32 model may decide them either way" in text for text in result.warnings)


def test_the_prior_is_the_calls_then_the_caches_then_the_training_caches() -> None:
    """And the result says which it was."""
    problem = BINARY[0]
    bare = feature_cache(logits=problem.logits, labels=problem.labels, classes=problem.classes)
    options = {"metric": "f1", "method": "prior_threshold", "evidence": False}
    with_prior = cache_of(problem)
    for cache, train, prior, expected in [
        (with_prior, None, [0.5, 0.5], [0.5, 0.5]),
        (with_prior, bare, None, problem.prior),
        (bare, with_prior, None, problem.prior),
    ]:
        result = fit(cache, train=train, prior=prior, **options)  # type: ignore[arg-type]
        assert result.prior is not None
        assert result.prior.tolist() == pytest.approx(list(expected))


def test_more_than_two_classes_have_macro_and_per_class_evidence() -> None:
    """And the same result for the same rows, every time."""
    cache = cache_of(MULTICLASS[2])
    first, second = (fit(cache, metric="f1[class c]") for _ in range(2))
    assert {"f1", "recall[class a]", "f1[class c]", "mcc"} <= first.evidence.keys()
    assert first.to_dict() == second.to_dict()
    other_draw = fit(cache, metric="f1[class c]", rng=np.random.default_rng(5))
    assert other_draw.evidence["f1"] != first.evidence["f1"]
    assert other_draw.point == first.point


def test_a_saved_result_holds_everything_and_serves_as_a_point(tmp_path: Path) -> None:
    """Plain JSON, undefined numbers as null, no infinities."""
    result = fit(cache_of(BINARY[5]), metric="precision")
    result.save(tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert written == json.loads(json.dumps(result.to_dict()))
    assert OperatingPoint.load(tmp_path / "r.json") == result.point


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": [0, 0, 0]}, MissingClass, "class '1' has no rows"),
        ({"prior": [1.0, 0.0]}, BadPrior, "prior of class '1' must be > 0, got 0.0"),
        ({"prior": [0.5, 0.2]}, BadPrior, "must sum to 1"),
        ({"prior": [0.5, 0.3, 0.2]}, BadPrior, "wanted 2 entries"),
        ({"metric": "auc"}, UnknownMetric, "must be one of accuracy"),
        ({"logits": None}, BadCache, "and labels; got labels"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], error: type[Exception], message: str) -> None:
    """One error a fault, with what was wanted and what came."""
    good: dict[str, object] = {"logits": [0.1, 0.2, 0.3], "labels": [0, 1, 0], "metric": "f1"}
    with pytest.raises(error, match=message):
        fit(**{**good, **change})  # type: ignore[arg-type]


def test_caches_of_different_models_do_not_mix() -> None:
    """Training and evidence rows must have the same classes in the same order."""
    cache, other = cache_of(BINARY[0]), cache_of(MULTICLASS[0])
    with pytest.raises(BadCache, match="train has classes class a, class b, class c, wanted class a, class b"):
        fit(cache, metric="f1", train=other)
    with pytest.raises(BadCache, match="evidence has classes"):
        fit(cache, metric="f1", evidence=other)
    with pytest.raises(BadCache, match="not both"):
        fit(cache, metric="f1", logits=[1.0])


@pytest.mark.parametrize("metric", ["f1", "g_mean", "tp - fp"])
def test_scaling_or_shifting_all_logits_changes_no_decision(metric: str) -> None:
    """The exact search, in two classes and in more, by powers of two, which are exact."""
    for problem in (BINARY[1], MULTICLASS[2]):
        logits = problem.logits.astype(np.float64)
        if logits.ndim == 1:
            logits = np.stack([logits * 0, logits], axis=1)
        options = {"labels": problem.labels, "classes": problem.classes, "metric": metric, "search": "exact"}
        options["evidence"] = False
        plain = fit(logits=logits, **options).point.decide(logits)  # type: ignore[arg-type]
        for moved in (logits * 4, logits / 8, logits + 1024):
            assert np.array_equal(fit(logits=moved, **options).point.decide(moved), plain)  # type: ignore[arg-type]


def test_rows_inside_a_rounding_step_are_counted() -> None:
    """A float32 copy may decide those and no others differently."""
    rng = np.random.default_rng(0)
    margins = np.append(rng.normal(size=2000) * 50, [30.0, 30.0 + 1e-9, 30.0 + 2e-9])
    labels = np.append(margins[:2000] > 30, [False, True, True]).astype(int)
    result = fit(logits=margins, labels=labels, metric="accuracy", search="exact", evidence=False)
    assert result.rounding_rows == 3
    flipped = result.point.decide(margins) != result.point.decide(margins.astype(np.float32))
    assert 1 <= flipped.sum() <= result.rounding_rows


def test_the_models_own_scores_are_reported_by_amounts_too() -> None:
    """ROC AUC, and weighted by what a miss or a false alarm costs, as scikit-learn's with those weights."""
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.2).astype(int)
    logits, fp, fn = rng.normal(size=500) + labels, rng.random(500), rng.gamma(1, 9, 500)
    cache = feature_cache(logits=logits, labels=labels, cost_fp=fp, cost_fn=fn)
    scores = fit(cache, metric="savings", evidence=False).model_scores
    assert scores["roc_auc"].value == pytest.approx(roc_auc_score(labels, logits))
    weighted = roc_auc_score(labels, logits, sample_weight=np.where(labels == 1, fn, fp))
    assert scores["cost_weighted_roc_auc"].value == pytest.approx(weighted)


def test_amounts_are_of_the_class_that_their_metric_names() -> None:
    """Whichever class the metric that is maximised, or another constraint, is about; in two classes and in three."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 600, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(600, 3)) + 1.5 * np.eye(3)[labels]
    costs = {"cost_fp": np.ones(600), "cost_fn": rng.gamma(1, 20, 600)}

    def cost(alert: np.ndarray, actual: np.ndarray) -> float:
        return float((alert & ~actual).mean() + costs["cost_fn"][~alert & actual].sum() / 600)

    three = feature_cache(logits=logits, labels=labels, classes=["a", "b", "c"], **costs)
    result = fit(three, metric="f1", constraints=["row_cost[c] <= 0.7"], evidence=False)
    assert cost(result.point.decide(logits) == 2, labels == 2) <= 0.7
    two = feature_cache(logits=logits[:, [0, 2]], labels=labels == 2, classes=["no", "yes"], **costs)
    result = fit(two, metric="recall[no]", constraints=["row_cost[yes] <= 0.7"], evidence=two_halves(two))
    decided = result.point.decide(two.logits)
    assert cost(decided == 1, labels == 2) <= 0.7
    with pytest.raises(UnknownMetric, match="costs per row are of one class"):
        fit(two, metric="row_cost[yes]", constraints=["row_cost[no] <= 3"])


def two_halves(cache: FeatureCache) -> FeatureCache:
    """The same rows twice: other rows than those, by their digest."""
    columns = {name: np.tile(getattr(cache, name), 2) for name in ("labels", "cost_fp", "cost_fn")}
    return feature_cache(logits=np.tile(cache.logits, (2, 1)), classes=list(cache.classes), **columns)
