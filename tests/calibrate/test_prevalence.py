"""Another prevalence, and what training did to the class frequencies: against closed forms and rows drawn anew."""

import json
from pathlib import Path

import numpy as np
import pytest

from calibrate import FeatureCache, feature_cache, fit
from calibrate.counts import Counts
from calibrate.errors import BadCache, BadCorrection, BadPrior, Infeasible, MissingPrior, UnknownClass
from calibrate.metrics import METRICS
from calibrate.naming import parse_metric
from calibrate.prevalence import at_prevalence, correction_of, read_prevalence

CLASSES = ("clear", "fraud")


def rows(n: int = 600, share: float = 0.3, seed: int = 0) -> FeatureCache:
    """Margins that are the true log-odds at a prior of a half."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(int)
    labels[:4] = 0, 0, 1, 1
    margins = rng.normal(size=n) * 1.5 + 2.25 * (labels - 0.5)  # log-odds of two normals, 1.5 apart
    return feature_cache(logits=margins, labels=labels, classes=CLASSES, prior=[0.5, 0.5])


def test_a_prevalence_is_a_number_a_list_or_a_mapping() -> None:
    """The number is the positive class's."""
    assert read_prevalence(0.02, CLASSES).tolist() == [0.98, 0.02]
    assert read_prevalence(0.02, CLASSES, "clear").tolist() == [0.02, 0.98]
    assert read_prevalence([0.9, 0.1], CLASSES).tolist() == [0.9, 0.1]
    assert read_prevalence({"fraud": 0.25, "clear": 0.75}, CLASSES).tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (1.0, BadPrior, "above 0 and below 1, got 1"),
        ([0.5, 0.6], BadPrior, "prevalence must sum to 1"),
        ([1.0, 0.0], BadPrior, "prevalence of class 'fraud' must be > 0"),
        ({"fraud": 0.5}, BadPrior, "prevalence of class 'clear' is missing"),
        ({"fraud": 0.5, "spam": 0.5}, UnknownClass, "prevalence is by class.*got 'spam'"),
    ],
)
def test_bad_prevalences_are_named(given: object, error: type[Exception], message: str) -> None:
    """With the class."""
    with pytest.raises(error, match=message):
        read_prevalence(given, CLASSES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negatives_kept": 0.0}, "negatives_kept of class 'clear' must be above 0 and at most 1, got 0"),
        ({"negatives_kept": [0.5]}, "negatives_kept: wanted 2 entries"),
        ({"class_weights": [1, -1]}, "class_weights of class 'fraud' must be > 0, got -1"),
        ({"class_weights": {"clear": 1}}, "class_weights of class 'fraud' is missing"),
    ],
)
def test_bad_corrections_are_named(given: dict[str, object], message: str) -> None:
    """With the class."""
    with pytest.raises(BadCorrection, match=message):
        correction_of(CLASSES, **given)  # type: ignore[arg-type]


def test_rows_weigh_as_the_prevalence_says() -> None:
    """Their weight in all is kept, and within a class the weights keep their proportions."""
    cache = rows()
    weighted = feature_cache(
        logits=cache.logits, labels=cache.labels, classes=CLASSES, sample_weight=np.arange(1.0, cache.rows + 1)
    )
    found = at_prevalence(weighted, np.array([0.95, 0.05])).sample_weight
    assert found is not None
    assert weighted.sample_weight is not None
    assert found[cache.labels == 1].sum() / found.sum() == pytest.approx(0.05)
    assert found.sum() == pytest.approx(weighted.sample_weight.sum())
    for label in (0, 1):
        assert np.ptp((found / weighted.sample_weight)[cache.labels == label]) < 1e-12


