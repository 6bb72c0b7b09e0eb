"""More than two classes: exact sweeps of one class's bias, and the climb that goes round them.

Raising one class's bias moves each row to that class once, where it overtakes the row's best other class; so with the
others held, one class is swept exactly. Three things make a round over a thousand classes affordable: the best and the
second class of each row are kept, and only rows in which the moved class was one of them are looked at again; scores
are held class by class, so a class is one stretch of memory; and a metric that is a sum over classes (`Sums`) is
carried along from move to move, in which only two classes change.

A move is kept only if the objective gains when the decisions are counted again, so rounding cannot lie. The climb ends
when a round over all classes gains next to nothing, and says so. Classes are visited by their rows, rarest last, not by
their place, so that permuting the classes permutes the point.

Ties in the objective go to fewer rows decided as the swept class; the bias is then placed midway.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.counts import Counts, Values, cells_of, summable
from calibrate.metrics import Metric
from calibrate.objective import ROUNDING, Objective, Score
from calibrate.sweep import Cut

_CHUNK_CUTS = 65_536
_LEAST_GAIN = 1e-9
_LEAST_GAIN_LARGE = 1e-4
LARGE = 5_000_000  # logits in all: a climb this large stops when a round gains less than 1e-4
_MOST_ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows to climb on: logits (n, k) and labels (n,), with weights (n,) and amounts at stake (n,) where there are any
    (what missing a row of class `at_stake` costs, what a false alarm on any other), the cost matrix where the objective
    has one, and the group (n,) of each row where some belong together.
    """

    logits: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    weights: Float64[np.ndarray, "n"] | None = None
    amounts: Float64[np.ndarray, "n"] | None = None
    cost_matrix: Float64[np.ndarray, "k k"] | None = None
    at_stake: int = 1
    groups: Int[np.ndarray, "n"] | None = None

    def __post_init__(self) -> None:
        """Round weights and amounts, so that their sums are exact."""
        for name in ("weights", "amounts"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, summable(values))

    @property
    def k(self) -> int:
        """The number of classes."""
        return int(self.logits.shape[1])

    @cached_property
    def columns(self) -> Float64[np.ndarray, "k n"]:
        """The logits class by class, in float64."""
        return np.ascontiguousarray(self.logits.T, dtype=np.float64)

    @cached_property
    def actual(self) -> Float64[np.ndarray, "k"]:
        """The rows of each class, by weight."""
        return np.bincount(self.labels, self.weights, self.k).astype(np.float64)

    @cached_property
    def squares(self) -> Float64[np.ndarray, "k"] | None:
        """The sum of the squared weights of each class's rows, which tells how many rows they are worth (Kish's
        sum(w)^2 / sum(w^2)); None where there are neither weights nor groups.

        Rows of one class in one group count as if they were all the same.
        """
        if self.weights is None and self.groups is None:
            return None
        w = np.ones(self.labels.size) if self.weights is None else self.weights
        if self.groups is None:
            return np.bincount(self.labels, w**2, self.k).astype(np.float64)
        _, members = np.unique(self.groups * self.k + self.labels, return_inverse=True)
        together = np.bincount(members, w)
        of_class = np.zeros(together.size, dtype=np.intp)
        of_class[members] = self.labels
        return np.bincount(of_class, together**2, self.k)

    def counts(self, decided: Int[np.ndarray, "n"]) -> Counts:
        """The counts of these decisions."""
        return Counts.of(
            self.labels,
            decided,
            self.k,
            weights=self.weights,
            amounts=self.amounts,
            cost_matrix=self.cost_matrix,
        )

    def decide(self, bias: Float64[np.ndarray, "k"]) -> Int[np.ndarray, "n"]:
        """`argmax(z + bias)` for each row."""
        return decide(self.columns, bias)

    def score(self, bias: Float64[np.ndarray, "k"], objective: Objective) -> Score:
        """The objective when rows are decided by `argmax(z + bias)`."""
        return objective.score(self.counts(self.decide(bias)))


@dataclass(frozen=True, eq=False)
class Climb:
    """Where a climb ended: a bias per class (k,), its score on the rows, how many rounds it took, and why it ended."""

    bias: Float64[np.ndarray, "k"]
    score: Score
    rounds: int
    reason: str


