"""The plain model and a point on the same rows: what is different between them, and both at another prevalence.

The two decide most rows alike, so the difference of their metrics is known much better than either: it is drawn from
the table of label x plain decision x point decision, whose cells are few however many rows there are. The table is also
all that evidence at another prevalence needs: the rows of each class are counted for more or for less.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int

from calibrate.ascent import Sample
from calibrate.counts import Counts
from calibrate.errors import MissingClass
from calibrate.metrics import Metric
from calibrate.uncertainty import Interval, Kind, Table, interval_of, rows_per_weight

_DRAWS = 1000
_MOST_DRAWN = 5_000_000
_MOST_DENSE = 1_000_000


@dataclass(frozen=True, eq=False)
class Paired:
    """Both decisions on some rows, as cells (m,) that hold weight: `label`, `plain` and `point` are class indices.

    `squares` (k,) is the sum of the squared weights of each class's rows, None without weights. Amounts are summed over
    each label and whether each of the two decisions is the class `positive`: `amounts` and `amount_squares`
    (k, 2, 2), plain first.
    """

    k: int
    label: Int[np.ndarray, "m"]
    plain: Int[np.ndarray, "m"]
    point: Int[np.ndarray, "m"]
    weight: Float64[np.ndarray, "m"]
    squares: Float64[np.ndarray, "k"] | None = None
    cost_matrix: Float64[np.ndarray, "k k"] | None = None
    positive: int = 1
    amounts: Float64[np.ndarray, "k 2 2"] | None = None
    amount_squares: Float64[np.ndarray, "k 2 2"] | None = None

    @classmethod
    def of(cls, plain: Int[np.ndarray, "n"], point: Int[np.ndarray, "n"], sample: Sample) -> "Paired":
        """What these decisions on these rows amount to."""
        k, w = sample.k, sample.weights
        codes, weight = _summed((sample.labels * k + plain) * k + point, w, k)
        amounts = squares = None
        if sample.amounts is not None:
            cells = 4 * sample.labels + 2 * (plain == sample.at_stake) + (point == sample.at_stake)
            amounts = np.bincount(cells, sample.amounts, 4 * k).reshape(k, 2, 2)
            squares = np.bincount(cells, sample.amounts**2, 4 * k).reshape(k, 2, 2)
        return cls(
            k,
            codes // k**2,
            codes // k % k,
            codes % k,
            weight,
            sample.squares,
            sample.cost_matrix,
            sample.at_stake,
            amounts,
            squares,
        )

    @classmethod
    def sum(cls, parts: "Sequence[Paired]") -> "Paired":
        """Parts of the same rows, counted apart, as one."""
        first = parts[0]
        k = first.k
        codes = np.concatenate([(each.label * k + each.plain) * k + each.point for each in parts])
        codes, weight = _summed(codes, np.concatenate([each.weight for each in parts]), k)
        squares = [each.squares for each in parts if each.squares is not None]
        amounts = [each.amounts for each in parts if each.amounts is not None]
        amount_squares = [each.amount_squares for each in parts if each.amount_squares is not None]
        return replace(
            first,
            label=codes // k**2,
            plain=codes // k % k,
            point=codes % k,
            weight=weight,
            squares=np.sum(squares, axis=0) if squares else None,
            amounts=np.sum(amounts, axis=0) if amounts else None,
            amount_squares=np.sum(amount_squares, axis=0) if amount_squares else None,
        )

    @property
    def actual(self) -> Float64[np.ndarray, "k"]:
        """The rows of each class, by weight."""
        return np.bincount(self.label, self.weight, self.k)

    def table(self, which: str) -> Table:
        """The decisions of one of the two, `plain` or `point`, alone."""
        decided = self.plain if which == "plain" else self.point
        confusion = np.bincount(self.label * self.k + decided, self.weight, self.k**2).reshape(self.k, self.k)
        amounts = squares = None
        if self.amounts is not None and self.amount_squares is not None:
            other = 2 if which == "plain" else 1
            amounts, squares = (
                _towards(table.sum(axis=other), self.positive) for table in (self.amounts, self.amount_squares)
            )
        worth = None if self.squares is None else rows_per_weight(self.actual, self.squares)
        return Table(confusion, worth, self.cost_matrix, self.positive, amounts, squares)

    def at_prevalence(self, shares: Float64[np.ndarray, "k"]) -> "Paired":
        """The same rows where the classes are as frequent as `shares` (k,) says, the number of all rows kept."""
        actual = self.actual
        times = class_factors(actual, shares)
        squares = actual if self.squares is None else self.squares
        by_class = times[:, np.newaxis, np.newaxis]
        return replace(
            self,
            weight=self.weight * times[self.label],
            squares=squares * times**2,
            amounts=None if self.amounts is None else self.amounts * by_class,
            amount_squares=None if self.amount_squares is None else self.amount_squares * by_class**2,
        )

    def draw(self, draws: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
        """Counts (draws, k) of the plain model and of the point that might as well have been seen together.

        As in `uncertainty`, a row's worth of doubt is added to each class: what no row did shares its part evenly.
        """
        k, actual = self.k, self.actual
        worth = np.ones(k) if self.squares is None else rows_per_weight(actual, self.squares)
        seen = np.bincount(self.label, minlength=k)
        cells = rng.standard_gamma(self.weight * worth[self.label] + 1 / k**2, size=(draws, self.weight.size))
        rest = rng.standard_gamma(np.maximum(1 - seen / k**2, 1e-300), size=(draws, k))
        totals = rest.copy()
        np.add.at(totals.T, self.label, cells.T)
        scale = np.divide(actual, totals, out=np.zeros_like(totals), where=totals > 0)
        cells, rest = cells * scale[:, self.label], rest * scale / k
        both = []
        for decided, other in ((self.plain, 2), (self.point, 1)):
            hits, predicted = rest.copy(), np.broadcast_to(rest.sum(axis=1, keepdims=True), rest.shape).copy()
            np.add.at(predicted.T, decided, cells.T)
            hit = decided == self.label
            np.add.at(hits.T, self.label[hit], cells.T[hit])
            cost = None
            if self.cost_matrix is not None:
                cost = cells @ self.cost_matrix[decided, self.label] + rest @ self.cost_matrix.sum(axis=0)
            both.append((Counts(hits, predicted, actual, cost), other))
        if self.amounts is None or self.amount_squares is None:
            return both[0][0], both[1][0]
        drawn = _draw_amounts(self.amounts, self.amount_squares, draws, rng)
        table = self.table("plain")
        plain, point = (
            replace(counts, amounts=table.amount_counts(_towards(drawn.sum(axis=1 + other), self.positive)))
            for counts, other in both
        )
        return plain, point


def _summed(
    codes: Int[np.ndarray, "n"], weights: Float64[np.ndarray, "n"] | None, k: int
) -> tuple[Int[np.ndarray, "m"], Float64[np.ndarray, "m"]]:
    """The codes that there are, each once, with their weight in all."""
    if k**3 <= _MOST_DENSE:
        there = np.flatnonzero(np.bincount(codes, minlength=k**3))
        return there, np.bincount(codes, weights, k**3)[there].astype(np.float64)
    there, places = np.unique(codes, return_inverse=True)
    return there, np.bincount(places, weights, there.size).astype(np.float64)


def class_factors(actual: Float64[np.ndarray, "k"], shares: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
    """By how much the rows of each class, `actual` (k,), count for more so that they have these `shares` (k,)."""
    if (actual == 0).any():
        missing = int(np.flatnonzero(actual == 0)[0])
        raise MissingClass(f"class {missing} has no rows to be weighted to a prevalence of {shares[missing]:g}")
    return np.asarray(shares * actual.sum() / actual)


def measure_gain(
    paired: Paired, metrics: Iterable[Metric], kind: Kind, rng: np.random.Generator, confidence: float = 0.95
) -> dict[str, Interval]:
    """How much better the point is than the plain model on the same rows, by metric: above 0 is better, also where the
    metric is minimised.
    """
    plain, point = paired.table("plain").counts, paired.table("point").counts
    draws = int(np.clip(_MOST_DRAWN // paired.weight.size, 200, _DRAWS))
    plain_drawn, point_drawn = paired.draw(draws, rng)
    rows = round(float(paired.actual @ paired.table("plain").worth))
    found = {}
    for metric in metrics:
        value = float(metric.gain(point) - metric.gain(plain))
        low, high = interval_of(value, metric.gain(point_drawn) - metric.gain(plain_drawn), confidence)
        found[metric.name] = Interval(value, low, high, confidence, rows, kind)
    return found


def _towards(by_label: Float64[np.ndarray, "*draws k 2"], positive: int) -> Float64[np.ndarray, "*draws 2 2"]:
    """Sums over each label as sums over whether it is the positive class."""
    of_it = by_label[..., positive, :]
    return np.stack([by_label.sum(axis=-2) - of_it, of_it], axis=-2)


def _draw_amounts(
    amounts: Float64[np.ndarray, "k 2 2"], squares: Float64[np.ndarray, "k 2 2"], draws: int, rng: np.random.Generator
) -> Float64[np.ndarray, "draws k 2 2"]:
    """Sums of amounts with the mean and variance of a Poisson bootstrap; an empty cell gets a quarter of a typical row
    of its label.
    """
    total, square = amounts.sum(axis=(1, 2), keepdims=True), squares.sum(axis=(1, 2), keepdims=True)
    typical = np.divide(square, total, out=np.zeros_like(total), where=total > 0)
    filled = amounts > 0
    shape = np.divide(amounts**2, squares, out=np.full_like(amounts, 0.25), where=filled)
    scale = np.where(filled, np.divide(squares, amounts, out=np.zeros_like(amounts), where=filled), typical)
    return np.asarray(rng.standard_gamma(shape, size=(draws, *amounts.shape)) * scale)