def test_the_fit_is_that_of_rows_repeated_to_the_prevalence() -> None:
    """Every negative nine times: the same cut and values, and intervals that no repetition narrows."""
    cache = rows(300, 0.5)
    share = float(cache.labels.mean())
    times = np.where(cache.labels == 1, 1, 9)
    elsewhere = share / (share + 9 * (1 - share))
    repeated = feature_cache(
        logits=np.repeat(cache.logits, times, axis=0), labels=np.repeat(cache.labels, times), classes=CLASSES
    )
    for metric in ("f1", "precision", "accuracy"):
        one = fit(cache, metric=metric, search="exact", evidence=False, prevalence=elsewhere)
        other = fit(repeated, metric=metric, search="exact", evidence=False)
        assert np.array_equal(one.point.decide(cache.logits), other.point.decide(cache.logits))
    held = fit(rows(), metric="f1", search="exact", evidence=cache, prevalence=elsewhere)
    again = fit(rows(), metric="f1", search="exact", evidence=repeated, prevalence=elsewhere)
    plain = fit(rows(), metric="f1", search="exact", evidence=cache)
    for name in held.evidence:
        assert held.evidence[name].value == pytest.approx(again.evidence[name].value)
    for side in ("value", "low", "high"):
        assert getattr(held.before["recall"], side) == pytest.approx(getattr(plain.before["recall"], side))
    assert held.evidence["precision"].high - held.evidence["precision"].low > (
        again.evidence["precision"].high - again.evidence["precision"].low
    )


def test_a_result_is_told_for_another_prevalence_without_the_rows() -> None:
    """As the same point measured on reweighted rows; what survives keeps its interval, to the last digit."""
    cache, test = rows(), rows(seed=1)
    result = fit(cache, metric="f1", evidence=test, constraints=["recall >= 0.5"])
    moved = result.at_prevalence({"clear": 0.99, "fraud": 0.01})
    shares = np.array([0.99, 0.01])
    weighted = at_prevalence(test, shares)
    decided = result.point.decide(test.logits)
    counts = Counts.of(test.labels, decided, 2, weights=weighted.sample_weight)
    for name, interval in moved.evidence.items():
        expected = float(parse_metric(name, CLASSES).value(counts))
        assert interval.value == pytest.approx(expected)
        assert interval.low <= interval.value <= interval.high
    assert set(result.survives) == {"recall", "specificity", "g_mean", "balanced_accuracy"}
    for name in result.survives:
        assert moved.evidence[name] is result.evidence[name]
    assert moved.point == result.point
    assert moved.evidence["precision"].value < result.evidence["precision"].value
    assert moved.prevalence is not None
    back = moved.at_prevalence(float(test.labels.mean()))
    assert back.evidence["precision"].value == pytest.approx(result.evidence["precision"].value)
    with pytest.raises(BadCache, match="there is no evidence to tell"):
        fit(cache, metric="f1", evidence=False).at_prevalence(0.1)


@pytest.mark.parametrize("k", [2, 3])
def test_metrics_that_survive_do_not_move_with_the_prevalence_and_the_others_do(k: int) -> None:
    """Each metric of the table, and its forms, on the same confusion at many prevalences."""
    rng = np.random.default_rng(0)
    rates = rng.dirichlet(np.ones(k), size=k)
    shares = rng.dirichlet(np.ones(k), size=50)
    classes = [f"c{i}" for i in range(k)]
    arguments = {"fbeta": "(2)", "net_benefit": "(0.2)", "relative_accuracy": "(0.9)", "cost": "(fp=1, fn=50)"}
    names = []
    for name, row in METRICS.items():
        if row.reads == "rows":
            written = name + arguments.get(name, "")
            names += [written if row.per_class is None else f"{written}[c1]"]
            if row.per_class is not None and not row.one_class and name not in arguments:
                names += [f"{name}_{form}" for form in ("macro", "micro", "weighted", "worst")]
    for metric in (parse_metric(name, classes) for name in names):
        values = metric.value(Counts.of_confusion(shares[:, :, np.newaxis] * rates))
        if metric.survives:
            assert np.ptp(values) < 1e-9, metric.name
        elif metric.name != "youden_weighted" or k > 2:  # of two classes it is the same of both
            assert np.ptp(values) > 1e-3, metric.name


