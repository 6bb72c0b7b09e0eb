"""The binary sweep: the best cut for an objective over every cut there is, not over a grid.

A metric that never falls when a false alarm is taken away is best just below some positive's margin, or where nothing
is predicted. So the edges are the P margins of positives, however many negatives there are, and a part of the rows is
counted against them by sorting its two sides apart (`np.sort` is vectorised, sorting indices is not) and one
`searchsorted`. An objective that is not monotone in that way has every distinct margin as an edge. Counts of parts add
up, so rows may come in chunks, in files or from other machines, in any order. Only exactly equal margins are tied.

Ties in the objective go to fewer alerts; the cut is then placed midway between its neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from calibrate.counts import Counts, Values, summable
from calibrate.errors import Infeasible, Nearest, UndefinedMetric
from calibrate.objective import NO_SCORE, Constraint, Objective, Score

_CHUNK_ROWS = 10_000_000
_BLOCK_CUTS = 1_000_000


@dataclass(frozen=True)
class Cut:
    """A place between two neighbouring margins: rows at `lower` and below are on one side, at `upper` and above on the
    other. An open end is infinite.
    """

    lower: float
    upper: float

    @property
    def gap(self) -> float:
        """How far apart the neighbours are."""
        return self.upper - self.lower

    def at(self) -> float:
        """A finite t with lower <= t < upper, so that `margin > t` splits the rows here: midway, or beyond an open end
        by a unit of log-odds (a thousandth of the margin where that is more).
        """
        if np.isinf(self.lower) and np.isinf(self.upper):
            return 0.0
        if np.isinf(self.lower):
            return self.upper - _beyond(self.upper)
        if np.isinf(self.upper):
            return self.lower + _beyond(self.lower)
        middle = self.lower / 2 + self.upper / 2 if np.isinf(self.gap) else self.lower + self.gap / 2
        return middle if self.lower <= middle < self.upper else self.lower

    def at_bound(self, low: float, high: float, size: float = 0.0) -> float:
        """As `at`, where only places from `low` to below `high` are certified, and the cut lies among them.

        A cut whose one end is open and whose other end is the bound lies next to the bound: there the promise holds
        with no room to spare, and every step further gives up more than it asks for. The distance is eight steps of
        float32 (of the margin, of 1 or of `size`, whichever is largest), so that rounding does not cross the bound.
        """
        if np.isinf(self.upper) and self.lower == low > -np.inf:
            return low + 2.0**-20 * max(1.0, abs(low), size)
        if np.isinf(self.lower) and self.upper == high < np.inf:
            return high - 2.0**-20 * max(1.0, abs(high), size)
        return self.at()

    def mirrored(self) -> "Cut":
        """The same place on the negated margin."""
        return Cut(-self.upper, -self.lower)


def _beyond(margin: float) -> float:
    return max(1.0, abs(margin) / 1024)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a binary sweep: margins (n,) that point towards the positive class, compared in the type they come in,
    which rows are positive, and where there are any the weight of each row and the amount at stake on it (weighted).
    """

    margins: Float[np.ndarray, "n"]
    is_positive: Bool[np.ndarray, "n"]
    weights: Float64[np.ndarray, "n"] | None = None
    amounts: Float64[np.ndarray, "n"] | None = None

    def some(self, which: Bool[np.ndarray, "n"]) -> "Rows":
        """Those rows."""
        return Rows(
            self.margins[which],
            self.is_positive[which],
            None if self.weights is None else self.weights[which],
            None if self.amounts is None else self.amounts[which],
        )

    @property
    def counted(self) -> "Rows":
        """The rows that count: a row of weight 0 is no row. Their weights and amounts are `summable`."""
        if self.weights is None and self.amounts is None:
            return self
        rows = self if self.weights is None or self.weights.all() else self.some(self.weights > 0)
        weights, amounts = (None if each is None else summable(each) for each in (rows.weights, rows.amounts))
        return Rows(rows.margins, rows.is_positive, weights, amounts)

    def chunks(self) -> Iterator["Rows"]:
        """The rows in order, a bounded number at a time."""
        for start in range(0, self.margins.size, _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            yield Rows(
                self.margins[part],
                self.is_positive[part],
                None if self.weights is None else self.weights[part],
                None if self.amounts is None else self.amounts[part],
            )


@dataclass(eq=False)
class Tally:
    """What lies below each edge, added up over parts of the rows.

    `edges` (m,) ascend. `below` (m + 1, 2) is the weight of positives and of negatives below each edge, the last entry
    that of all rows; `amounts_below` the same of their amounts. `highest` (m + 1,) is the highest margin below each
    edge and overall, minus infinity where there is none.
    """

    edges: Float[np.ndarray, "m"]
    below: Float64[np.ndarray, "m1 2"]
    amounts_below: Float64[np.ndarray, "m1 2"] | None
    highest: Float64[np.ndarray, "m1"]

    @classmethod
    def at(cls, edges: Float[np.ndarray, "m"], amounts: bool = False) -> "Tally":
        """Nothing counted yet."""
        shape = (edges.size + 1, 2)
        return cls(edges, np.zeros(shape), np.zeros(shape) if amounts else None, np.full(edges.size + 1, -np.inf))

    def add(self, rows: Rows) -> None:
        """Counts a part of the rows."""
        for side, of_side in enumerate((rows.is_positive, ~rows.is_positive)):
            margins = rows.margins[of_side]
            if not margins.size:
                continue
            order = None
            if rows.weights is None and rows.amounts is None:
                margins.sort()
            else:
                order = np.argsort(margins)
                margins = margins[order]
            weights = None if rows.weights is None else rows.weights[of_side][order]
            self.add_sorted(side, margins, weights, None if rows.amounts is None else rows.amounts[of_side][order])

    def add_sorted(
        self,
        side: int,
        margins: Float[np.ndarray, "n"],
        weights: Float64[np.ndarray, "n"] | None = None,
        amounts: Float64[np.ndarray, "n"] | None = None,
    ) -> None:
        """Counts rows of one side, 0 the positives, whose margins ascend."""
        if not margins.size:
            return
        places = np.append(np.searchsorted(margins, self.edges, side="left"), margins.size)
        self.below[:, side] += places if weights is None else _sum_below(weights, places)
        if self.amounts_below is not None and amounts is not None:
            self.amounts_below[:, side] += _sum_below(amounts, places)
        np.maximum(self.highest, margins[places - 1], out=self.highest, where=places > 0)

    def merge(self, other: "Tally") -> None:
        """Adds what was counted elsewhere, against the same edges."""
        self.below += other.below
        if self.amounts_below is not None and other.amounts_below is not None:
            self.amounts_below += other.amounts_below
        np.maximum(self.highest, other.highest, out=self.highest)

    @property
    def cuts(self) -> int:
        """How many cuts there are: no alert, then one below each edge."""
        return self.edges.size + 1

    def cut(self, index: int) -> Cut:
        """The cut of that index: 0 is no alert, then downwards."""
        place = self.edges.size - index
        return Cut(float(self.highest[place]), float(self.edges[place]) if index else np.inf)

    def within(self, low: float, high: float) -> Bool[np.ndarray, "cuts"]:
        """Which cuts decide every row at `low` and below one way and every row at `high` and above the other."""
        places = np.arange(self.cuts)[::-1]  # cut 0 is above the last edge
        edges = np.append(self.edges.astype(np.float64), np.inf)
        return np.asarray(((edges > low) & (edges <= high))[places])

    def counts(self, positive: int, start: int = 0, stop: int | None = None) -> Counts:
        """The counts at cuts `start` to `stop`, (cuts, 2); `positive` is the index of the positive class."""
        stop = self.cuts if stop is None else stop
        places = slice(self.cuts - stop, self.cuts - start)
        counts = _counts(self.below, places, positive)
        if self.amounts_below is None:
            return counts
        amounts = _counts(self.amounts_below, places, positive)
        return Counts(counts.hits, counts.predicted, counts.actual, counts.cost, amounts)


def _sum_below(values: Float64[np.ndarray, "n"], places: np.ndarray) -> Float64[np.ndarray, "m"]:
    return np.asarray(np.concatenate([[0.0], np.cumsum(values)])[places])


def _counts(below: Float64[np.ndarray, "m1 2"], places: slice, positive: int) -> Counts:
    positives, negatives = below[-1]
    tp, fp = positives - below[places, 0][::-1], negatives - below[places, 1][::-1]
    return Counts.of_binary(tp, fp, positives, negatives, positive)


def edges_of(rows: Rows, every_cut: bool) -> Float[np.ndarray, "m"]:
    """The distinct margins below which a cut may be best, ascending: those of positives, or all."""
    if every_cut:
        return np.unique(rows.margins)
    # The maximum of the negatives alone would copy them; all rows have the same one where it counts.
    return with_highest(np.unique(rows.margins[rows.is_positive]), float(rows.margins.max()))


def with_highest(edges: Float[np.ndarray, "m"], highest: float) -> Float[np.ndarray, "m1"]:
    """Return ascending edges with the highest margin of all rows, where it is above them.

    Where the metric is undefined (0/0) without an alert, the fewest false alarms may be best: the topmost negative.
    """
    if edges.size and highest <= edges[-1]:
        return edges
    return np.append(edges, np.array(highest, dtype=edges.dtype))


def tabulate(rows: Rows, every_cut: bool = False) -> Tally:
    """Every candidate cut with its counts."""
    rows = rows.counted
    tally = Tally.at(edges_of(rows, every_cut), rows.amounts is not None)
    for chunk in rows.chunks():
        tally.add(chunk)
    return tally


def sweep_cut(rows: Rows, objective: Objective) -> Cut:
    """The best cut of these rows: those above it are decided positive (the class `objective.positive`).

    Raises: `UndefinedMetric` where the metric is 0/0 at every cut, `Infeasible` where no cut meets the constraints.
    """
    return best_cut(tabulate(rows, not objective.monotone), objective)


def best_cut(tally: Tally, objective: Objective, within: tuple[float, float] = (-np.inf, np.inf)) -> Cut:
    """The best cut of a tally, `within` two of its margins where not all are allowed. Raises: `UndefinedMetric`,
    `Infeasible`.
    """
    best, index = NO_SCORE, -1
    allowed = tally.within(*within)
    for start, score in _scores(tally, objective):
        which = allowed[start : start + score.gain.size]
        if not which.any():
            continue
        top = score.best(which)
        if index < 0 or score.at(top).beats(best):
            best, index = score.at(top), start + top
    if best.feasible:
        return tally.cut(index)
    if best.shortfall == 0 or not objective.constraints:
        raise UndefinedMetric(f"metric '{objective.metric.name}' is undefined (0/0) at every cut")
    nearest = tuple(_nearest(tally, objective, constraint, allowed) for constraint in objective.constraints)
    said = "; ".join(
        f"'{each.constraint}' comes to {each.value:.6g} at best{' on its own' if each.alone else ''}"
        for each in nearest
    )
    which_cut = "cut" if allowed.all() else "certified cut"
    raise Infeasible(f"no {which_cut} meets every constraint on these rows: {said}", nearest)


def _scores(tally: Tally, objective: Objective) -> Iterator[tuple[int, Score]]:
    for start in range(0, tally.cuts, _BLOCK_CUTS):
        stop = min(start + _BLOCK_CUTS, tally.cuts)
        yield start, objective.score(tally.counts(objective.positive, start, stop))


def _nearest(tally: Tally, objective: Objective, constraint: Constraint, allowed: Bool[np.ndarray, "cuts"]) -> Nearest:
    """The value nearest to the bound while the other constraints hold, or on its own where they never do."""
    counts = tally.counts(objective.positive)
    others = allowed.copy()
    for other in objective.constraints:
        if other is not constraint:
            others &= other.shortfall(counts) == 0
    alone = len(objective.constraints) > 1 and not others.any()
    short = constraint.shortfall(counts)
    index = int(np.where(others | (alone & allowed), short, np.inf).argmin())
    value: Values = constraint.metric.value(counts)
    return Nearest(constraint.text, float(value[index]), tally.cut(index).at(), alone)
