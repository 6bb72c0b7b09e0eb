"""Bias adjustment under certified constraints: the best point among those whose promises are kept.

Shares that move one way with the cut leave a range of cuts, exact for any model, from the order statistics of their
trials. The range is safe as a whole, so the sweep may choose freely within it, on the same rows: the promise stands.
Where no row lies beyond the bound, the cut lies at the bound (`Cut.at_bound`).

Precision and the like are tested. A fifth of the rows says where to look: its cuts are the candidates, and its margins,
smoothed, say where the test is most likely to pass. From there the candidates are walked towards more trials, each
tested on the other rows by an exact binomial test, to the first failure. What passed is safe all at once (Learn then
Test with a fixed sequence), so among those the objective chooses, on all rows. Measured: a fifth and this start pass
more often than halves, than the order of the p-values of the fifth, or than several starts that share the risk.

With more than two classes the free biases are fitted on two fifths of the rows, the constraints measured there. Where
all promises are of one class that moves one way, the order statistics of the other rows say how far its bias may go,
given the others'. Else the fit is repeated with tighter and tighter bounds, and the points are tested on the other rows
in the order in which they are likely to pass.

Sources: Angelopoulos et al., "Learn then Test" (2021), section 3; `calibrate.certify` for the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.ascent import Board, Sample, coordinate_ascent, sweep_class
from calibrate.certify import Unit
from calibrate.counts import Counts, stacked
from calibrate.errors import BadConstraint, Infeasible, Nearest
from calibrate.folds import stratified_folds
from calibrate.logits import binary_margins
from calibrate.methods.task import Fitted, Task, binary_rows, check_counts, point_at, turned
from calibrate.objective import Objective
from calibrate.operating_point import OperatingPoint
from calibrate.promises import Promise, errors_at, safe_range, smoothed_counts, together
from calibrate.sweep import Tally, best_cut, tabulate

_PARTS = 5
_MOST_CUTS = 100
_SURE = 1e-12  # of what the p-value may be: a fifth of the rows may be far off, but not so far
_TIGHTER = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 1.0)  # of the errors that a bound allows

Worst = list[tuple[Promise, Float[np.ndarray, "_units"]]]


def fit_certified(task: Task) -> Fitted:
    """The best bias among those that keep every promise, and the measured constraints on these rows.

    Raises: `BadConstraint` for what cannot be certified, `Infeasible`, `UndefinedMetric`.
    """
    if task.weights is not None and not _weighted_alike(task):
        raise BadConstraint(
            f"'{task.objective.certified[0].text}' cannot be certified on rows of different weight: their numbers are "
            "not those of a binomial; leave out sample_weight, or a prevalence, or the confidence"
        )
    promises = [Promise.of(constraint, len(task.classes)) for constraint in task.objective.certified]
    ordered = [each for each in promises if each.errs_when is not None]
    tested = [each for each in promises if each.errs_when is None]
    if len(task.classes) > 2 and len({each.index for each in ordered}) + len(tested) > 1:
        ordered, tested = [], promises
    if average := [each for each in tested if each.constraint.confidence is None]:
        raise BadConstraint(
            f"'{average[0].constraint.text}': on average only recall, fnr, specificity, fpr and alert_rate can be "
            "certified, with more than two classes those of one class alone; give a confidence, as in @ 95%"
        )
    if len(task.classes) == 2:
        return _with_one_cut(task, ordered, tested)
    return _with_one_class(task, ordered) if ordered else _with_tested_points(task, tested)


def _weighted_alike(task: Task) -> bool:
    """Whether the rows that a promise counts have one weight; within each class, where every promise is about rates
    within a class: those survive a change of prevalence.
    """
    if task.weights is None or np.ptp(task.weights) == 0:
        return True
    if not all(constraint.metric.survives for constraint in task.objective.certified):
        return False
    return all(np.ptp(task.weights[task.labels == label]) == 0 for label in range(len(task.classes)))


def _unit(task: Task) -> Unit:
    return "rows" if task.groups is None else "groups"


def _with_one_cut(task: Task, ordered: list[Promise], tested: list[Promise]) -> Fitted:
    margins = binary_margins(task.logits)
    low, high, worst = safe_range(ordered, margins, task.labels, task.groups, 1)
    _check_range(task, low, high, worst, 1)
    positive = task.objective.measured.positive
    if tested:
        found = _tested_cuts(task, margins, tested)
        safe = [cut for cut in found.cuts if low <= cut < high]
        if not safe:
            raise _apart(task, found.promises, worst, low, high)
        at, gap = _best_of(task, margins, np.array(sorted(safe)))
    else:
        # The sweep's short list has the margins of positives, so another class's must not be what bounds it from above.
        sides = np.array([1 - positive, positive])
        short = all(each.trials_among(sides).tolist() == [False, True] for each in ordered if _falls(each, positive))
        tally = tabulate(binary_rows(task), not (short and task.objective.measured.monotone))
        try:
            cut = best_cut(tally, task.objective.measured, (low, high) if positive == 1 else (-high, -low))
        except Infeasible as error:
            raise turned(error, positive) from None
        cut = cut if positive == 1 else cut.mirrored()
        at, gap = cut.at_bound(low, high), cut.gap
    point = point_at(at, task.classes)
    decided = point.decide(task.logits)
    shared = together(ordered, tested)
    unit = _unit(task)
    guarantees = [
        each.guarantee("order statistic", unit, trials.size, errors_at(each, trials, at, 1), shared)
        for each, trials in worst
    ]
    notes: tuple[str, ...] = ()
    if tested:
        rows = found.rows
        groups = None if task.groups is None else task.groups[rows]
        for each in tested:
            seen = each.count(task.labels[rows], decided[rows], groups)
            guarantees.append(each.guarantee("learn then test", unit, *seen, shared))
        notes = (f"learn then test: {len(found.cuts)} cuts of {found.tried} passed on {rows.size} rows",)
    return Fitted(point, {"cut": at, "gap": gap}, notes, guarantees=tuple(guarantees))


def _check_range(task: Task, low: float, high: float, worst: Worst, toward: int) -> None:
    """Raises `Infeasible` where units are too few, or where no cut is left."""
    grouped = task.groups is not None
    few = [(each, trials) for each, trials in worst if each.allowed(trials.size) < 0]
    if few:
        nearest = tuple(each.shortage(trials.size, each.what(task.classes, grouped)) for each, trials in few)
        raise Infeasible("; ".join(map(_said, nearest)), nearest)
    if low < high:
        return
    nearest = tuple(
        each.shortage(
            trials.size,
            each.what(task.classes, grouped),
            errors=errors_at(each, trials, low if _falls(each, toward) else np.nextafter(high, -np.inf), toward),
            alone=False,
        )
        for each, trials in worst
    )
    said = "; ".join(f"'{each.constraint}' comes to {each.value:.6g} while the others are kept" for each in nearest)
    raise Infeasible(f"no cut keeps every promise: {said}", nearest)


def _falls(promise: Promise, toward: int) -> bool:
    """Whether its errors are below the cut, so that others push the cut up against it."""
    return (promise.errs_when == "left") == (promise.index == toward)


def _said(nearest: Nearest) -> str:
    needs = "no number of rows" if nearest.needed is None else f"{nearest.needed} {nearest.unit}"
    return (
        f"'{nearest.constraint}' needs {needs} or more, there are {nearest.there}: "
        f"{nearest.certifiable:.6g} can be certified now"
    )


@dataclass(frozen=True)
class _Tested:
    """The cuts that passed, how many were there to try, on which rows, and how near each promise came."""

    cuts: list[float]
    tried: int
    rows: Int[np.ndarray, "m"]
    promises: tuple[Nearest, ...]


def _split(task: Task, share: int) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "l"]]:
    """`share` fifths of the rows to look at, and the others to certify on; the same every time."""
    parts = stratified_folds(task.labels, _PARTS, np.random.default_rng(0), task.groups)
    return np.flatnonzero(parts < share), np.flatnonzero(parts >= share)


def _tested_cuts(task: Task, margins: Float[np.ndarray, "n"], promises: list[Promise]) -> _Tested:
    """The cuts on `z1 - z0` that keep every promise by a test that fails no promise more often than it says."""
    looked, kept = _split(task, 1)
    cuts = candidate_cuts(margins[looked])
    scale = _units(task, kept) / looked.size
    counts = smoothed_counts(margins[looked], task.labels[looked], cuts)
    order = walk_order(promises, counts, scale)
    groups = None if task.groups is None else task.groups[kept]
    margins, labels = margins[kept].astype(np.float64), task.labels[kept]
    seen = ([each.count(labels, (margins > cuts[i]).astype(np.intp), groups) for each in promises] for i in order)
    passed, first = first_to_fail(promises, seen)
    nearest = _tests_nearest(task, promises, first)
    if not passed:
        raise _no_pass(nearest, len(order))
    return _Tested([float(cuts[i]) for i in order[:passed]], len(order), kept, nearest)


def _units(task: Task, rows: Int[np.ndarray, "m"]) -> int:
    return rows.size if task.groups is None else int(np.unique(task.groups[rows]).size)


def candidate_cuts(margins: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "m"]:
    """Cuts midway between some rows' margins, ascending: about a hundred, closer together towards both ends."""
    distinct = np.unique(margins.astype(np.float64))
    if distinct.size < 2:
        return distinct - 1.0
    middles = distinct[:-1] + np.diff(distinct) / 2
    if middles.size <= _MOST_CUTS:
        return middles
    ranks = np.geomspace(1, middles.size, _MOST_CUTS // 3).astype(np.intp) - 1
    evenly = np.linspace(0, middles.size - 1, _MOST_CUTS // 3).astype(np.intp)
    return np.asarray(middles[np.unique([*ranks, *evenly, *(middles.size - 1 - ranks)])])


def walk_order(promises: list[Promise], counts: Counts, scale: float) -> Int[np.ndarray, "m"]:
    """In which order to test cuts (ascending): from the one most likely to pass, or that of fewest trials among those
    that are all but sure to, towards more trials; by how likely each is, where there is no such direction.
    """
    expected = np.max([each.expected_p(counts, scale) / each.delta for each in promises], axis=0)
    if len(promises) == 1 and promises[0].constraint.metric.rate is not None:
        trials = promises[0].constraint.metric.rate.trials(counts)
        sure = np.flatnonzero(expected <= max(_SURE, float(expected.min())))
        if trials[0] > trials[-1]:
            return np.arange(sure[-1], -1, -1)
        if trials[0] < trials[-1]:
            return np.arange(sure[0], expected.size)
    return np.argsort(expected, kind="stable")


def first_to_fail(
    promises: Sequence[Promise], seen: Iterator[list[tuple[int, int]]]
) -> tuple[int, list[tuple[int, int]]]:
    """How many candidates pass in a row, from the first on, and the trials and errors of the first."""
    passed = 0
    first: list[tuple[int, int]] = []
    for counts in seen:
        first = first or counts
        if not all(each.passes(*count) for each, count in zip(promises, counts, strict=True)):
            break
        passed += 1
    return passed, first


def _tests_nearest(task: Task, promises: Sequence[Promise], first: list[tuple[int, int]]) -> tuple[Nearest, ...]:
    """What the first test in the sequence, which is the only one without a condition, could certify."""
    return tuple(
        each.shortage(trials, each.what(task.classes, task.groups is not None), errors=errors)
        for each, (trials, errors) in zip(promises, first, strict=True)
    )


def _no_pass(nearest: tuple[Nearest, ...], tried: int) -> Infeasible:
    said = "; ".join(
        f"'{each.constraint}' needs {each.needed} {each.unit} or more without an error, there are {each.there} where "
        f"it is most likely to hold: {each.certifiable:.6g} can be certified there"
        for each in nearest
    )
    return Infeasible(f"none of {tried} candidates passes the test on the rows that are kept for it: {said}", nearest)


def _apart(task: Task, tested: tuple[Nearest, ...], worst: Worst, low: float, high: float) -> Infeasible:
    """No cut that passed the tests lies in the range of the others."""
    others = tuple(
        each.shortage(trials.size, each.what(task.classes, task.groups is not None)) for each, trials in worst
    )
    nearest = tuple(replace(each, alone=True) for each in (*tested, *others))
    bounds = "; ".join(f"'{each.constraint}' on its own could be {each.value:.6g}" for each in nearest)
    return Infeasible(f"no cut from {low:.6g} to {high:.6g} passes every test: {bounds}", nearest)


def _best_of(task: Task, margins: Float[np.ndarray, "n"], cuts: Float64[np.ndarray, "m"]) -> tuple[float, float]:
    """The cut on which the objective is best, and how far apart the margins beside it are."""
    objective, rows = task.objective.measured, binary_rows(task)
    positive = objective.positive
    tally = Tally.at(np.nextafter(cuts, np.inf) if positive == 1 else -cuts[::-1], rows.amounts is not None)
    for chunk in rows.chunks():
        tally.add(chunk)
    counts = tally.counts(positive, 1)  # without the cut at which nothing is decided positive; from strict to loose
    score = objective.score(counts)
    index = score.best()
    if not score.at(index).feasible:
        check_counts(objective, _at(counts, index), "among the certified cuts")
    at = float((cuts[::-1] if positive == 1 else cuts)[index])
    margins = margins.astype(np.float64)
    above, below = margins[margins > at], margins[margins <= at]
    return at, float(above.min(initial=np.inf)) - float(below.max(initial=-np.inf))


def _at(counts: Counts, index: int) -> Counts:
    """One of many counts."""
    amounts = None if counts.amounts is None else _at(counts.amounts, index)
    cost = None if counts.cost is None else np.asarray(counts.cost[index])
    return Counts(counts.hits[index], counts.predicted[index], counts.actual, cost, amounts)


def _with_one_class(task: Task, ordered: list[Promise]) -> Fitted:
    index = ordered[0].class_index
    looked, kept = _split(task, 2)
    bias = _climbed(task.with_rows(looked).sample, task.objective, ())
    sample = task.sample
    board = Board(sample.columns, bias)
    others = np.where(board.first == index, board.runner, board.lead)
    margins = sample.columns[index] - others
    groups = None if task.groups is None else task.groups[kept]
    low, high, worst = safe_range(ordered, margins[kept], task.labels[kept], groups, index)
    _check_range(task, low, high, worst, index)
    objective = task.objective.measured
    cut, _ = sweep_class(sample, board, index, objective, within=(-high, -low))
    bias[index] = cut.at_bound(-high, -low, float(np.abs(sample.columns).max()))
    point = OperatingPoint(task.classes, np.ones(bias.size), bias)
    decided = point.decide(task.logits)
    check_counts(objective, sample.counts(decided), "among the certified biases")
    shared = together(ordered, [])
    guarantees = []
    for each in ordered:
        trials, errors = each.count(task.labels[kept], decided[kept], groups)
        if errors > each.allowed(trials):
            raise Infeasible(f"'{each.constraint.text}': the margins are too close to tell apart in float64")
        guarantees.append(each.guarantee("order statistic", _unit(task), trials, errors, shared))
    note = (
        f"the other classes' biases were fitted on {looked.size} rows, that of '{task.classes[index]}' certified on "
        f"{kept.size}"
    )
    return Fitted(point, {}, (note,), guarantees=tuple(guarantees))


def _with_tested_points(task: Task, promises: list[Promise]) -> Fitted:
    looked, kept = _split(task, 2)
    part, rest = task.with_rows(looked), task.with_rows(kept)
    biases: list[Float64[np.ndarray, "k"]] = []
    for share in _TIGHTER:
        biases.append(_climbed(part.sample, _tightened(task.objective, share), biases[-1:]))
    counts = stacked([part.sample.counts(part.sample.decide(bias)) for bias in biases])
    scale = _units(task, kept) / looked.size
    expected = np.max([each.expected_p(counts, scale) / each.delta for each in promises], axis=0)
    order = np.argsort(expected, kind="stable")
    points = [OperatingPoint(task.classes, np.ones(bias.size), bias) for bias in biases]
    seen = ([each.count(rest.labels, points[i].decide(rest.logits), rest.groups) for each in promises] for i in order)
    passed, first = first_to_fail(promises, seen)
    if not passed:
        raise _no_pass(_tests_nearest(task, promises, first), len(order))
    safe = [points[i] for i in order[:passed]]
    all_counts = stacked([task.sample.counts(point.decide(task.logits)) for point in safe])
    score = task.objective.measured.score(all_counts)
    best = score.best()
    if not score.at(best).feasible:
        check_counts(task.objective.measured, _at(all_counts, best), "among the certified points")
    decided = safe[best].decide(rest.logits)
    shared = together([], promises)
    guarantees = tuple(
        each.guarantee("learn then test", _unit(task), *each.count(rest.labels, decided, rest.groups), shared)
        for each in promises
    )
    note = f"learn then test: {passed} points of {len(points)}, fitted on {looked.size} rows, passed on {kept.size}"
    return Fitted(safe[best], {}, (note,), guarantees=guarantees)


def _climbed(
    sample: Sample, objective: Objective, starts: Sequence[Float64[np.ndarray, "k"]]
) -> Float64[np.ndarray, "k"]:
    """The biases of a climb with every constraint measured, or those nearest to meeting them."""
    prior = np.maximum(sample.actual, 1.0) / sample.actual.sum()
    return coordinate_ascent(sample, objective, [*starts, np.zeros(sample.k), -np.log(prior)]).bias.copy()


def _tightened(objective: Objective, share: float) -> Objective:
    """The objective with every constraint measured, the certified ones allowing only a share of their errors."""
    constraints = []
    for each in objective.constraints:
        bound = each.bound
        if each.kind != "measured":
            bound = 1 - (1 - bound) * share if each.at_least else bound * share
        constraints.append(replace(each, bound=bound, kind="measured", confidence=None))
    return replace(objective, constraints=tuple(constraints))
