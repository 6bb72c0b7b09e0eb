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
from jaxtyping import Bool, Float, Float64, Int

from calibrate.counts import Counts, Values, cells_of, rows_by_class, summable
from calibrate.metrics import Metric, Sums
from calibrate.objective import NO_SCORE, ROUNDING, Objective, Score
from calibrate.sweep import Cut

_CHUNK_CUTS = 65_536
_CHUNK_CELLS = 32_768  # logits at a time that a processor's cache holds
_CHUNK_MOVES = 8_192
_WINDOW_STEP, _LEAST_WINDOW = 16, 4
_LEAST_GAIN = 1e-9
_LEAST_GAIN_LARGE = 1e-4
LARGE = 5_000_000  # logits in all: a climb this large stops when a round gains less than 1e-4
_MOST_ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows to climb on: logits (n, k) and labels (n,), with weights (n,) and amounts at stake (n,) where there are any
    (what missing a row of class `at_stake` costs, what a false alarm on any other), the cost matrix where the objective
    has one, and the group (n,) of each row where some belong together. `row_squares` (k,) are the `squares` where a
    row stands for several rows, which its weight counts.
    """

    logits: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    weights: Float64[np.ndarray, "n"] | None = None
    amounts: Float64[np.ndarray, "n"] | None = None
    cost_matrix: Float64[np.ndarray, "k k"] | None = None
    at_stake: int = 1
    groups: Int[np.ndarray, "n"] | None = None
    row_squares: Float64[np.ndarray, "k"] | None = None

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
        return rows_by_class(self.labels, self.k, self.weights)

    @cached_property
    def squares(self) -> Float64[np.ndarray, "k"] | None:
        """The sum of the squared weights of each class's rows, which tells how many rows they are worth (Kish's
        sum(w)^2 / sum(w^2)); None where there are neither weights nor groups.

        Rows of one class in one group count as if they were all the same.
        """
        if self.row_squares is not None:
            return self.row_squares
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

    def amount_squares(self, cells: Int[np.ndarray, "n"], number: int) -> Float64[np.ndarray, "cells"]:
        """Return the sum of the squared amounts in each of `number` cells: that of a group's rows in one cell is one
        amount, as a group counts as one row.

        Raises: `TypeError` where there are no amounts.
        """
        if self.amounts is None:
            raise TypeError("the sample has no amounts")
        if self.groups is None:
            return np.bincount(cells, self.amounts**2, number).astype(np.float64)
        there, members = np.unique(self.groups * number + cells, return_inverse=True)
        together = np.bincount(members, self.amounts)
        return np.bincount(there % number, together**2, number).astype(np.float64)

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
        """`argmax(z + bias)` for each row, as `OperatingPoint.decide` computes it."""
        if self.k == 2:
            return decide(self.columns, bias)
        return np.asarray(self.decide_each(bias[np.newaxis])[0])

    def decide_each(self, biases: Float64[np.ndarray, "m k"]) -> Int[np.ndarray, "m n"]:
        """`argmax(z + bias)` for each bias and row, of more than two classes."""
        decided = np.empty((len(biases), self.labels.size), dtype=np.intp)
        step = max(1, _CHUNK_CELLS // self.k)
        for start in range(0, self.labels.size, step):
            rows = slice(start, start + step)
            logits = self.logits[rows].astype(np.float64)
            scores = np.empty_like(logits)
            for bias, row in zip(biases, decided, strict=True):
                np.add(logits, bias, out=scores)
                scores.argmax(axis=1, out=row[rows])
        return decided

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

    With `best_start_only` it climbs from the best start alone. A large problem stops when a round gains less than 1e-4;
    its rounds look at the cuts around each class's bias, and at all cuts once those gain no more.
    """
    scores = [sample.score(start, objective) for start in starts]
    order = sorted(range(len(starts)), key=lambda i: scores[i].key, reverse=True)
    climbs = [_climb(sample, objective, starts[i], scores[i]) for i in order[: 1 if best_start_only else None]]
    return max(climbs, key=lambda climb: climb.score.key)


