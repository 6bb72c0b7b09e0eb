"""Cross-fitting over sorted margins gives the points of plain fits, and its binned rows the counts of all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.errors import Infeasible, UndefinedMetric
from calibrate.folds import stratified_folds
from calibrate.methods import METHODS, Task
from calibrate.methods.bias_adjustment import fit_bias_adjustment
from calibrate.methods.crossing import points_without, sorted_folds
from calibrate.objective import Objective, parse_objective
from calibrate.operating_point import OperatingPoint
from calibrate.paired import Paired
from calibrate.sorted_folds import SortedFolds

CLASSES = ("no", "yes")
METRICS = ["f1", "g_mean", "accuracy", "precision", "mcc", "recall", "alert_rate", "cost(fp=1,fn=5)"]
CONSTRAINTS = [None, "recall >= 0.5", "alert_rate <= 0.2", "precision <= 0.5"]
OBJECTIVES = [
    parse_objective(metric, constraint, CLASSES, positive)
    for metric in METRICS
    for constraint in CONSTRAINTS
    for positive in CLASSES
]


@st.composite
def drawn_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Objective]:
    """Logits of two classes with many ties or few, in either float type, with and without a first logit; labels and an
    objective, of either class.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(20, 200))
    labels = (rng.random(n) < draw(st.floats(0.05, 0.5))).astype(np.int64)
    labels[:10] = np.arange(10) % 2
    margins = rng.normal(labels * draw(st.floats(0, 3))) * draw(st.sampled_from([1.0, 1e-30, 1e30]))
    if draw(st.booleans()):
        margins = np.round(margins, 1)
    margins = margins.astype(draw(st.sampled_from([np.float32, np.float64])))
    logits = np.stack([np.zeros_like(margins), margins], axis=1)
    if draw(st.booleans()):
        logits += rng.normal(size=(n, 1)).astype(margins.dtype)
    return logits, labels, draw(st.sampled_from(OBJECTIVES))


def points(task: Task, folds: np.ndarray, sides: SortedFolds | None) -> list[OperatingPoint] | str:
    """The points of the folds, or what was raised instead."""
    try:
        return points_without(task, folds, fit_bias_adjustment, sides)
    except (Infeasible, UndefinedMetric) as error:
        return f"{type(error).__name__}: {error} {getattr(error, 'nearest', '')}"


@settings(max_examples=200, deadline=None)
@given(drawn_rows(), st.integers(2, 5))
def test_points_of_folds_are_those_of_plain_fits(rows: tuple[np.ndarray, np.ndarray, Objective], number: int) -> None:
    """The same cuts to the last bit, or the same error; and binned rows count as all rows under each pair of points."""
    logits, labels, objective = rows
    task = Task(logits, labels, CLASSES, objective, logits)
    folds = stratified_folds(task.labels, number, np.random.default_rng(0))
    sides = sorted_folds(task, folds, fit_bias_adjustment)
    assert sides is not None
    plain = points(task, folds, None)
    assert points(task, folds, sides) == plain
    if isinstance(plain, str):
        return
    every = [OperatingPoint.argmax(CLASSES), *plain]
    sample, its_folds = sides.binned([float(point.bias[0] - point.bias[1]) for point in every])
    assert sample.weights is not None
    assert np.array_equal(np.bincount(its_folds, sample.weights), np.bincount(folds))
    for first in every:
        for second in every:
            whole = Paired.of(first.decide(task.logits), second.decide(task.logits), task.sample)
            bins = Paired.of(first.decide(sample.logits), second.decide(sample.logits), sample)
            for name in ("label", "plain", "point", "weight"):
                assert np.array_equal(getattr(bins, name), getattr(whole, name))
            assert np.array_equal(bins.table("point").worth, whole.table("point").worth)


@pytest.mark.parametrize("cut", [0.1, -0.1, 1e300, -1e300, np.float64(np.float32(0.1)), 3e-46, -3e-46])
def test_cuts_that_float32_cannot_hold_part_the_rows_as_float64_does(cut: float) -> None:
    """Margins one step of float32 beside the cut, and cuts beyond its range."""
    beside = np.float32(np.clip(cut, -3e38, 3e38))
    margins = np.array([np.nextafter(beside, np.float32(-np.inf)), beside, np.nextafter(beside, np.float32(np.inf))])
    margins = np.tile(margins, 2)
    labels = np.repeat([0, 1], 3)
    sample, _ = SortedFolds.of(margins, labels, np.zeros(6, dtype=np.int64)).binned([cut])
    assert sample.weights is not None
    above = np.bincount(sample.labels, sample.weights * (sample.logits[:, 1] > cut), 2)
    assert above.tolist() == [float((margins[:3] > np.float64(cut)).sum())] * 2


def test_only_an_exact_cut_of_rows_that_count_once_is_swept_over_sorted_margins() -> None:
    """Not other methods or searches, not weighted rows, not rows in groups."""
    labels = np.arange(20) % 2
    logits = np.stack([np.zeros(20), np.arange(20.0)], axis=1)
    objective, folds = parse_objective("f1", None, CLASSES), np.arange(20) // 10
    weights, groups = np.full(20, 2.0), np.arange(20) // 2
    assert sorted_folds(Task(logits, labels, CLASSES, objective, logits), folds, fit_bias_adjustment) is not None
    for task in (
        Task(logits, labels, CLASSES, objective, logits, weights=weights),
        Task(logits, labels, CLASSES, objective, logits, groups=groups),
        Task(logits, labels, CLASSES, objective, logits, search="smoothed"),
    ):
        assert sorted_folds(task, folds, fit_bias_adjustment) is None
    plain = Task(logits, labels, CLASSES, objective, logits)
    assert sorted_folds(plain, folds, METHODS["argmax"].fit) is None