def decide(columns: Float64[np.ndarray, "k n"], bias: Float64[np.ndarray, "k"]) -> Int[np.ndarray, "n"]:
    """`argmax(z + bias)` of logits that are held class by class, as `OperatingPoint.decide` computes it."""
    if bias.size == 2:
        return np.asarray((columns[1] - columns[0]) + (bias[1] - bias[0]) > 0).astype(np.intp)
    best = columns[0] + bias[0]
    decided = np.zeros(best.size, dtype=np.intp)
    for index in range(1, bias.size):
        scores = columns[index] + bias[index]
        ahead = scores > best
        np.copyto(best, scores, where=ahead)
        decided[ahead] = index
    return decided


def coordinate_ascent(
    sample: Sample, objective: Objective, starts: Sequence[Float64[np.ndarray, "k"]], *, best_start_only: bool = False
) -> Climb:
    """A bias per class that no one-class sweep improves, the best over all starts; never worse than a start.

    With `best_start_only` it climbs from the best start alone. A large problem stops when a round gains less than 1e-4.
    """
    scores = [sample.score(start, objective) for start in starts]
    order = sorted(range(len(starts)), key=lambda i: scores[i].key, reverse=True)
    climbs = [_climb(sample, objective, starts[i], scores[i]) for i in order[: 1 if best_start_only else None]]
    return max(climbs, key=lambda climb: climb.score.key)


def _climb(sample: Sample, objective: Objective, start: Float64[np.ndarray, "k"], score: Score) -> Climb:
    least = _LEAST_GAIN_LARGE if sample.logits.size > LARGE else _LEAST_GAIN
    visits = _visits(sample)
    board = Board(sample.columns, start)
    for rounds in range(1, _MOST_ROUNDS + 1):
        before = score
        for index in visits:
            cut, promised = sweep_class(sample, board, index, objective)
            if not promised.beats(score):
                continue
            held, moved = float(board.bias[index]), cut.at()
            board.move(index, moved)
            reached = objective.score(sample.counts(board.first))
            if reached.beats(score):
                score = reached
            else:
                board.move(index, held)
        nearer = before.shortfall - score.shortfall
        gained = score.gain - before.gain
        if not (nearer > least or gained > least):
            reason = "no class's bias gains" if least == _LEAST_GAIN else f"a round over all classes gained < {least:g}"
            return Climb(board.bias.copy(), score, rounds, reason)
    return Climb(board.bias.copy(), score, _MOST_ROUNDS, f"stopped after {_MOST_ROUNDS} rounds")


def _visits(sample: Sample) -> Iterable[int]:
    """The classes by their rows, most first; those of equal rows by their mean logit."""
    means = sample.columns.mean(axis=1)
    return [int(i) for i in np.lexsort((means, -sample.actual))]


