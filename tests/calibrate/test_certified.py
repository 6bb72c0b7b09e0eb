"""Fits under certified constraints: the best of what is safe, and clear words where nothing is."""

from typing import Any

import numpy as np
import pytest

from calibrate import CacheStream, Infeasible, InputError, feature_cache, fit, fit_stream
from calibrate.errors import BadConstraint, UnknownMethod
from tests.problems import draw
from tests.reference import binary_metric, cells

NAMES = ["clear", "fraud"]


def rows(n: int, positives: int, seed: int = 0, digits: int = 6) -> dict[str, Any]:
    """Margins of two normals, some of them tied, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n - positives, positives])
    return {"logits": np.round(rng.normal(2.0 * labels), digits), "labels": labels, "classes": NAMES}


@pytest.mark.parametrize("digits", [6, 1], ids=["few ties", "many ties"])
@pytest.mark.parametrize("positive", NAMES)
@pytest.mark.parametrize("metric", ["f1", "precision", "g_mean"])
@pytest.mark.parametrize(
    "constraints",
    [
        ["recall[fraud] >= 0.8 @ 95%"],
        ["fpr[fraud] <= 0.3 @ 90%"],
        ["recall[clear] >= 0.8 @ average", "recall[fraud] >= 0.7 @ 80%"],
        ["alert_rate[fraud] >= 0.25 @ 95%"],
        ["recall[fraud] >= 0.6 @ 95%", "specificity[fraud] >= 0.75"],
    ],
)
def test_the_cut_is_the_best_of_the_safe_ones(constraints: list[str], metric: str, positive: str, digits: int) -> None:
    """By brute force over every cut: those with no more errors than allowed, and the measured constraint met."""
    data = rows(150, 60, digits=digits)
    result = fit(**data, metric=metric, constraints=constraints, positive=positive, evidence=False)
    margins, labels, index = data["logits"], data["labels"], NAMES.index(positive)
    distinct = np.unique(margins)
    best = -np.inf
    for cut in [distinct[0] - 1, *((distinct[1:] + distinct[:-1]) / 2), distinct[-1] + 1]:
        _, fp, fn, tn = cells(labels, (margins > cut).astype(np.int64))
        errors = {"recall[fraud]": fn, "fpr[fraud]": fp, "recall[clear]": fp, "alert_rate[fraud]": fn + tn}
        safe = all(errors[each.metric] <= each.errors_allowed for each in result.guarantees)
        measured = tn / (tn + fp) >= 0.75 or "specificity[fraud] >= 0.75" not in constraints
        value = binary_metric(metric, *cells(labels, (margins > cut).astype(np.int64), index))
        best = max(best, value) if safe and measured and value == value else best
    decided = result.point.decide(margins)
    assert binary_metric(metric, *cells(labels, decided, index)) == pytest.approx(best)
    for each in result.guarantees:
        assert each.errors_seen <= each.errors_allowed
        assert each.rule == "order statistic"


def test_tested_constraints_rest_on_rows_that_were_kept_for_it() -> None:
    """Precision beside a recall: each has its own rule, both hold at once at 90 %; the evidence is cross-fitted."""
    result = fit(**rows(600, 200), metric="f1", constraints=["precision >= 0.7 @ 95%", "recall >= 0.6 @ 95%"])
    recall, precision = result.guarantees
    assert [each.rule for each in result.guarantees] == ["order statistic", "learn then test"]
    assert recall.rows == 200
    assert precision.rows < (result.point.decide(rows(600, 200)["logits"]) == 1).sum()
    assert recall.held_together == precision.held_together == 0.9
    assert precision.errors_seen <= precision.errors_allowed
    assert (precision.interval.low, precision.interval.kind) == (0.7, "certified")
    assert "learn then test" in result.notes[0]
    assert result.evidence["precision"].kind == "optimism_corrected"
    assert [each["constraint"] for each in result.to_dict()["guarantees"]] == [
        each.constraint for each in (recall, precision)
    ]


def test_too_few_positives_are_told_in_numbers() -> None:
    """59 are needed for 0.95, 31 are there, 0.907 can be certified now."""
    with pytest.raises(Infeasible, match=r"needs 59 rows of 'fraud' or more, there are 31: 0\.907886 can be") as caught:
        fit(**rows(200, 31), metric="precision", constraints="recall >= 0.95 @ 95%")
    (nearest,) = caught.value.nearest
    assert (nearest.needed, nearest.there, nearest.unit) == (59, 31, "rows of 'fraud'")
    assert nearest.certifiable == pytest.approx(0.05 ** (1 / 31))


def test_promises_that_exclude_each_other_say_how_near_they_come() -> None:
    """Also where the tests leave nothing, and where a measured constraint is the one that fails."""
    data = rows(600, 200)
    with pytest.raises(Infeasible, match="no cut keeps every promise") as caught:
        fit(**data, metric="f1", constraints=["recall >= 0.95 @ 95%", "fpr <= 0.01 @ 95%"])
    assert [each.alone for each in caught.value.nearest] == [False, False]
    assert all(each.certifiable is not None for each in caught.value.nearest)
    with pytest.raises(Infeasible, match="candidates passes the test") as caught:
        fit(**data, metric="f1", constraints="precision >= 0.999 @ 95%")
    assert caught.value.nearest[0].needed == 2995
    with pytest.raises(Infeasible, match="no certified cut meets every constraint"):
        fit(**data, metric="f1", constraints=["recall >= 0.95 @ 95%", "precision >= 0.95"])
    with pytest.raises(Infeasible, match="passes every test"):
        fit(**data, metric="f1", constraints=["recall >= 0.95 @ 95%", "precision >= 0.8 @ 95%"])


def test_evidence_takes_more_folds_where_the_promise_needs_nearly_all_rows() -> None:
    """60 positives for a bound that needs 59: in five folds 48 are left, in sixty 59."""
    result = fit(**rows(240, 60), metric="f1", constraints="recall >= 0.95 @ 95%")
    assert not result.warnings
    assert result.evidence["recall"].kind == "optimism_corrected"
    exactly = fit(**rows(240, 59), metric="f1", constraints="recall >= 0.95 @ 95%")
    assert {each.kind for each in exactly.evidence.values()} == {"simultaneous"}
    assert "without one part of the rows, 'recall >= 0.95 @ 95%' needs 59" in exactly.warnings[0]


def test_what_cannot_be_certified_is_refused() -> None:
    """Other methods and searches, rows of different weight, an average of what does not move one way, a stream."""
    data = rows(100, 40)
    recall: dict[str, Any] = {"metric": "f1", "constraints": "recall >= 0.8 @ 95%"}
    with pytest.raises(UnknownMethod, match="bias_adjustment, auto can"):
        fit(**data, **recall, method="logit_adjustment", prior=[0.5, 0.5])
    with pytest.raises(UnknownMethod, match="certified by an exact search"):
        fit(**data, **recall, search="decimal")
    weighted = feature_cache(**data, sample_weight=np.arange(100) + 1.0)
    with pytest.raises(BadConstraint, match="different weight"):
        fit(weighted, **recall)
    alike = feature_cache(**data, sample_weight=np.full(100, 2.0))
    assert fit(alike, **recall, evidence=False).guarantees[0].rows == 40
    with pytest.raises(BadConstraint, match="on average only recall"):
        fit(**data, metric="f1", constraints="precision >= 0.5 @ average")
    cache = feature_cache(**data)
    with pytest.raises(BadConstraint, match="a stream cannot certify"):
        fit_stream(CacheStream(cache.classes, None, 100, lambda: iter([cache])), **recall)


@pytest.mark.parametrize(
    ("constraints", "rule"),
    [
        (["recall[class c] >= 0.7 @ 90%"], "order statistic"),
        (["fpr[class c] <= 0.2 @ average", "recall[class c] >= 0.5 @ 90%"], "order statistic"),
        (["recall[class c] >= 0.5 @ 90%", "recall[class b] >= 0.6 @ 90%"], "learn then test"),
        (["precision[class b] >= 0.6 @ 90%"], "learn then test"),
        (["accuracy >= 0.6 @ 90%"], "learn then test"),
    ],
)
def test_classes_among_more_than_two(constraints: list[str], rule: str) -> None:
    """One class's promises by its bias, others by tests; never more errors than allowed, on rows that did not fit."""
    problem = draw((0.5, 0.3, 0.2), 400, 3, np.float64)
    data: dict[str, Any] = {"logits": problem.logits, "labels": problem.labels, "classes": problem.classes}
    result = fit(**data, metric="f1", constraints=constraints, evidence=False)
    assert [each.rule for each in result.guarantees] == [rule] * len(constraints)
    for each in result.guarantees:
        assert each.errors_seen <= each.errors_allowed
        assert each.rows < 400
    with pytest.raises(InputError):
        fit(**data, metric="f1", constraints="recall >= 0.7 @ 90%")
    with pytest.raises(Infeasible, match="there are"):
        fit(**data, metric="f1", constraints="recall[class c] >= 0.99 @ 95%")


