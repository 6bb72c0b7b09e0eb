"""Intervals equal the field's own, and draws of counts spread as they should."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from calibrate.ascent import Sample
from calibrate.counts import confusion_matrix
from calibrate.draws import corners
from calibrate.evidence import held_out
from calibrate.naming import parse_metric, standard_metrics
from calibrate.operating_point import OperatingPoint
from calibrate.uncertainty import Table, clopper_pearson, measure

G_MEAN = parse_metric("g_mean", ["a", "b"])


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 31), (151, 3163)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_clopper_pearson_equals_scipys(successes: int, trials: int, confidence: float) -> None:
    """At the ends and between."""
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert np.allclose(clopper_pearson(successes, trials, confidence), (theirs.low, theirs.high))


def test_without_trials_there_is_no_interval() -> None:
    """Undefined, not [0, 1]."""
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_draws_spread_as_resampled_rows_do() -> None:
    """F1 spreads as that of rows drawn with replacement, one by one, with as many positives as come."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [4000, 600])
    decided = (rng.random(4600) < np.where(labels == 1, 0.7, 0.05)).astype(int)
    metric = parse_metric("f1", ["a", "b"])
    ours = [metric.value(counts) for counts in Table(confusion_matrix(labels, decided, 2)).draw(4000, rng)]
    theirs = []
    for _ in range(2000):
        rows = rng.integers(0, 4600, 4600)
        tp = (labels[rows] * decided[rows]).sum()
        theirs.append(2 * tp / (labels[rows].sum() + decided[rows].sum()))
    for q in (0.025, 0.25, 0.5, 0.75, 0.975):
        for place in ours:
            assert np.isclose(np.quantile(place, q), np.quantile(theirs, q), atol=0.005)


def test_the_doubt_of_two_classes_gives_the_bounds_of_clopper_and_pearson() -> None:
    """Recall of 35 in 38, from the least and the most favourable place; specificity from the others."""
    table = Table(np.array([[700.0, 20], [3, 35]]))
    drawn = table.draw(40_000, np.random.default_rng(2))
    for label, (hits, rows) in enumerate([(700, 720), (35, 38)]):
        shares = [counts.hits[:, label] / counts.actual[:, label] for counts in drawn]
        low, high = clopper_pearson(hits, rows)
        assert min(np.quantile(each, 0.025) for each in shares) == pytest.approx(low, abs=3e-3)
        assert max(np.quantile(each, 0.975) for each in shares) == pytest.approx(high, abs=3e-3)


def test_where_nothing_was_missed_a_miss_is_drawn() -> None:
    """Recall of 38 in 38: the lower bound is that of one more row, missed."""
    found = measure(Table(np.array([[700.0, 20], [0, 38]])), [G_MEAN], "held_out", np.random.default_rng(0))["g_mean"]
    assert found.low == pytest.approx(np.sqrt(beta.ppf(0.025, 38, 1) * 700 / 720), abs=0.01)
    assert found.high > found.value


@pytest.mark.parametrize("k", [2, 3, 40])
@pytest.mark.parametrize("known_prevalence", [False, True])
def test_draws_keep_all_rows_and_at_a_prevalence_those_of_each_class(k: int, known_prevalence: bool) -> None:
    """Hits are part of what is predicted, all rows are decided, and the mean of draws is what was seen, but for the
    doubt.
    """
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 50, (k, k)) * (rng.random((k, k)) < 0.5)
    matrix[0, 0] = 0
    matrix[-1] = matrix[-1] + 3 if k == 2 else 0
    rows = matrix.sum(axis=1)
    assert rows.sum() > 0
    doubt = 2 / k
    for counts, right in zip(
        Table(matrix.astype(float), known_prevalence=known_prevalence).draw(3000, rng), corners(k), strict=True
    ):
        assert np.allclose(counts.actual.sum(axis=1), rows.sum())
        if known_prevalence:
            assert np.allclose(counts.actual, rows)
        assert np.allclose(counts.predicted.sum(axis=1), rows.sum())
        assert (counts.hits <= counts.predicted + 1e-9).all()
        expected = np.array([(matrix[c, c] + doubt * right[c]) * rows[c] / (rows[c] + doubt) for c in range(k)])
        assert np.allclose(counts.hits.mean(axis=0), expected, atol=0.8)