def test_negatives_kept_and_class_weights_shift_the_logits() -> None:
    """Dal Pozzolo's p = beta p_s / (beta p_s - p_s + 1); weights (a0, a1) as z - log(a1 / a0)."""
    z, beta = np.linspace(-4, 4, 9), 0.1
    p_s = 1 / (1 + np.exp(-z))
    kept = correction_of(CLASSES, negatives_kept=beta)
    assert kept is not None
    assert 1 / (1 + np.exp(-(z + kept.bias[1]))) == pytest.approx(beta * p_s / (beta * p_s - p_s + 1))
    weighted = correction_of(CLASSES, class_weights={"clear": 1, "fraud": 20})
    assert weighted is not None
    assert weighted.bias.tolist() == pytest.approx([0, -np.log(20)])
    both = correction_of(("a", "b", "c"), negatives_kept=[0.5, 1, 0.1], class_weights=[1, 2, 4])
    assert both is not None
    assert both.bias - both.bias[1] == pytest.approx([np.log(2) + np.log(2), 0, np.log(10) - np.log(4) + np.log(2)])
    assert correction_of(CLASSES) is None
    moved = correction_of(CLASSES, prior=np.array([0.5, 0.5]), negatives_kept=0.1, prevalence=np.array([0.98, 0.02]))
    assert moved is not None
    assert moved.bias[1] == pytest.approx(np.log(0.02 / 0.98))  # whatever the sampling: the prior knows it already
    unmoved = correction_of(CLASSES, prior=np.array([0.5, 0.5]), negatives_kept=0.1)
    assert unmoved is not None
    assert unmoved.prior is not None
    assert unmoved.prior.tolist() == pytest.approx([10 / 11, 1 / 11])


def test_a_correction_is_part_of_the_point_and_moves_no_searched_cut() -> None:
    """Of the state and the tau either; minimum risk moves by it, prior thresholds by the weights only."""
    cache = rows()
    options = {"negatives_kept": 0.1, "class_weights": [1, 3], "prevalence": 0.1, "evidence": False}
    for metric in ("f1", "mcc"):
        with_it = fit(cache, metric=metric, search="exact", **options)  # type: ignore[arg-type]
        without = fit(cache, metric=metric, search="exact", prevalence=0.1, evidence=False)
        assert np.array_equal(with_it.point.decide(cache.logits), without.point.decide(cache.logits))
        assert with_it.parameters["cut"] == pytest.approx(without.parameters["cut"])
        assert with_it.point.bias[1] - with_it.point.bias[0] == pytest.approx(-with_it.parameters["cut"])
    cost = {"metric": "cost(fp=1, fn=9)", "method": "minimum_risk", "evidence": False}
    plain = fit(cache, **cost).point.bias[1]  # type: ignore[arg-type]
    assert plain == pytest.approx(np.log(9))
    assert fit(cache, negatives_kept=0.1, **cost).point.bias[1] == pytest.approx(plain + np.log(0.1))  # type: ignore[arg-type]
    moved = fit(cache, prevalence=0.02, **cost)  # type: ignore[arg-type]
    assert moved.point.bias[1] == pytest.approx(plain + np.log(0.02 / 0.98))
    thresholds = {"metric": "g_mean", "method": "prior_threshold", "evidence": False}
    for extra, expected in [
        ({"negatives_kept": 0.1}, 0),
        ({"prevalence": 0.02}, 0),
        ({"class_weights": [1, 3]}, -np.log(3)),
    ]:
        point = fit(cache, **thresholds, **extra).point  # type: ignore[arg-type]
        assert point.bias[1] - point.bias[0] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["minimum_risk", "plug_in"])
def test_what_rests_on_probabilities_needs_the_prior_at_another_prevalence(method: str) -> None:
    """And a search does not."""
    known = rows(120)
    cache = feature_cache(logits=known.logits, labels=known.labels, classes=CLASSES)
    with pytest.raises(MissingPrior, match="moving them to another prevalence needs the prior"):
        fit(cache, metric="cost(fp=1, fn=9)", method=method, prevalence=0.1, evidence=False)
    with pytest.raises(MissingPrior, match="moving them to another prevalence needs the prior"):
        fit(cache, metric="f1", search="expected", prevalence=0.1, evidence=False)
    fit(cache, metric="cost(fp=1, fn=9)", prevalence=0.1, evidence=False)


def test_the_expected_search_moves_with_the_correction() -> None:
    """Calibrated margins at the prevalence give the cut that calibrated margins of rows from there give."""
    cache = rows(4000, 0.5)
    there = fit(cache, metric="f1", search="expected", prevalence=0.05, evidence=False)
    moved = feature_cache(logits=cache.logits[:, 1] + np.log(0.05 / 0.95), labels=cache.labels, classes=CLASSES)
    same = fit(moved, metric="f1", search="expected", evidence=False, prevalence=0.05, prior=[0.95, 0.05])
    assert there.parameters["cut"] == pytest.approx(same.parameters["cut"] - np.log(0.05 / 0.95))
    exact = fit(cache, metric="f1", search="exact", prevalence=0.05, evidence=False)
    assert there.parameters["cut"] == pytest.approx(exact.parameters["cut"], abs=0.5)