def _climb(sample: Sample, objective: Objective, start: Float64[np.ndarray, "k"], score: Score) -> Climb:
    least = _LEAST_GAIN_LARGE if sample.logits.size > LARGE else _LEAST_GAIN
    visits = _visits(sample)
    board = Board(sample.columns, start)
    moves = 0
    swept_after: dict[int, int] = {}  # the moves before each class was last swept: without a later one it gains nothing
    by_sums = all(metric.sums is not None and metric.reads == "rows" for metric in objective.metrics)
    may_be_near = near = sample.logits.size > LARGE and by_sums and sample.weights is None
    counts = sample.counts(board.first)
    for rounds in range(1, _MOST_ROUNDS + 1):
        before = score
        for index in visits:
            if swept_after.get(index) == moves:
                continue
            if not near:
                swept_after[index] = moves
            cut, promised = sweep_class(sample, board, index, objective, near=counts if near else None)
            if not promised.beats(score):
                continue
            held, moved = float(board.bias[index]), cut.at()
            before_move = board.first.copy()
            board.move(index, moved)
            counts_then = _recounted(sample, counts, before_move, board.first) if near else sample.counts(board.first)
            reached = objective.score(counts_then)
            if reached.beats(score):
                score, counts = reached, counts_then
                moves += 1
            else:
                board.move(index, held)
        nearer = before.shortfall - score.shortfall
        gained = score.gain - before.gain
        gains = nearer > least or gained > least
        if not gains and not near:
            reason = "no class's bias gains" if least == _LEAST_GAIN else f"a round over all classes gained < {least:g}"
            return Climb(board.bias.copy(), score, rounds, reason)
        near = may_be_near and gains
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
    *,
    near: Counts | None = None,
) -> tuple[Cut, Score]:
    """The best bias of one class while the others are held, over all biases that float64 can tell apart, and its score;
    only biases `within` two gaps, where some. With `near`, the counts of the board's decisions, only those that give
    the class from about a quarter of the rows that it has to four times as many (or as its label has): that takes a
    fraction of the time. Every row counts once then.

    Row i goes to the class when the bias exceeds `gap_i`, the lead of the best other class over its logit. O(n log n).
    """
    is_first = board.first == index
    leads = np.where(is_first, board.runner, board.lead)
    runners = np.where(is_first, board.second, board.first)
    logits = sample.columns[index]
    gaps = leads - logits
    some = None if near is None else _window(gaps, near, index)
    if near is None or some is None:
        order = np.argsort(gaps)
        moves = _Moves(sample, index, order, runners)
    else:
        order = some[np.argsort(gaps[some])]
        moves = _Moves(sample, index, order, runners, _given_back(near, sample, index, some[is_first[some]], runners))
    gaps = gaps[order]
    # The ends of a window are not cuts: the gaps beside them are not looked at.
    distinct = np.concatenate([[some is None], _apart(gaps, leads, logits, order), [some is None]])
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
    if not distinct.any():
        return Cut(-np.inf, np.inf), NO_SCORE
    best = score.best(distinct)
    cut = Cut(float(gaps[best - 1]) if best else -np.inf, float(gaps[best]) if best < n else np.inf)
    return cut, score.at(best)


def _window(gaps: Float64[np.ndarray, "n"], counts: Counts, index: int) -> Int[np.ndarray, "m"] | None:
    """The rows that a class may take or give up if it is to have about a quarter to four times the rows that it has;
    None where these are most rows. The places of the ends are read off every 16th gap.
    """
    taken, actual = float(counts.predicted[index]), float(counts.actual[index])
    some = np.sort(gaps[::_WINDOW_STEP])
    low, high = int(taken / 4) // _WINDOW_STEP, int(4 * max(taken, actual)) // _WINDOW_STEP + _LEAST_WINDOW
    if high >= some.size // 2:
        return None
    return np.flatnonzero((gaps >= (some[low - 1] if low else -np.inf)) & (gaps <= some[high]))


def _given_back(
    counts: Counts, sample: Sample, index: int, rows: Int[np.ndarray, "m"], runners: Int[np.ndarray, "n"]
) -> Counts:
    """The counts where a class leaves some rows to their runners."""
    return _moved(sample, counts, rows, np.full(rows.size, index), runners[rows])


def _recounted(sample: Sample, counts: Counts, before: Int[np.ndarray, "n"], after: Int[np.ndarray, "n"]) -> Counts:
    """The counts of decisions from those of others, by the rows that are decided differently."""
    rows = np.flatnonzero(before != after)
    return _moved(sample, counts, rows, before[rows], after[rows])


def _moved(
    sample: Sample,
    counts: Counts,
    rows: Int[np.ndarray, "m"],
    before: Int[np.ndarray, "m"],
    after: Int[np.ndarray, "m"],
) -> Counts:
    """The counts after some rows, each of which counts once, moved from one class to another."""
    labels, k = sample.labels[rows], sample.k
    predicted = np.bincount(after, minlength=k) - np.bincount(before, minlength=k)
    hits = np.bincount(after[after == labels], minlength=k) - np.bincount(before[before == labels], minlength=k)
    return Counts(counts.hits + hits, counts.predicted + predicted, counts.actual)


def _apart(
    gaps: Float64[np.ndarray, "m"],
    leads: Float64[np.ndarray, "n"],
    logits: Float64[np.ndarray, "n"],
    order: Int[np.ndarray, "m"],
) -> Bool[np.ndarray, "n1"]:
    """Whether a bias can tell each two neighbouring rows apart: their gaps, ascending, differ by more than the rounding
    of the scores that it is added to.
    """
    apart = np.diff(gaps)
    largest = max(float(np.abs(leads).max()), float(np.abs(logits).max()))
    close = np.flatnonzero(apart <= 4 * np.spacing(largest))  # no two rows need more
    rows = order[np.stack([close, close + 1])]
    resolution = 4 * np.spacing(np.maximum(np.abs(leads[rows]), np.abs(logits[rows]))).max(axis=0)
    are_apart = np.ones(apart.size, dtype=bool)
    are_apart[close] = apart[close] > resolution
    return are_apart


