"""One-class sweeps equal brute force; the climb over them is never worse than its starts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.ascent import Board, Sample, coordinate_ascent, sweep_class
from calibrate.counts import Counts
from calibrate.objective import Objective, parse_objective
from calibrate.operating_point import OperatingPoint
from tests.problems import MULTICLASS, Problem, draw
from tests.reference import best_one_class, macro

METRICS = [
    "accuracy", "error_rate", "f1", "recall", "g_mean", "mcc", "kappa", "precision", "f1_weighted", "f1_micro",
    "recall_worst", "recall_tail", "fbeta(2)", "specificity", "youden_macro", "2*tp/(2*tp + fp + 3*fn)",
    "relative_accuracy(0.9)", "recall[class a]", "precision[class b]", "mean_cost", "row_cost[class b]",
]  # fmt: skip
COSTS = np.array([[0.0, 3.0, 9.0, 2.0, 1.0], [1.0, 0.0, 4.0, 2.0, 1.0], [2.0, 1.0, 0.0, 5.0, 1.0],
                  [1.0, 1.0, 2.0, 0.0, 7.0], [3.0, 2.0, 1.0, 1.0, 0.0]])  # fmt: skip


def sample_of(problem: Problem, weighted: bool = False) -> Sample:
    """The rows, with costs, amounts and, if asked, weights."""
    rng = np.random.default_rng(0)
    k, n = len(problem.prior), problem.labels.size
    weights = rng.integers(1, 4, n).astype(np.float64) if weighted else None
    return Sample(problem.logits, problem.labels, weights, rng.random(n), COSTS[:k, :k])


def objective_of(name: str, problem: Problem, constraints: tuple[str, ...] = ()) -> Objective:
    """The objective, with the costs of the sample."""
    k = len(problem.prior)
    return parse_objective(name, constraints, problem.classes, None, problem.prior, COSTS[:k, :k])


SMALL = [MULTICLASS[2], draw((0.5, 0.25, 0.15, 0.07, 0.03), 80, 4, np.float64)]


@pytest.mark.parametrize("problem", SMALL, ids=str)
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_one_class_sweep_equals_brute_force(problem: Problem, name: str, weighted: bool) -> None:
    """Over every bias of each class, ties included, from counts that are taken again for each."""
    k, sample, objective = len(problem.prior), sample_of(problem, weighted), objective_of(name, problem)
    scores = problem.logits.astype(np.float64)
    board = Board(sample.columns, np.zeros(k))

    def value_of(decided: np.ndarray) -> float:
        if name in ("f1", "recall", "precision") and not weighted:
            return macro(name, problem.labels, decided, k)
        return float(objective.metric.gain(sample.counts(decided)))

    for index in range(k):
        cut, score = sweep_class(sample, board, index, objective)
        assert math.isclose(score.gain, best_one_class(value_of, scores, index), rel_tol=1e-9, abs_tol=1e-12)
        moved = scores.copy()
        moved[:, index] += cut.at()
        assert math.isclose(score.gain, value_of(moved.argmax(axis=1)), rel_tol=1e-9, abs_tol=1e-12)


def test_a_one_class_sweep_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of cuts only bound the memory."""
    problem = MULTICLASS[1]
    sample, objective = sample_of(problem), objective_of("recall_worst", problem)
    board = Board(sample.columns, np.zeros(5))
    whole = [sweep_class(sample, board, index, objective)[0] for index in range(5)]
    monkeypatch.setattr("calibrate.ascent._CHUNK_CUTS", 7)
    assert whole == [sweep_class(sample, board, index, objective)[0] for index in range(5)]


@pytest.mark.parametrize("name", ["f1", "recall", "accuracy", "f1_weighted", "recall_tail"])
def test_a_sweep_near_the_bias_is_the_whole_sweep_of_fewer_cuts(name: str) -> None:
    """The same cut and score where the best cut lies near, never a better one; for classes of many rows and of few."""
    prior = np.array([0.4, 0.3, 0.15, 0.08, 0.04, 0.02, 0.01])
    problem = draw(tuple(prior), 3_000, 0)
    sample = Sample(problem.logits, problem.labels)
    objective = parse_objective(name, None, problem.classes, None, problem.prior)
    same = 0
    for bias in (np.zeros(prior.size), -np.log(prior) / 2, -np.log(prior), np.array([0, 0, 0, 9.0, 0, -9.0, 3.0])):
        board = Board(sample.columns, bias)
        counts = sample.counts(board.first)
        for index in range(prior.size):
            cut, score = sweep_class(sample, board, index, objective)
            near_cut, near_score = sweep_class(sample, board, index, objective, near=counts)
            assert near_score.gain <= score.gain + 1e-12
            if near_cut == cut:
                same += 1
                assert math.isclose(near_score.gain, score.gain, rel_tol=1e-12)
            if np.isfinite(near_score.gain):
                moved = bias.copy()
                moved[index] = near_cut.at()
                assert math.isclose(near_score.gain, sample.score(moved, objective).gain, rel_tol=1e-9)
    assert same >= prior.size


