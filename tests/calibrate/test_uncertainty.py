"""Intervals equal the field's own, and the bootstrap of counts equals that of rows."""

import numpy as np
import pytest
from scipy.stats import binomtest

from calibrate.counts import confusion_matrix
from calibrate.metrics import parse_metric, standard_metrics
from calibrate.uncertainty import bootstrap_counts, clopper_pearson, measure


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 31), (151, 3163)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_clopper_pearson_equals_scipys(successes: int, trials: int, confidence: float) -> None:
    """At the ends and between."""
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert np.allclose(clopper_pearson(successes, trials, confidence), (theirs.low, theirs.high))


def test_without_trials_there_is_no_interval() -> None:
    """Undefined, not [0, 1]."""
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_resampling_the_confusion_matrix_is_resampling_rows_within_classes() -> None:
    """The same spread of F1 as drawing rows of each class with replacement, one by one."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 60])
    decided = (rng.random(460) < np.where(labels == 1, 0.7, 0.05)).astype(int)
    metric = parse_metric("f1", ["a", "b"])
    ours = metric.value(bootstrap_counts(confusion_matrix(labels, decided, 2), 4000, rng))
    theirs = []
    for _ in range(4000):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        tp = (labels[rows] * decided[rows]).sum()
        theirs.append(2 * tp / (labels[rows].sum() + decided[rows].sum()))
    for q in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.isclose(np.quantile(ours, q), np.quantile(theirs, q), atol=0.012)


def test_resampling_keeps_the_rows_of_each_class() -> None:
    """And never makes a decision that was not taken."""
    matrix = np.array([[50, 0, 3], [4, 9, 0], [0, 0, 0]])
    counts = bootstrap_counts(matrix, 100, np.random.default_rng(1))
    assert counts.actual.tolist() == [53, 13, 0]
    assert (counts.predicted.sum(axis=1) == 66).all()
    assert (counts.hits[:, 2] == 0).all()
    assert (counts.hits <= counts.predicted).all()


def test_each_interval_rests_on_its_own_rows() -> None:
    """Recall on the positives, precision on the alerts, F1 on all rows; undefined is null."""
    matrix = np.array([[90, 0], [10, 0]])
    found = measure(matrix, standard_metrics(["a", "b"]), "held_out", np.random.default_rng(0))
    assert found["recall"].rows == 10
    assert (found["recall"].value, found["recall"].low) == (0, 0)
    assert found["precision"].rows == 0
    assert found["precision"].to_dict() == {
        "value": None, "low": None, "high": None, "confidence": 0.95, "rows": 0, "kind": "held_out",
    }  # fmt: skip
    assert found["mcc"].to_dict()["low"] is None
    assert found["accuracy"].rows == found["f1"].rows == 100
    assert found["accuracy"].low < 0.9 < found["accuracy"].high
