"""Exact sweeps equal brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.counts import Counts
from calibrate.errors import UndefinedMetric
from calibrate.logits import binary_margins
from calibrate.metrics import parse_metric
from calibrate.search import Cut, bias_value, coordinate_ascent, sweep_class, sweep_cut
from tests.problems import BINARY, MULTICLASS, Problem
from tests.reference import BINARY_METRICS, best_by_brute_force, best_one_class, binary_metric, cells, macro

CLASSES = ["no", "yes"]


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Margins with many ties at any size, in either float type, and labels of one or both classes."""
    n = draw(st.integers(1, 25))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    few = st.integers(-3, 3).map(float)
    unit = draw(st.sampled_from([1e-38, 1e-3, 1.0, 1e30]))
    fine = st.floats(-1, 1, width=32)
    margins = draw(st.lists(draw(st.sampled_from([few, fine])), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[0], labels[-1] = 0, 1  # the last wins where there is one row: a class may be missing, not both
    return (np.array(margins) * unit).astype(dtype), np.array(labels)


def reached(name: str, margins: np.ndarray, labels: np.ndarray, positive: int) -> float:
    """What the swept cut reaches when it is used as a rule on float64 margins."""
    metric = parse_metric(name, CLASSES, CLASSES[positive])
    toward = margins if positive == 1 else -margins
    cut = sweep_cut(toward, labels == positive, metric).at()
    decided = np.where(toward.astype(np.float64) > cut, positive, 1 - positive)
    return binary_metric(name, *cells(labels, decided, positive))


@settings(max_examples=400, deadline=None)
@given(scored_rows(), st.sampled_from(BINARY_METRICS), st.sampled_from([0, 1]))
def test_the_best_cut_equals_brute_force_over_all_cuts(
    rows: tuple[np.ndarray, np.ndarray], name: str, positive: int
) -> None:
    """With ties, tiny and huge margins, a single class, either class positive; undefined only if every cut is."""
    margins, labels = rows
    if positive not in labels:
        positive = 1 - positive
    expected = best_by_brute_force(name, margins, labels, positive)
    if math.isnan(expected):
        with pytest.raises(UndefinedMetric, match=name.split("(")[0]):
            reached(name, margins, labels, positive)
    else:
        assert math.isclose(reached(name, margins, labels, positive), expected, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize("problem", BINARY, ids=str)
@pytest.mark.parametrize("name", BINARY_METRICS)
def test_the_best_cut_equals_brute_force_on_the_problems(problem: Problem, name: str) -> None:
    """One positive, all scores equal, huge and tiny margins, perfectly wrong scores among them."""
    logits = problem.logits if problem.logits.ndim == 2 else np.stack([problem.logits * 0, problem.logits], axis=1)
    margins = binary_margins(logits)
    expected = best_by_brute_force(name, margins, problem.labels, 1)
    if math.isnan(expected):
        assert (problem.name, name) == ("all scores equal", "mcc")
        return
    assert math.isclose(reached(name, margins, problem.labels, 1), expected, rel_tol=1e-12)


def test_ties_in_the_metric_go_to_fewer_alerts_and_the_cut_lies_midway() -> None:
    """Accuracy is 3/4 with no alert and with two; no alert wins. A cut between 1 and 3 is 2."""
    labels = np.array([1, 0, 0, 0])
    cut = sweep_cut(np.array([1.0, 2.0, 0.0, -1.0]), labels == 1, parse_metric("accuracy", CLASSES))
    assert (cut.lower, cut.upper) == (2.0, np.inf)
    cut = sweep_cut(np.array([3.0, 1.0, 0.0, -1.0]), labels == 1, parse_metric("f1", CLASSES))
    assert cut.at() == 2.0


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.floats(allow_nan=False, allow_infinity=False))
def test_a_cut_always_splits_its_neighbours(a: float, b: float) -> None:
    """lower <= t < upper for any two different numbers, also one step apart and across the whole range."""
    for lower, upper in ((a, b), (a, math.nextafter(a, math.inf)), (-math.inf, a), (a, math.inf)):
        cut = Cut(min(lower, upper), max(lower, upper))
        if cut.lower < cut.upper:
            assert cut.lower <= cut.at() < cut.upper
            assert math.isfinite(cut.at())
            mirrored = cut.mirrored()
            assert mirrored.lower <= mirrored.at() < mirrored.upper


def logits_of(problem: Problem) -> np.ndarray:
    """In float64."""
    return problem.logits.astype(np.float64)


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
@pytest.mark.parametrize("name", ["accuracy", "f1", "recall", "g_mean", "mcc", "precision"])
def test_a_one_class_sweep_equals_brute_force(problem: Problem, name: str) -> None:
    """Over every bias of each class, ties included."""
    k = len(problem.prior)
    metric = parse_metric(name, problem.classes)
    scores = logits_of(problem)
    for index in range(k):

        def value_of(decided: np.ndarray) -> float:
            if name in ("f1", "recall", "precision"):
                return macro(name, problem.labels, decided, k)
            return float(metric.value(Counts.of(problem.labels, decided, k)))

        cut, value = sweep_class(scores, problem.labels, index, metric)
        assert math.isclose(value, best_one_class(value_of, scores, index), rel_tol=1e-12)
        moved = scores.copy()
        moved[:, index] += cut.at()
        assert math.isclose(value, value_of(moved.argmax(axis=1)), rel_tol=1e-12)


def test_a_one_class_sweep_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of cuts only bound the memory."""
    problem = MULTICLASS[1]
    metric = parse_metric("f1", problem.classes)
    whole = [sweep_class(logits_of(problem), problem.labels, index, metric) for index in range(5)]
    monkeypatch.setattr("calibrate.search._CHUNK_CUTS", 7)
    assert whole == [sweep_class(logits_of(problem), problem.labels, index, metric) for index in range(5)]


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
@pytest.mark.parametrize("name", ["accuracy", "f1", "g_mean", "mcc"])
def test_coordinate_ascent_is_never_worse_than_a_start_and_no_sweep_improves_it(problem: Problem, name: str) -> None:
    """It ends where every one-class sweep agrees that nothing is to be gained."""
    metric = parse_metric(name, problem.classes)
    z, starts = logits_of(problem), [np.zeros(len(problem.prior)), -np.log(problem.prior)]
    bias = coordinate_ascent(problem.logits, problem.labels, metric, starts)
    value = bias_value(z, problem.labels, metric, bias)
    for start in starts:
        assert value >= bias_value(z, problem.labels, metric, start)
    for index in range(z.shape[1]):
        assert sweep_class(z + bias, problem.labels, index, metric)[1] <= value + 2e-9