@pytest.mark.parametrize("name", ["f1", "recall_tail", "mcc"])
def test_a_large_climb_ends_where_no_whole_sweep_gains(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rounds near each bias do not end it; it reaches what a climb by whole sweeps reaches, to its least gain."""
    problem = draw((0.5, 0.25, 0.15, 0.07, 0.03), 2_000, 1)
    sample = Sample(problem.logits, problem.labels)
    objective = parse_objective(name, None, problem.classes, None, problem.prior)
    whole = coordinate_ascent(sample, objective, [np.zeros(5)])
    monkeypatch.setattr("calibrate.ascent.LARGE", 1000)
    large = coordinate_ascent(sample, objective, [np.zeros(5)])
    assert large.reason == "a round over all classes gained < 0.0001"
    assert large.score.key == sample.score(large.bias, objective).key
    assert large.score.gain >= whole.score.gain - 2e-3
    board = Board(sample.columns, large.bias)
    for index in range(5):
        assert sweep_class(sample, board, index, objective)[1].gain <= large.score.gain + 1e-4


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
def test_rows_are_decided_as_by_an_operating_point(problem: Problem) -> None:
    """To the row, for one bias and for several; equal scores go to the earlier class."""
    k, rng = len(problem.prior), np.random.default_rng(0)
    logits = np.concatenate([problem.logits, np.round(problem.logits)])
    sample = Sample(logits, np.tile(problem.labels, 2))
    biases = np.concatenate([np.zeros((1, k)), rng.normal(size=(3, k)), np.round(rng.normal(size=(3, k)))])
    for bias, decided in zip(biases, sample.decide_each(biases), strict=True):
        point = OperatingPoint(tuple(problem.classes), np.ones(k), bias)
        assert np.array_equal(decided, point.decide(logits))
        assert np.array_equal(sample.decide(bias), decided)
        assert np.array_equal(point.decided_rows(logits), np.bincount(decided, minlength=k))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 6), st.booleans())
def test_the_board_is_what_a_sort_of_every_row_gives(seed: int, k: int, ties: bool) -> None:
    """After any moves up and down: best and second class, with equals in the order of the classes."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(k, 40)) * 3
    if ties:
        columns = np.round(columns)
    board = Board(columns, np.zeros(k))
    for _ in range(12):
        index, bias = int(rng.integers(k)), float(rng.integers(-6, 7)) / (1 if ties else 3)
        board.move(index, bias)
        scores = columns + board.bias[:, np.newaxis]
        order = np.argsort(-scores, axis=0, kind="stable")
        assert np.array_equal(board.first, order[0])
        assert np.array_equal(board.second, order[1])
        assert np.array_equal(board.lead, scores[order[0], range(40)])
        assert np.array_equal(board.runner, scores[order[1], range(40)])


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
@pytest.mark.parametrize("name", ["accuracy", "f1", "g_mean", "mcc", "recall_worst", "mean_cost"])
def test_coordinate_ascent_is_never_worse_than_a_start_and_no_sweep_improves_it(problem: Problem, name: str) -> None:
    """It ends where every one-class sweep agrees that nothing is to be gained, and says so."""
    sample, objective = sample_of(problem), objective_of(name, problem)
    starts = [np.zeros(len(problem.prior)), -np.log(problem.prior)]
    climb = coordinate_ascent(sample, objective, starts)
    assert climb.reason == "no class's bias gains"
    assert climb.score.key == sample.score(climb.bias, objective).key
    for start in starts:
        assert climb.score.key >= sample.score(start, objective).key
    board = Board(sample.columns, climb.bias)
    for index in range(len(problem.prior)):
        assert sweep_class(sample, board, index, objective)[1].gain <= climb.score.gain + 2e-9


def test_constraints_are_kept_while_the_metric_climbs() -> None:
    """From a start that breaks them; what is reached is counted again."""
    problem = MULTICLASS[0]
    objective = objective_of("accuracy", problem, ("recall[class c] >= 0.9", "precision[class a] >= 0.8"))
    sample = sample_of(problem)
    climb = coordinate_ascent(sample, objective, [np.zeros(3)])
    counts = sample.counts(sample.decide(climb.bias))
    assert climb.score.feasible
    assert counts.hits[2] / counts.actual[2] >= 0.9
    assert counts.hits[0] / counts.predicted[0] >= 0.8
    free = coordinate_ascent(sample, objective_of("accuracy", problem), [np.zeros(3)])
    assert free.score.gain >= climb.score.gain


@pytest.mark.parametrize("name", ["f1", "g_mean", "mcc"])
def test_permuting_the_classes_permutes_the_point(name: str) -> None:
    """Class by class in order of their rows, not of their place."""
    problem = draw((0.5, 0.25, 0.15, 0.1), 400, 9, np.float64)
    order = np.array([2, 0, 3, 1])
    turned = Problem("turned", problem.logits[:, order], np.argsort(order)[problem.labels], problem.prior)
    plain = coordinate_ascent(Sample(problem.logits, problem.labels), objective_of(name, problem), [np.zeros(4)])
    moved = coordinate_ascent(Sample(turned.logits, turned.labels), objective_of(name, problem), [np.zeros(4)])
    assert np.array_equal(moved.bias, plain.bias[order])


def test_counts_carry_weights_costs_and_amounts() -> None:
    """Each against a plain sum over the rows."""
    rng = np.random.default_rng(3)
    labels, decided = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    weights, amounts = rng.random(50), rng.random(50)
    counts = Counts.of(labels, decided, 3, weights=weights, amounts=amounts, cost_matrix=COSTS[:3, :3])
    assert counts.cost is not None
    assert counts.amounts is not None
    assert math.isclose(counts.cost, sum(w * COSTS[d, y] for w, d, y in zip(weights, decided, labels, strict=True)))
    assert math.isclose(counts.amounts.hits[1], amounts[(labels == 1) & (decided == 1)].sum())
    assert math.isclose(counts.predicted[2], weights[decided == 2].sum())