def test_groups_count_as_one_trial_and_stay_on_one_side() -> None:
    """A group is lost with its worst positive; with each row its own group all is as without."""
    data = rows(300, 120)
    groups = np.concatenate([np.arange(180) // 3, 1000 + np.arange(120) // 4])
    grouped = fit(feature_cache(**data, group=groups), metric="f1", constraints="recall >= 0.8 @ 80%")
    (guarantee,) = grouped.guarantees
    assert (guarantee.unit, guarantee.rows) == ("groups", 30)
    missed = (grouped.point.decide(data["logits"]) == 0) & (data["labels"] == 1)
    assert guarantee.errors_seen == np.unique(groups[missed]).size <= guarantee.errors_allowed
    assert grouped.evidence["recall"].rows == 30
    alone = fit(feature_cache(**data, group=[f"row {i}" for i in range(300)]), metric="f1", evidence=False)
    assert alone.point == fit(**data, metric="f1", evidence=False).point
    tested = fit(feature_cache(**data, group=groups), metric="f1", constraints="precision >= 0.5 @ 80%", evidence=False)
    assert tested.guarantees[0].unit == "groups"


def test_what_another_prevalence_breaks_is_no_longer_promised() -> None:
    """A share of alerts changes with the prevalence, a share of the class does not."""
    rng = np.random.default_rng(3)
    labels = (rng.random(1500) < 0.3).astype(np.int64)
    logits = rng.normal(labels * 2.5)
    constraints = ["recall >= 0.6 @ 90%", "precision >= 0.5 @ 90%"]
    result = fit(logits=logits, labels=labels, metric="f1", constraints=constraints)
    there = result.at_prevalence(0.01)
    assert [each.constraint for each in there.guarantees] == ["recall >= 0.6 @ 90%"]
    assert any("no longer promised" in warning for warning in there.warnings)


def test_a_correction_of_the_training_leaves_ties_and_promises_as_they_are() -> None:
    """Logits with one decimal: what the point decides on its own rows is what was allowed."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = (rng.random(300) < 0.3).astype(np.int64)
        logits = np.round(rng.normal(size=(300, 2)) + labels[:, np.newaxis] * [0.0, 1.5], 1)
        options: dict[str, Any] = {"metric": "f1", "constraints": ["fpr <= 0.2 @ 80%"], "evidence": False}
        plain = fit(logits=logits, labels=labels, **options)
        corrected = fit(logits=logits, labels=labels, class_weights=[1, 3], **options)
        alarms = (corrected.point.decide(logits) == 1)[labels == 0].sum()
        assert alarms == corrected.guarantees[0].errors_seen <= corrected.guarantees[0].errors_allowed
        assert np.array_equal(corrected.point.decide(logits), plain.point.decide(logits))


def test_auto_makes_the_promise_that_bias_adjustment_makes() -> None:
    """With barely enough positives too: there is one method to take, and nothing to weigh it against."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 32])
    arrays: dict[str, Any] = {"logits": rng.normal(labels * 2.0), "labels": labels}
    one, other = (
        fit(**arrays, metric="precision", constraints="recall >= 0.9 @ 95%", method=method, evidence=False)
        for method in ("auto", "bias_adjustment")
    )
    assert (one.point, one.method) == (other.point, "bias_adjustment")
    assert any("cannot certify" in note for note in one.notes)


def test_an_alert_rate_of_few_rows_is_certified_just_above_the_highest() -> None:
    """29 rows, none of which may be alerted on: the promise holds from the highest margin on, so there lies the cut."""
    data = rows(29, 12)
    result = fit(**data, metric="recall", constraints="alert_rate <= 0.1 @ 95%", evidence=False)
    highest = data["logits"].max()
    assert highest < result.parameters["cut"] < highest + 1e-4
    assert result.guarantees[0].errors_allowed == 0
    mirrored = fit(**data, metric="recall[clear]", constraints="alert_rate[clear] <= 0.1 @ 95%", evidence=False)
    lowest = data["logits"].min()
    assert lowest - 1e-4 < mirrored.parameters["cut"] < lowest


def test_a_recall_is_certified_just_below_the_lowest_row_where_nothing_lies_below() -> None:
    """29 positives, none of which may be missed, and no negative under them."""
    margins, labels = np.arange(40.0), np.repeat([1, 0], [29, 11])
    result = fit(
        logits=margins, labels=labels, classes=NAMES, metric="recall", constraints="recall >= 0.9 @ 95%", evidence=False
    )
    assert -1e-4 < result.parameters["cut"] < 0


def test_three_classes_are_certified_next_to_the_bound() -> None:
    """As in two: the bias of the class goes as far as it may and no unit further."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 25)
    logits = rng.normal(size=(75, 3))
    logits[np.arange(75), labels] += 6
    options: dict[str, Any] = {"constraints": "alert_rate[a] <= 0.45 @ 80%", "evidence": False}
    result = fit(logits=logits, labels=labels, classes=["a", "b", "c"], metric="accuracy", **options)
    assert result.guarantees[0].errors_seen <= result.guarantees[0].errors_allowed