def test_a_class_among_many_is_drawn_against_the_rest() -> None:
    """The interval of its F1 is that of the two-class table, and does not depend on the other metrics asked for."""
    matrix = np.array([[90.0, 5, 5], [4, 30, 6], [1, 2, 17]])
    names = ["a", "b", "c"]
    pair = Table(np.array([[matrix[:2, :2].sum(), 11], [3, 17]]))
    metric = parse_metric("f1[c]", names)
    alone = measure(Table(matrix), [metric], "held_out", np.random.default_rng(0))[metric.name]
    among = measure(Table(matrix), [*standard_metrics(names), metric], "held_out", np.random.default_rng(0))
    two = measure(pair, [parse_metric("f1", ["rest", "c"])], "held_out", np.random.default_rng(0))["f1"]
    assert alone == among[metric.name]
    assert (alone.low, alone.high) == pytest.approx((two.low, two.high), abs=0.02)


def test_the_worst_class_has_bounds_that_hold_whichever_it_is() -> None:
    """Twenty classes of equal recall: the worst measured one is far below, the interval still holds the truth."""
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(20)]
    metric = parse_metric("recall_worst", names)
    held, draws = 0, 200
    for _ in range(draws):
        hits = rng.binomial(30, 0.8, 20)
        matrix = np.diag(hits).astype(float)
        matrix[np.arange(20), (np.arange(20) + 1) % 20] = 30 - hits
        found = measure(Table(matrix), [metric], "held_out", rng)["recall_worst"]
        held += found.low <= 0.8 <= found.high
    assert held >= draws * 0.95 - 2 * np.sqrt(draws * 0.95 * 0.05)


def test_each_interval_rests_on_its_own_rows() -> None:
    """Recall on the positives, precision on the alerts, F1 on all rows; undefined is null."""
    matrix = np.array([[90.0, 0], [10, 0]])
    found = measure(Table(matrix), standard_metrics(["a", "b"]), "held_out", np.random.default_rng(0))
    assert found["recall"].rows == 10
    assert (found["recall"].value, found["recall"].low) == (0, 0)
    assert found["precision"].rows == 0
    assert found["precision"].to_dict() == {
        "value": None, "low": None, "high": None, "confidence": 0.95, "rows": 0, "kind": "held_out",
    }  # fmt: skip
    assert found["mcc"].to_dict()["low"] is None
    assert found["accuracy"].rows == found["f1"].rows == 100
    assert found["accuracy"].low < 0.9 < found["accuracy"].high


def test_weights_that_have_nothing_to_do_with_the_class_leave_a_share_binomial() -> None:
    """Every row counting a tenth changes no interval, and uneven weights give Kish's number of rows."""
    rng = np.random.default_rng(0)
    labels = (rng.random(600) < 0.1).astype(np.int64)
    margins = rng.normal(labels * 2.0)
    logits = np.stack([np.zeros(600), margins], axis=1)
    point = OperatingPoint(("no", "yes"), np.ones(2), np.array([0.0, -1.0]))
    metrics = standard_metrics(point.classes)
    plain = held_out(point, Sample(logits, labels), metrics).point
    tenth = held_out(point, Sample(logits, labels, np.full(600, 0.1)), metrics).point
    uneven = held_out(point, Sample(logits, labels, rng.uniform(0.8, 1.2, 600)), metrics).point
    for name in ("accuracy", "precision", "recall", "alert_rate"):
        assert (tenth[name].low, tenth[name].high) == pytest.approx((plain[name].low, plain[name].high)), name
        wide = uneven[name].high - uneven[name].low
        assert wide == pytest.approx(plain[name].high - plain[name].low, rel=0.15), name
