"""Confusion counts: all that a metric may look at.

Per class, how many rows were hit, predicted and actual is enough for every named metric (only a cost matrix needs more:
the total cost of the decisions), so a sweep over any number of cuts is a few small arrays. Counts are sums of row
weights, so parts of the data, counted apart, add up to the whole. The same counts with each row's amount at stake as
its weight are `amounts`: that is all that costs per row need.

An empty cell is exactly 0, so that 0/0 is undefined and never a ratio of two rounding errors. No threshold decides
which cells are empty; two rules leave nothing to be rounded:

- Weights are whole multiples of one power of two, 2^-52 to 2^-51 of their sum (`summable`). So every sum and difference
  of weights is exact in float64, in any order and over any parts, and a cell is 0 if and only if it has no row. The
  rounding moves a weight by at most 2^-52 of the sum and makes none 0: a cell with one row of tiny weight is not lost.
- In two classes the true negatives are the hits of the other class. They are read, not computed as the rows less all
  other cells, so they are also right for counts that are not sums of weights: expected and drawn ones, and those at
  another prevalence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int

_SUM_BITS = 52  # of the 53 of float64: one is left for what rounding adds to the sum

# NumPy makes a scalar of an array without axes whenever it computes with it.
if TYPE_CHECKING:
    Values = Float64[np.ndarray, "..."]
else:
    Values = Float64[np.ndarray, "..."] | np.float64


@dataclass(frozen=True, eq=False)
class Cells:
    """The four cells of one class against the rest: arrays of one shape, or that broadcast to one."""

    tp: Values
    fp: Values
    fn: Values
    tn: Values

    @property
    def n(self) -> Values:
        """All rows."""
        return np.asarray(self.tp + self.fp + self.fn + self.tn)


@dataclass(frozen=True, eq=False)
class Counts:
    """Rows per class, at one cut (k,) or at many (..., k): float64, so that weights and quotients fit.

    `hits` are rows of the class decided as it, `predicted` all rows decided as it, `actual` (k,) all rows of it. `cost`
    is the total cost of the decisions under a cost matrix, `amounts` the same counts of the amounts at stake; both
    only where there is such a thing.
    """

    hits: Float64[np.ndarray, "*cuts k"]
    predicted: Float64[np.ndarray, "*cuts k"]
    actual: Float64[np.ndarray, "... k"]
    cost: Float64[np.ndarray, "*cuts"] | None = None
    amounts: "Counts | None" = None

    @property
    def rows(self) -> Values:
        """All rows."""
        return np.asarray(self.actual.sum(axis=-1))

    @property
    def cells(self) -> Cells:
        """Each class against the rest, (..., k)."""
        if self.hits.shape[-1] == 2:
            missed = self.actual - self.hits
            return Cells(self.hits, missed[..., ::-1], missed, self.hits[..., ::-1])
        return cells_of(self.hits, self.predicted, self.actual, self.rows[..., np.newaxis])

    def cells_at(self, index: int) -> Cells:
        """One class against the rest, (...)."""
        if self.hits.shape[-1] == 2:
            tp, tn = self.hits[..., index], self.hits[..., 1 - index]
            fp, fn = self.actual[..., 1 - index] - tn, self.actual[..., index] - tp
            return Cells(*map(np.asarray, (tp, fp, fn, tn)))
        return cells_of(self.hits[..., index], self.predicted[..., index], self.actual[..., index], self.rows)

    def costed(self, cost_matrix: Float64[np.ndarray, "2 2"]) -> "Counts":
        """The same counts of two classes with their total cost; of more, hits and predictions do not tell it."""
        c = self.cells_at(1)
        (tn, fn), (fp, tp) = cost_matrix
        return replace(self, cost=np.asarray(c.tp * tp + c.fp * fp + c.fn * fn + c.tn * tn))

    @classmethod
    def of(
        cls,
        labels: Int[np.ndarray, "n"],
        decided: Int[np.ndarray, "n"],
        classes: int,
        *,
        weights: Float64[np.ndarray, "n"] | None = None,
        amounts: Float64[np.ndarray, "n"] | None = None,
        cost_matrix: Float64[np.ndarray, "k k"] | None = None,
    ) -> "Counts":
        """Counts of one set of decisions; `cost_matrix` has a row for each decision, a column for each true class."""
        hit = labels == decided
        if cost_matrix is not None:
            costs = cost_matrix[decided, labels]
        return cls(
            np.bincount(labels[hit], None if weights is None else weights[hit], classes).astype(np.float64),
            np.bincount(decided, weights, classes).astype(np.float64),
            np.bincount(labels, weights, classes).astype(np.float64),
            None if cost_matrix is None else np.asarray(costs.sum() if weights is None else costs @ weights),
            None if amounts is None else cls.of(labels, decided, classes, weights=amounts),
        )

    @classmethod
    def of_confusion(
        cls,
        confusion: Float[np.ndarray, "*cuts k k"] | Int[np.ndarray, "k k"],
        *,
        cost_matrix: Float64[np.ndarray, "k k"] | None = None,
        amounts: Float[np.ndarray, "*cuts k k"] | None = None,
    ) -> "Counts":
        """Counts of confusion matrices, rows the labels and columns the decisions."""
        return cls(
            np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64),
            confusion.sum(axis=-2).astype(np.float64),
            confusion.sum(axis=-1).astype(np.float64),
            None if cost_matrix is None else np.asarray((confusion * cost_matrix.T).sum(axis=(-2, -1))),
            None if amounts is None else cls.of_confusion(amounts),
        )

    @classmethod
    def of_binary(
        cls,
        tp: Values,
        fp: Values,
        positives: float,
        negatives: float,
        positive: int,
    ) -> "Counts":
        """Counts of two classes at many cuts, `positive` (0 or 1) being the index of the positive class."""
        hits, predicted = np.empty((*np.shape(tp), 2)), np.empty((*np.shape(tp), 2))
        hits[..., positive], hits[..., 1 - positive] = tp, negatives - fp
        predicted[..., positive] = tp + fp
        predicted[..., 1 - positive] = positives + negatives - predicted[..., positive]
        actual = np.array([negatives, positives] if positive == 1 else [positives, negatives], dtype=np.float64)
        return cls(hits, predicted, actual)


def stacked(parts: Sequence[Counts]) -> Counts:
    """Counts of several decision rules on the same rows as one, so that a metric is computed for all at once."""
    first = parts[0]
    return Counts(
        np.stack([part.hits for part in parts]),
        np.stack([part.predicted for part in parts]),
        first.actual,
        None if first.cost is None else np.array([part.cost for part in parts]),
        None if first.amounts is None else stacked([part.amounts for part in parts if part.amounts is not None]),
    )


def summable(weights: Float64[np.ndarray, "n"], total: float | None = None) -> Float64[np.ndarray, "n"]:
    """Return the weights rounded so that all their sums are exact in float64: to multiples of a power of two.

    Args:
    - `weights` (n,): at least 0. A weight above 0 stays above 0.
    - `total`: the sum of all weights where these are a part of them; their own sum without it.

    >>> rounded = summable(np.array([0.1, 0.2, 0.7]))
    >>> float(rounded.sum() - rounded[2] - rounded[1] - rounded[0])
    0.0
    """
    whole = float(weights.sum()) if total is None else total
    unit = float(np.ldexp(1.0, math.frexp(whole)[1] - _SUM_BITS)) if math.isfinite(whole) else 0.0
    if unit == 0:  # sums that overflow, or that float64 holds few digits of
        return weights
    multiples = np.rint(weights / unit)
    return np.asarray(np.where(weights > 0, np.maximum(multiples, 1.0), multiples) * unit)


def cells_of(hits: Values, predicted: Values, actual: Values, rows: Values | float) -> Cells:
    """Return the four cells from what was hit, predicted and actual among `rows`; exact for `summable` weights."""
    cells = (hits, predicted - hits, actual - hits, rows - actual - predicted + hits)
    return Cells(*map(np.asarray, cells))


def confusion_matrix(
    labels: Int[np.ndarray, "n"],
    decided: Int[np.ndarray, "n"],
    classes: int,
    weights: Float64[np.ndarray, "n"] | None = None,
) -> Float64[np.ndarray, "k k"]:
    """The weight with which each class (row) was decided as each class (column)."""
    cells = np.bincount(labels * classes + decided, weights, classes * classes)
    return cells.reshape(classes, classes).astype(np.float64)


def rows_by_class(
    labels: Int[np.ndarray, "n"], classes: int, weights: Float64[np.ndarray, "n"] | None = None
) -> Float64[np.ndarray, "k"]:
    """The rows of each class, by weight where there are weights."""
    if classes == 2 and weights is None:  # counting the ones takes a fifth of the time of `bincount`
        ones = np.count_nonzero(labels)
        return np.array([labels.size - ones, ones], dtype=np.float64)
    return np.bincount(labels, weights, classes).astype(np.float64)
