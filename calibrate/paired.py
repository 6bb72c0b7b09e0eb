"""The plain model and a point on the same rows: what is different between them, and both at another prevalence.

The two decide most rows alike, so the difference of their metrics is known much better than either: it is drawn from
the table of label x plain decision x point decision, whose cells are few however many rows there are. The doubt that
each class gets (`calibrate.draws`) lies on the rows that only one of the two decides rightly: on those of the plain
model for the lower bound, of the point for the upper one. Doubt that both share would cancel, and a gain on five
positives would seem certain.

The table is also all that evidence at another prevalence needs: the rows of each class are counted for more or for
less.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int

from calibrate.ascent import Sample
from calibrate.counts import Counts
from calibrate.draws import class_totals, corners, doubt_rows, wrong_costs
from calibrate.errors import MissingClass
from calibrate.metrics import Metric
from calibrate.uncertainty import (
    Interval,
    Kind,
    Table,
    beside_rest,
    bounds_of,
    bounds_of_mean,
    joint_worth,
    rows_of,
    rows_per_weight,
)

_DRAWS = 1000
_MOST_DRAWN = 5_000_000
_MOST_DENSE = 1_000_000


@dataclass(frozen=True, eq=False)
class Paired:
    """Both decisions on some rows, as cells (m,) that hold weight: `label`, `plain` and `point` are class indices.

    `squares` (k,) is the sum of the squared weights of each class's rows, None without weights. Amounts are summed over
    each label and whether each of the two decisions is the class `positive`: `amounts` and `amount_squares`
    (k, 2, 2), plain first. `information` and `known_prevalence` are as in `uncertainty.Table`.
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
    information: Float64[np.ndarray, "k"] | None = None
    known_prevalence: bool = False

    @classmethod
    def of(cls, plain: Int[np.ndarray, "n"], point: Int[np.ndarray, "n"], sample: Sample) -> "Paired":
        """What these decisions on these rows amount to."""
        k, w = sample.k, sample.weights
        codes, weight = _summed((sample.labels * k + plain) * k + point, w, k)
        amounts = squares = None
        if sample.amounts is not None:
            cells = 4 * sample.labels + 2 * (plain == sample.at_stake) + (point == sample.at_stake)
            amounts = np.bincount(cells, sample.amounts, 4 * k).reshape(k, 2, 2)
            squares = sample.amount_squares(cells, 4 * k).reshape(k, 2, 2)
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
        return Table(
            confusion, worth, self.cost_matrix, self.positive, amounts, squares, self.information, self.known_prevalence
        )

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
            known_prevalence=True,
        )

    def against_rest(self, index: int) -> "Paired":
        """Return the same decisions on one class (1) against the rest (0), without amounts and costs."""
        is_label, is_plain, is_point = (each == index for each in (self.label, self.plain, self.point))
        weight = np.bincount(4 * is_label + 2 * is_plain + is_point, self.weight, 8)
        cells = np.flatnonzero(weight)
        rows, effective = self.actual, self.table("plain").effective
        sides = (np.arange(self.k) != index, np.arange(self.k) == index)
        # One number of rows a unit of weight for each side, so that no information is left to be counted apart.
        worth = np.array([joint_worth(rows[side], effective[side]) for side in sides])
        squares = np.array([rows[side].sum() for side in sides]) / worth
        return Paired(
            2, cells // 4, cells // 2 % 2, cells % 2, weight[cells], squares, known_prevalence=self.known_prevalence
        )

    def draw(self, draws: int, rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
        """Draw counts (draws, k) of the plain model and of the point that these rows leave possible together, for each
        place of the doubt: 0 where the plain model alone is right, 1 where the point alone is.
        """
        k, actual = self.k, self.actual
        worth = self.table("plain").effective
        cells = rng.standard_gamma(self.weight * worth[self.label], size=(draws, self.weight.size))
        doubt = rng.standard_gamma(doubt_rows(k), size=(draws, k)) * (actual > 0)
        sums = doubt.copy()
        np.add.at(sums.T, self.label, cells.T)
        totals = np.stack(
            [
                class_totals(actual[c], worth[c], draws, rng, self.known_prevalence or bool(actual[c] == 0))
                for c in range(k)
            ],
            axis=1,
        )
        totals *= actual.sum() / totals.sum(axis=1, keepdims=True)
        scale = np.divide(totals, sums, out=np.zeros_like(sums), where=sums > 0)
        cells, doubt = cells * scale[:, self.label], doubt * scale
        seen = [self._decided(cells, totals, decided) for decided in (self.plain, self.point)]
        drawn = []
        for towards in corners(k):
            plain, point = (
                self._doubted(counts, doubt * right) for counts, right in zip(seen, (1 - towards, towards), strict=True)
            )
            drawn.append((self._wrongly(plain, doubt * towards), self._wrongly(point, doubt * (1 - towards))))
        if self.amounts is None or self.amount_squares is None:
            return drawn
        amounts = _draw_amounts(self.amounts, self.amount_squares, draws, rng)
        table = self.table("plain")
        of_plain, of_point = (
            table.amount_counts(_towards(amounts.sum(axis=1 + other), self.positive)) for other in (2, 1)
        )
        return [(replace(plain, amounts=of_plain), replace(point, amounts=of_point)) for plain, point in drawn]

    def _decided(
        self,
        cells: Float64[np.ndarray, "draws m"],
        totals: Float64[np.ndarray, "draws k"],
        decided: Int[np.ndarray, "m"],
    ) -> Counts:
        """The counts of the drawn cells alone under one of the two decisions."""
        hits, predicted = np.zeros_like(totals), np.zeros_like(totals)
        np.add.at(predicted.T, decided, cells.T)
        hit = decided == self.label
        np.add.at(hits.T, self.label[hit], cells.T[hit])
        cost = None if self.cost_matrix is None else cells @ self.cost_matrix[decided, self.label]
        return Counts(hits, predicted, totals, cost)

    def _doubted(self, counts: Counts, right: Float64[np.ndarray, "draws k"]) -> Counts:
        """The counts with weight of each class added that is decided rightly."""
        cost = counts.cost
        if cost is not None and self.cost_matrix is not None:
            cost = cost + right @ np.diagonal(self.cost_matrix)
        return replace(counts, hits=counts.hits + right, predicted=counts.predicted + right, cost=cost)

    def _wrongly(self, counts: Counts, wrong: Float64[np.ndarray, "draws k"]) -> Counts:
        """The counts with weight of each class added that is decided as some other class, evenly."""
        cost = counts.cost
        if cost is not None and self.cost_matrix is not None:
            cost = cost + wrong @ wrong_costs(self.cost_matrix)
        spread = (wrong.sum(axis=1, keepdims=True) - wrong) / (self.k - 1)
        return replace(counts, predicted=counts.predicted + spread, cost=cost)


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
    """Return how much better the point is than the plain model on the same rows, by metric: above 0 is better, also
    where the metric is minimised.
    """
    table = paired.table("point")
    plain, point = paired.table("plain").counts, table.counts
    draws = int(np.clip(_MOST_DRAWN // paired.weight.size, 200, _DRAWS))
    seed = int(rng.integers(2**63))
    drawn = paired.draw(draws, np.random.default_rng(seed))
    alone: dict[int, list[tuple[Counts, Counts]]] = {}
    known = bool((paired.actual > 0).all())  # of a class without rows it is unknown how they would be decided
    tail = (1 - confidence) / 2
    measured = {}
    for metric in metrics:
        value = float(metric.gain(point) - metric.gain(plain))
        of_class = metric.of_class if paired.k > 2 else None
        if of_class is not None and of_class not in alone:
            alone = {of_class: _of_class(paired, of_class, draws, seed)}  # of many classes only the last is kept
        pairs = drawn if of_class is None else alone[of_class]
        differences = [metric.gain(ours) - metric.gain(theirs) for theirs, ours in pairs]
        low, high = math.nan, math.nan
        if known:
            bounds = bounds_of if paired.k == 2 or of_class is not None else bounds_of_mean
            low, high = bounds(value, differences, tail, tail)
        measured[metric.name] = Interval(value, low, high, confidence, rows_of(metric, table), kind)
    return measured


def _of_class(paired: Paired, index: int, draws: int, seed: int) -> list[tuple[Counts, Counts]]:
    """Draws of one class against the rest, which stands in another class's column."""
    drawn = paired.against_rest(index).draw(draws, np.random.default_rng([seed, index + 1]))
    return [(beside_rest(plain, index, paired.k), beside_rest(point, index, paired.k)) for plain, point in drawn]


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
