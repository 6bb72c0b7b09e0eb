"""Intervals equal the field's own, and draws of counts spread as they should."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from calibrate.ascent import Sample
from calibrate.counts import confusion_matrix
from calibrate.evidence import held_out
from calibrate.naming import parse_metric, standard_metrics
from calibrate.operating_point import OperatingPoint
from calibrate.uncertainty import Table, clopper_pearson, measure


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
    """The same spread of F1 as drawing rows of each class with replacement, one by one, away from the ends."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 60])
    decided = (rng.random(460) < np.where(labels == 1, 0.7, 0.05)).astype(int)
    metric = parse_metric("f1", ["a", "b"])
    ours = metric.value(Table(confusion_matrix(labels, decided, 2)).draw(4000, rng))
    theirs = []
    for _ in range(4000):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        tp = (labels[rows] * decided[rows]).sum()
        theirs.append(2 * tp / (labels[rows].sum() + decided[rows].sum()))
    for q in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.isclose(np.quantile(ours, q), np.quantile(theirs, q), atol=0.02)


def test_two_classes_are_drawn_from_jeffreys_posterior() -> None:
    """Recall of 38 in 38: the quantiles of Beta(38.5, 0.5)."""
    counts = Table(np.array([[700.0, 20], [0, 38]])).draw(40_000, np.random.default_rng(2))
    recall = counts.hits[:, 1] / 38
    for q in (0.025, 0.5, 0.975):
        assert np.isclose(np.quantile(recall, q), beta.ppf(q, 38.5, 0.5), atol=2e-3)


@pytest.mark.parametrize("k", [2, 3, 40])
def test_draws_keep_the_rows_of_each_class(k: int) -> None:
    """Hits are part of what is predicted, all rows are decided, and their mean is what was seen, but for the prior."""
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 50, (k, k)) * (rng.random((k, k)) < 0.5)
    matrix[0, 0] = 0
    matrix[1] = 0
    counts = Table(matrix.astype(np.float64)).draw(3000, rng)
    rows = matrix.sum(axis=1)
    assert counts.actual.tolist() == rows.tolist()
    assert np.allclose(counts.predicted.sum(axis=1), rows.sum())
    assert (counts.hits <= counts.predicted + 1e-9).all()
    expected = np.array([(matrix[c, c] + 1 / k) * rows[c] / (rows[c] + 1) for c in range(k)])
    assert np.allclose(counts.hits.mean(axis=0), expected, atol=0.6)
    in_all = sum((matrix[c] + 1 / k) * rows[c] / (rows[c] + 1) for c in range(k))
    assert np.allclose(counts.predicted.mean(axis=0), in_all, atol=1.5)


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
