"""Cuts that are in use today as points, and budgets of alerts that are kept."""

import inspect
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from calibrate import OperatingPoint, decide_top, fit, logits_from_probabilities
from calibrate.errors import BadPoint, InputError, WrongShape

RNG = np.random.default_rng(5)
CLASSES = ["clear", "fraud"]


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.1, 0.25, 0.3, 0.5, 0.9, 1 - 1e-9, 1.0])
def test_a_threshold_decides_as_it_did(threshold: float) -> None:
    """`p >= threshold`, ties included, of the probability of either class."""
    grid = np.concatenate([np.linspace(0.01, 0.99, 99), RNG.random(1000), np.full(5, min(max(threshold, 1e-12), 1.0))])
    logits = logits_from_probabilities(grid)
    point = OperatingPoint.from_threshold(threshold, CLASSES)
    sure = (grid == threshold) | (np.abs(grid - threshold) > 1e-14)  # a rounding step below it may go either way
    assert np.array_equal(point.decide(logits)[sure], (grid >= threshold).astype(int)[sure])
    other = OperatingPoint.from_threshold(threshold, CLASSES, positive="clear")
    first = 1 - grid
    clear_of_rounding = np.abs(first - threshold) > 1e-12
    assert np.array_equal(other.decide(logits)[clear_of_rounding], (first < threshold).astype(int)[clear_of_rounding])


@pytest.mark.parametrize("threshold", [-2.5, 0.0, 0.125, 3.0])
def test_a_threshold_on_margins(threshold: float) -> None:
    """Log-odds, ties included."""
    margins = np.concatenate([RNG.normal(size=500) * 3, np.full(3, threshold)])
    point = OperatingPoint.from_threshold(threshold, CLASSES, on="margin")
    assert np.array_equal(point.decide(margins), (margins >= threshold).astype(int))
    assert point.threshold == pytest.approx(expit(threshold))
    first = OperatingPoint.from_threshold(threshold, CLASSES, positive="clear", on="margin")
    assert np.array_equal(first.decide(margins) == 0, -margins >= threshold)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.5, "classes": CLASSES}, r"must lie in \[0, 1\], got 1.5; on='margin' takes log-odds"),
        ({"threshold": float("nan"), "classes": CLASSES}, "finite number, got 'nan'"),
        ({"threshold": 0.5, "classes": ["a", "b", "c"]}, "for two classes and one of them positive; got a, b, c"),
        ({"threshold": 0.5, "classes": CLASSES, "positive": "scam"}, "got clear, fraud and 'scam'"),
    ],
)
def test_thresholds_that_are_none(arguments: dict[str, Any], message: str) -> None:
    """Refused, quoting the value."""
    with pytest.raises(BadPoint, match=message):
        OperatingPoint.from_threshold(**arguments)


def test_a_budget_is_kept_in_every_batch() -> None:
    """Exactly k alerts, the highest k; the cut that was fitted under the same budget has them on average."""
    labels = (RNG.random(4000) < 0.05).astype(int)
    margins = RNG.normal(size=4000) + 2 * labels - 3
    budget = "alerts <= 50 per 1000"
    point = fit(margins=margins, labels=labels, classes=CLASSES, metric="recall", constraints=budget).point
    on_average = []
    for _ in range(50):
        rows = RNG.choice(4000, 1000)
        top = decide_top(point, margins[rows], 50)
        assert top.sum() == 50
        assert margins[rows][top == 1].min() >= margins[rows][top == 0].max()
        on_average.append(int(point.decide(margins[rows]).sum()))
    assert min(on_average) < 50 < max(on_average)
    assert abs(np.mean(on_average) - 50) < 5


def test_ties_few_rows_and_the_other_class() -> None:
    """Rows that come first are taken; a batch below its budget is all alerts."""
    point = OperatingPoint.argmax(CLASSES)
    assert decide_top(point, [1.0, 1.0, 1.0], 2).tolist() == [1, 1, 0]
    assert decide_top(point, [1.0, -1.0], 9).tolist() == [1, 1]
    assert decide_top(point, [1.0, -1.0], 0).tolist() == [0, 0]
    assert decide_top(point, [1.0, -1.0, 0.0], 1, positive="clear").tolist() == [1, 0, 1]
    for alerts in (-1, 1.5, True):
        with pytest.raises(InputError, match="alerts must be a whole number"):
            inspect.unwrap(decide_top)(point, [1.0], alerts)
    with pytest.raises(WrongShape, match="for two classes, the point has 3"):
        decide_top(OperatingPoint.argmax(["a", "b", "c"]), [[1.0, 2.0, 3.0]], 1)
