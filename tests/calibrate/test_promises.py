"""What a certified constraint counts, against the plain definitions."""

import numpy as np
import pytest

from calibrate.objective import parse_constraint
from calibrate.promises import Promise, errors_at, safe_range, smoothed_counts, together

TWO, THREE = ["no", "yes"], ["a", "b", "c"]


def promise(text: str, classes: list[str] = TWO) -> Promise:
    """A promise at 95 %."""
    return Promise.of(parse_constraint(f"{text} @ 95%", classes), len(classes))


SHARES = ["recall >=", "fnr <=", "specificity >=", "fpr <=", "alert_rate <=", "precision >=", "npv >="]


def by_definition(metric: str, y: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Which rows are trials and which are errors of rows of the class `y` and decisions for it `d`; and which decision
    is the wrong one, where that is fixed.
    """
    return {
        "recall": (y, y & ~d, "left"),
        "fnr": (y, y & ~d, "left"),
        "specificity": (~y, ~y & d, "decided"),
        "fpr": (~y, ~y & d, "decided"),
        "alert_rate": (y | ~y, d, "decided"),
        "precision": (d, d & ~y, None),
        "npv": (~d, ~d & y, None),
    }[metric]


@pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("text", SHARES)
def test_trials_and_errors_are_those_of_the_definition(text: str, classes: list[str]) -> None:
    """For every class as the positive one; in rows and in groups."""
    rng = np.random.default_rng(0)
    labels, decided = rng.integers(0, len(classes), (2, 200))
    groups = rng.integers(0, 40, 200)
    metric, sign = text.split()
    for index, name in enumerate(classes):
        one = promise(f"{metric}[{name}] {sign} 0.9", classes)
        trials, errors, side = by_definition(metric, labels == index, decided == index)
        assert one.count(labels, decided, None) == (trials.sum(), errors.sum())
        assert one.count(labels, decided, groups) == (len(set(groups[trials])), len(set(groups[errors])))
        assert one.errs_when == side


def test_accuracy_is_of_all_classes_alike() -> None:
    """And so is the error rate; neither moves one way with the cut."""
    labels, decided = np.array([0, 1, 2, 2]), np.array([0, 2, 1, 2])
    assert promise("accuracy >= 0.5", THREE).count(labels, decided, None) == (4, 2)
    assert promise("error_rate <= 0.5", THREE).count(labels, decided, None) == (4, 2)
    assert promise("accuracy >= 0.5", THREE).errs_when is None


@pytest.mark.parametrize("toward", [0, 1])
@pytest.mark.parametrize(
    "text", ["recall >= 0.8", "recall[no] >= 0.8", "fpr <= 0.3", "alert_rate <= 0.9", "fnr <= 0.4"]
)
def test_the_safe_cuts_are_those_with_few_enough_errors(text: str, toward: int) -> None:
    """Every cut between two margins, ties included: inside the range iff at most the allowed number goes wrong."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 120)
    margins = np.round(rng.normal(labels * 2.0 - 1) * (1 if toward else -1), 1)
    one = promise(text)
    low, high, [(_, worst)] = safe_range([one], margins, labels, None, toward)
    allowed = one.allowed(worst.size)
    assert allowed >= 0
    for cut in (np.unique(margins)[1:] + np.unique(margins)[:-1]) / 2:
        decided = np.where(margins > cut, toward, 1 - toward)
        trials, errors = one.count(labels, decided, None)
        assert trials == worst.size
        assert errors == errors_at(one, worst, float(cut), toward)
        assert (low <= cut < high) == (errors <= allowed)


def test_promises_hold_together_by_their_risks() -> None:
    """The risks of order statistics add up; tests that stop at the first failure share theirs."""
    order = [promise("recall >= 0.9"), promise("fpr <= 0.1")]
    tests = [promise("precision >= 0.9"), promise("npv >= 0.9")]
    assert together(order, []) == 0.9
    assert together(order[:1], tests) == 0.9
    assert together([], tests) == 0.95
    average = Promise.of(parse_constraint("recall >= 0.9 @ average", TWO), 2)
    assert together([average], []) is None


def test_a_shortage_says_what_is_needed_there_and_certifiable() -> None:
    """31 positives for 0.95: 59 are needed, 0.907 can be had."""
    short = promise("recall >= 0.95").shortage(31, "rows of 'yes'")
    assert (short.needed, short.there, short.unit) == (59, 31, "rows of 'yes'")
    assert short.certifiable == short.value == pytest.approx(0.05 ** (1 / 31))
    assert promise("fpr <= 0.05").shortage(31, "rows").certifiable == pytest.approx(1 - 0.05 ** (1 / 31))


def test_smoothed_counts_add_up_and_follow_the_rows() -> None:
    """From everything decided positive to nothing; near the plain counts where there are many rows."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 4000)
    margins = rng.normal(labels.astype(np.float64))
    counts = smoothed_counts(margins, labels, np.array([-20.0, 0.5, 20.0]))
    assert counts.predicted[[0, 2], 1].tolist() == pytest.approx([4000, 0])
    assert counts.hits[1, 1] == pytest.approx((margins[labels == 1] > 0.5).sum(), rel=0.03)