def test_a_committee_is_told_on_the_models_own_margin() -> None:
    """Its members' cuts too."""
    result = fit(rows(200), metric="f1", search="committee", prevalence=0.1, evidence=False)
    members = [value for name, value in result.parameters.items() if name.startswith("cut[")]
    assert min(members) <= result.parameters["cut"] <= max(members)


def test_infeasible_tells_cuts_on_the_models_own_margin() -> None:
    """Not on the corrected one."""
    cache = rows(120)
    found = []
    for extra in ({}, {"negatives_kept": 0.01}):
        with pytest.raises(Infeasible) as caught:
            fit(cache, metric="f1", constraints=["recall >= 0.99", "fpr <= 0.001"], evidence=False, **extra)  # type: ignore[arg-type]
        found.append([each.cut for each in caught.value.nearest])
    assert found[0] == pytest.approx(found[1])


def test_a_promise_about_a_class_is_certified_at_any_prevalence_and_one_about_alerts_is_not() -> None:
    """The same cut, whatever the prevalence, for a metric that survives too."""
    cache = rows(400)
    options = {"metric": "specificity", "constraints": ["recall >= 0.8 @ 90%"], "evidence": False}
    one, other = fit(cache, **options), fit(cache, prevalence=0.01, **options)  # type: ignore[arg-type]
    assert np.array_equal(one.point.decide(cache.logits), other.point.decide(cache.logits))
    with pytest.raises(Exception, match="cannot be certified on rows of different weight"):
        fit(cache, metric="f1", constraints=["precision >= 0.3 @ 90%"], prevalence=0.01, evidence=False)


def test_the_written_result_says_what_it_is_told_for(tmp_path: Path) -> None:
    """Prevalence, what survives, the correction in words, and the gain."""
    result = fit(rows(200), metric="f1", prevalence=0.1, class_weights=[1, 3])
    result.save(tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["prevalence"] == [0.9, 0.1]
    assert "recall" in written["survives"]
    assert "precision" not in written["survives"]
    assert "weighted the classes: clear 1, fraud 3" in written["correction"]["words"][0]
    assert written["gain"]["f1"]["low"] <= written["gain"]["f1"]["value"] <= written["gain"]["f1"]["high"]


def test_a_calibration_map_works_on_the_corrected_logits_and_is_told_on_the_models_own() -> None:
    """The map that is recorded gives calibrated probabilities from plain logits, and the point contains both."""
    cache = rows(3000, 0.5)
    hot = feature_cache(
        logits=3 * cache.logits[:, 1] + np.log(9), labels=cache.labels, classes=CLASSES, prior=[0.5, 0.5]
    )
    options = {"metric": "cost(fp=1, fn=9)", "method": "minimum_risk", "evidence": False}
    result = fit(hot, calibration="platt", class_weights=[1, 9], **options)  # type: ignore[arg-type]
    assert result.calibration is not None
    kept = result.calibration.kept
    assert kept is not None
    margin = kept.apply(hot.logits.astype(np.float64))
    assert np.polyfit(cache.logits[:, 1], margin[:, 1] - margin[:, 0], 1) == pytest.approx([1, 0], abs=0.15)
    assert result.threshold == pytest.approx(0.1)
    decided = result.point.decide(hot.logits)
    assert np.array_equal(decided, kept.rest_of(result.point).decide(margin))


def test_a_correction_leaves_tied_rows_tied_whether_the_exact_search_is_asked_for_or_taken() -> None:
    """With over 1,000 rows of each class the default is the exact search, whose cut is that without the correction."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = (rng.random(4000) < 0.3).astype(np.int64)
        logits = np.round(rng.normal(size=(4000, 2)) + labels[:, np.newaxis] * [0.0, 1.5], 1)
        points = [
            fit(logits=logits, labels=labels, metric="f1", search=search, class_weights=weights, evidence=False).point
            for search in (None, "exact")
            for weights in (None, [1, 3])
        ]
        assert len({point.to_json() for point in points}) == 1