def _by_chunks(moves: "_Moves", objective: Objective) -> Score:
    """The scores from whole counts, a chunk of cuts at a time: for what is not a sum over classes."""
    parts = [objective.score(counts) for counts in moves.counts()]
    gain, shortfall = (np.concatenate([getattr(part, name) for part in parts]) for name in ("gain", "shortfall"))
    return replace(parts[0], gain=gain, shortfall=shortfall)


def _terms_by_chunks(sums: Sums, hits: Values, predicted: Values, actual: Values, rows: float) -> list[Values]:
    """The terms (n,) of a sum over classes, from as many moves at a time as a processor's cache holds."""
    parts = [slice(start, start + _CHUNK_MOVES) for start in range(0, hits.size, _CHUNK_MOVES)]
    chunks = [sums.terms(cells_of(hits[part], predicted[part], actual[part], rows)) for part in parts]
    return [np.concatenate(term) for term in zip(*chunks, strict=True)]


class _Moves:
    """The rows in the order in which they move to one class, and what the moves do to the counts. Where not all rows
    move, `before` are the counts before the first move.
    """

    def __init__(
        self,
        sample: Sample,
        index: int,
        order: Int[np.ndarray, "m"],
        runners: Int[np.ndarray, "n"],
        before: Counts | None = None,
    ) -> None:
        self.sample, self.index, self.order = sample, index, order
        self.labels, self.runners = sample.labels[order], runners[order]
        self.weights = np.broadcast_to(1.0, order.shape) if sample.weights is None else sample.weights[order]
        self.actual, self.rows = sample.actual, float(sample.actual.sum())
        self.lost_hits = self.weights * (self.labels == self.runners)
        self.won_hits = self.weights * (self.labels == index)
        # Before the first move every row is with its runner, unless the class keeps it.
        self.kept_hits = self.kept_predicted = 0.0
        if before is None:
            self.hits = np.bincount(self.runners, self.lost_hits, sample.k)
            self.predicted = np.bincount(self.runners, self.weights, sample.k)
        else:
            self.hits, self.predicted = before.hits.copy(), before.predicted.copy()
            self.kept_hits, self.kept_predicted = float(self.hits[index]), float(self.predicted[index])
            self.hits[index] = self.predicted[index] = 0.0

    @cached_property
    def _by_runner(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "k"]]:
        """The moves grouped by the class they leave, in order within it, and how many each group has."""
        small = self.runners.astype(np.int16) if self.sample.k < 2**15 else self.runners
        return np.argsort(small, kind="stable"), np.bincount(self.runners, minlength=self.sample.k)

    @cached_property
    def _left(self) -> tuple[Values, Values, Values]:
        """Hits and predicted of the class that each move leaves, after it, and its rows, in grouped order."""
        grouped, sizes = self._by_runner
        ends = np.cumsum(sizes)

        def after(total: Values, lost: Values) -> Values:
            gone = np.cumsum(lost[grouped], dtype=np.float64)
            before = np.concatenate([[0.0], gone])[ends - sizes]
            left = np.repeat(total + before, sizes)
            left -= gone
            return np.asarray(left)

        return after(self.hits, self.lost_hits), after(self.predicted, self.weights), np.repeat(self.actual, sizes)

    def along(self, metric: Metric) -> Values:
        """A metric after 0, 1, ... n moves, (n + 1,)."""
        sums, index = metric.sums, self.index
        if sums is None:
            raise TypeError(f"metric '{metric.name}' is not a sum over classes")
        grouped, sizes = self._by_runner
        shares = np.ones(self.sample.k) if sums.shares is None else sums.shares
        others = sums.terms(cells_of(self.hits, self.predicted, self.actual, self.rows))
        left = _terms_by_chunks(sums, *self._left, self.rows)
        won = self.kept_hits + np.concatenate([[0.0], np.cumsum(self.won_hits, dtype=np.float64)])
        taken = self.kept_predicted + np.concatenate([[0.0], np.cumsum(self.weights)])
        swept = _terms_by_chunks(sums, won, taken, np.broadcast_to(self.actual[index], won.shape), self.rows)
        leavers = np.flatnonzero(sizes)
        firsts = (np.cumsum(sizes) - sizes)[leavers]  # the first move of each group
        totals = []
        for becomes, other, own in zip(left, others, swept, strict=True):
            change = np.diff(becomes, prepend=0.0)  # before a move the class is as the move before it left it
            change[firsts] = becomes[firsts] - other[leavers]
            if sums.shares is not None:
                change *= np.repeat(shares, sizes)
            changes = np.empty(self.order.size + 1)
            changes[0] = float((other * shares).sum() - other[index] * shares[index])
            changes[1:][grouped] = change
            total = np.cumsum(changes, out=changes)
            total += own if sums.shares is None else shares[index] * own
            totals.append(total)
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