class Board:
    """The best and the second class of every row and their scores, kept up to date while biases move one by one."""

    def __init__(self, columns: Float64[np.ndarray, "k n"], bias: Float64[np.ndarray, "k"]) -> None:
        self.columns = columns
        self.bias = bias.copy()
        n = columns.shape[1]
        self.first, self.second = np.zeros(n, dtype=np.intp), np.zeros(n, dtype=np.intp)
        self.lead, self.runner = np.full(n, -np.inf), np.full(n, -np.inf)
        for index in range(bias.size):
            self._enter(index, columns[index] + bias[index], np.arange(n))

    def move(self, index: int, bias: float) -> None:
        """Gives one class another bias."""
        self.bias[index] = bias
        scores = self.columns[index] + bias
        was_first, was_second = self.first == index, self.second == index
        overtaking = np.flatnonzero(~was_first & ~was_second & (scores >= self.runner))
        stays = was_first & (scores > self.runner)
        lost = np.flatnonzero((was_first & ~stays) | (was_second & (scores < self.runner)))
        np.copyto(self.lead, scores, where=stays)
        self._enter(index, scores[overtaking], overtaking)
        raised = np.flatnonzero(was_second & (scores >= self.runner))
        self.runner[raised] = scores[raised]
        level = (scores[raised] == self.lead[raised]) & (index < self.first[raised])
        swap = raised[(scores[raised] > self.lead[raised]) | level]
        self.first[swap], self.second[swap] = self.second[swap], self.first[swap]
        self.lead[swap], self.runner[swap] = self.runner[swap], self.lead[swap]
        for start in range(0, lost.size, max(1, LARGE // self.bias.size)):
            self._find(lost[start : start + max(1, LARGE // self.bias.size)])

    def _find(self, rows: Int[np.ndarray, "m"]) -> None:
        """Finds the best and the second class of some rows anew."""
        block = self.columns[:, rows] + self.bias[:, np.newaxis]
        places = np.arange(rows.size)
        first = block.argmax(axis=0)
        self.first[rows], self.lead[rows] = first, block[first, places]
        block[first, places] = -np.inf
        second = block.argmax(axis=0)
        self.second[rows], self.runner[rows] = second, block[second, places]

    def _enter(self, index: int, scores: Float64[np.ndarray, "m"], rows: Int[np.ndarray, "m"]) -> None:
        """Puts a class in its place in rows where it was neither best nor second; of equals the earlier class leads."""
        lead, runner, first, second = self.lead[rows], self.runner[rows], self.first[rows], self.second[rows]
        ahead = (scores > lead) | ((scores == lead) & (index < first))
        between = ~ahead & ((scores > runner) | ((scores == runner) & (index < second)))
        self.second[rows] = np.where(ahead, first, np.where(between, index, second))
        self.runner[rows] = np.where(ahead, lead, np.where(between, scores, runner))
        self.first[rows] = np.where(ahead, index, first)
        self.lead[rows] = np.where(ahead, scores, lead)


def sweep_class(
    sample: Sample,
    board: Board,
    index: int,
    objective: Objective,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Cut, Score]:
    """The best bias of one class while the others are held, over all biases that float64 can tell apart, and its score;
    only biases `within` two gaps, where some.

    Row i goes to the class when the bias exceeds `gap_i`, the lead of the best other class over its logit. O(n log n).
    """
    is_first = board.first == index
    leads = np.where(is_first, board.runner, board.lead)
    runners = np.where(is_first, board.second, board.first)
    logits = sample.columns[index]
    gaps = leads - logits
    order = np.argsort(gaps)
    gaps = gaps[order]
    # A bias can only tell two rows apart whose gaps differ by more than the rounding of the scores it is added to.
    resolution = 4 * np.spacing(np.maximum(np.abs(leads), np.abs(logits)))[order]
    distinct = np.concatenate([[True], np.diff(gaps) > np.maximum(resolution[1:], resolution[:-1]), [True]])
    moves = _Moves(sample, index, order, runners)
    if all(metric.sums is not None and metric.reads == "rows" for metric in objective.metrics):
        rounding = ROUNDING * max(1.0, math.sqrt(gaps.size))  # of the sum of so many changes
        score = objective.score_of([moves.along(metric) for metric in objective.metrics], rounding)
    else:
        score = _by_chunks(moves, objective)
    n = gaps.size
    if within != (-np.inf, np.inf):
        distinct[1:] &= gaps >= within[0]
        distinct[0] &= within[0] == -np.inf
        distinct[:-1] &= gaps <= within[1]
        distinct[-1] &= within[1] == np.inf
    best = score.best(distinct)
    cut = Cut(float(gaps[best - 1]) if best else -np.inf, float(gaps[best]) if best < n else np.inf)
    return cut, score.at(best)


def _by_chunks(moves: "_Moves", objective: Objective) -> Score:
    """The scores from whole counts, a chunk of cuts at a time: for what is not a sum over classes."""
    parts = [objective.score(counts) for counts in moves.counts()]
    gain, shortfall = (np.concatenate([getattr(part, name) for part in parts]) for name in ("gain", "shortfall"))
    return replace(parts[0], gain=gain, shortfall=shortfall)


class _Moves:
    """The rows in the order in which they move to one class, and what the moves do to the counts."""

    def __init__(self, sample: Sample, index: int, order: Int[np.ndarray, "n"], runners: Int[np.ndarray, "n"]) -> None:
        self.sample, self.index, self.order = sample, index, order
        self.labels, self.runners = sample.labels[order], runners[order]
        self.weights = np.ones(order.size) if sample.weights is None else sample.weights[order]
        self.actual, self.rows = sample.actual, float(sample.actual.sum())
        self.lost_hits = self.weights * (self.labels == self.runners)
        self.won_hits = self.weights * (self.labels == index)
        # Before the first move every row is with its runner.
        self.hits = np.bincount(self.runners, self.lost_hits, sample.k)
        self.predicted = np.bincount(self.runners, self.weights, sample.k)

    @cached_property
    def _by_runner(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """The moves grouped by the class they leave, in order within it, and where each group starts."""
        small = self.runners.astype(np.int16) if self.sample.k < 2**15 else self.runners
        grouped = np.argsort(small, kind="stable")
        sizes = np.bincount(self.runners, minlength=self.sample.k)
        return grouped, np.repeat(np.cumsum(sizes) - sizes, sizes)

    @cached_property
    def _left(self) -> tuple[Values, ...]:
        """Hits and predicted of the class that each move leaves, before and after it, in grouped order."""
        grouped, starts = self._by_runner
        classes = self.runners[grouped]

        def before_and_after(total: Values, lost: Values) -> tuple[Values, Values]:
            gone = np.concatenate([[0.0], np.cumsum(lost[grouped])])
            left = total[classes] + gone[starts]
            return left - gone[:-1], left - gone[1:]

        return (
            *before_and_after(self.hits, self.lost_hits),
            *before_and_after(self.predicted, self.weights),
            self.actual[classes],
        )

    def along(self, metric: Metric) -> Values:
        """A metric after 0, 1, ... n moves, (n + 1,)."""
        sums, index = metric.sums, self.index
        if sums is None:
            raise TypeError(f"metric '{metric.name}' is not a sum over classes")
        hits_before, hits_after, predicted_before, predicted_after, actual = self._left
        grouped, _ = self._by_runner
        shares = np.ones(self.sample.k) if sums.shares is None else sums.shares
        share = shares[self.runners[grouped]]
        before = sums.terms(cells_of(hits_before, predicted_before, actual, self.rows))
        after = sums.terms(cells_of(hits_after, predicted_after, actual, self.rows))
        others = sums.terms(cells_of(self.hits, self.predicted, self.actual, self.rows))
        won = np.concatenate([[0.0], np.cumsum(self.won_hits)])
        taken = np.concatenate([[0.0], np.cumsum(self.weights)])
        swept = sums.terms(cells_of(won, taken, self.actual[index : index + 1], self.rows))
        totals = []
        for was, becomes, other, own in zip(before, after, others, swept, strict=True):
            changes = np.empty(self.order.size)
            changes[grouped] = share * (becomes - was)
            rest = float((other * shares).sum() - other[index] * shares[index])
            totals.append(rest + np.concatenate([[0.0], np.cumsum(changes)]) + shares[index] * own)
        return sums.combine(*totals)

    def counts(self) -> Iterator[Counts]:
        """The counts after 0, 1, ... n moves, a chunk of cuts at a time."""
        matrix, labels = self.sample.cost_matrix, self.labels
        amounts = None if self.sample.amounts is None else self.sample.amounts[self.order]
        state = [self.hits, self.predicted]
        if amounts is not None:
            state.append(np.bincount(self.runners, amounts * (labels == self.runners), self.sample.k))
            state.append(np.bincount(self.runners, amounts, self.sample.k))
            actual_amounts = np.bincount(labels, amounts, self.sample.k)
        cost = 0.0 if matrix is None else float((self.weights * matrix[self.runners, labels]).sum())
        n = self.order.size
        for start in range(0, n + 1, _CHUNK_CUTS):
            part = slice(start, min(start + _CHUNK_CUTS, n))
            cuts = min(start + _CHUNK_CUTS, n + 1) - start
            at = [self._moved(total, part, lost) for total, lost in zip(state, self._changes(amounts), strict=True)]
            costs = None
            if matrix is not None:
                change = self.weights[part] * (
                    matrix[self.index, labels[part]] - matrix[self.runners[part], labels[part]]
                )
                costs = cost + np.concatenate([[0.0], np.cumsum(change)])
            yield Counts(
                at[0][:cuts],
                at[1][:cuts],
                self.actual,
                None if costs is None else costs[:cuts],
                None if amounts is None else Counts(at[2][:cuts], at[3][:cuts], actual_amounts),
            )
            state = [values[-1] for values in at]
            cost = 0.0 if costs is None else float(costs[-1])

    def _changes(self, amounts: Float64[np.ndarray, "n"] | None) -> list[tuple[Values, Values]]:
        """For hits and predicted, and the same of amounts: what leaves the runner and what comes to the class."""
        changes = [(self.lost_hits, self.won_hits), (self.weights, self.weights)]
        if amounts is None:
            return changes
        hit_lost, hit_won = amounts * (self.labels == self.runners), amounts * (self.labels == self.index)
        return [*changes, (hit_lost, hit_won), (amounts, amounts)]

    def _moved(self, total: Values, part: slice, change: tuple[Values, Values]) -> Float64[np.ndarray, "m k"]:
        lost, won = change[0][part], change[1][part]
        rows = np.arange(lost.size)
        moved = np.zeros((lost.size + 1, self.sample.k))
        moved[rows + 1, self.runners[part]] -= lost
        moved[rows + 1, self.index] += won
        return np.asarray(total + moved.cumsum(axis=0))
