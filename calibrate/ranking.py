"""Threshold-free measures of the plain model: what it is worth before any operating point is chosen.

They are reported beside a point and do not depend on it: how well a margin ranks the rows (ROC AUC, average precision)
and how true its probabilities are (log loss, Brier score). Decided here: all take row weights, and a row of weight 0 is
no row. The cost of a miss on each positive and of a false alarm on each negative as weights give the cost-weighted
forms. A measure without rows to stand on is NaN, and so is a macro mean over it. Classes are ranked by their log-odds,
not by their probabilities, which saturate and then tie rows that the model tells apart.

The two sides are sorted apart (`np.sort` is vectorised) and counted with `searchsorted`, as in the exact sweeps. The
sums of the unweighted ROC AUC are whole numbers that float64 holds up to 10^8 rows: it is exact to its one division.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from calibrate.logits import binary_margins, softmax

_CHUNK_CELLS = 1 << 20
_CHUNK_ROWS = 16_384

Weights = Float64[np.ndarray, "n"] | None


@dataclass(frozen=True, eq=False)
class Side:
    """The rows of one side: margins ascending, and their weights; None where every row counts once."""

    margins: Float[np.ndarray, "m"]
    weights: Float64[np.ndarray, "m"] | None = None

    @cached_property
    def _weight_from(self) -> Float64[np.ndarray, "m1"]:
        return np.concatenate([np.cumsum(self.row_weights[::-1])[::-1], [0.0]])

    @property
    def row_weights(self) -> Float64[np.ndarray, "m"]:
        """The weight of each row, 1 without weights."""
        return np.ones(self.margins.size) if self.weights is None else self.weights

    @property
    def weight(self) -> float:
        """The weight of all rows."""
        return float(self.weight_from(np.zeros(1, np.intp))[0])

    def weight_from(self, places: Int[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
        """The weight of the row at each place and of all rows above it; 0 at the place behind the last."""
        if self.weights is None:
            return np.asarray(self.margins.size - places, dtype=np.float64)
        return np.asarray(self._weight_from[places])

    def weight_not_below(self, margins: Float[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
        """The weight of the rows at or above each of these margins (p,)."""
        return self.weight_from(np.searchsorted(self.margins, margins, side="left"))

    def weight_above(self, margins: Float[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
        """The weight of the rows above each of these margins (p,)."""
        return self.weight_from(np.searchsorted(self.margins, margins, side="right"))

    def sums(self, starts: Int[np.ndarray, "b"], power: int = 1) -> Float64[np.ndarray, "b"]:
        """The sum of the weights, to a power, from each start to the next."""
        if self.weights is None:
            return np.diff(np.append(starts, self.margins.size)).astype(np.float64)
        return np.add.reduceat(self.weights**power, starts)


def roc_auc(margins: Float[np.ndarray, "n"], is_positive: Bool[np.ndarray, "n"], weights: Weights = None) -> float:
    """The probability that a positive outranks a negative, a tie counting half; each drawn by its weight.

    `margins` (n,) are compared in the type they come in, `weights` (n,) are >= 0. NaN where a side has no weight.

    Source: Hanley & McNeil (1982): the area under the ROC curve is the Mann-Whitney statistic.

    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    return _roc_auc(*sides(margins, is_positive, weights))


def average_precision(
    margins: Float[np.ndarray, "n"], is_positive: Bool[np.ndarray, "n"], weights: Weights = None
) -> float:
    """The precision at each distinct margin, weighted by the recall gained there: no interpolation, ties enter at once.

    `margins` (n,) are compared in the type they come in, `weights` (n,) are >= 0. NaN where no positive has weight.

    Source: scikit-learn's `average_precision_score`, the sum of (R_i - R_(i-1)) P_i.
    """
    return _average_precision(*sides(margins, is_positive, weights))


def log_loss(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights = None) -> float:
    """The mean of -log softmax at the labels (n,), from the logits, so that nothing is clipped. NaN without weight."""
    return _mean(log_losses, logits, labels, weights)


def brier(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights = None) -> float:
    """The mean squared distance of the probabilities from the labels (n,). NaN without weight.

    Two classes: (p1 - y)^2, at most 1. More: the sum over the classes, at most 2.

    Source: Brier (1950); the halving in two classes is that of scikit-learn's `brier_score_loss`.
    """
    return _mean(_briers, logits, labels, weights)


def threshold_free(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], positive: int | None = None, weights: Weights = None
) -> dict[str, float]:
    """`roc_auc`, `average_precision`, `log_loss` and `brier` of the plain model on rows with labels (n,).

    The first two are those of class `positive` against the rest. Unless it is given they are those of the second class
    in two, and in more the macro mean over the classes: NaN where a class has no rows.

    Raises: `NotFinite` where a margin of two classes overflows.
    """
    ranked, columns = log_odds_of(logits, positive)
    ranks = []
    for index, odds in zip(ranked, columns, strict=True):
        both = sides(odds, labels == index, weights)
        ranks.append(ranks_of(*both))
    auc, precision = np.mean(ranks, axis=0).tolist()
    return {
        "roc_auc": auc,
        "average_precision": precision,
        "log_loss": log_loss(logits, labels, weights),
        "brier": brier(logits, labels, weights),
    }


def log_odds_of(
    logits: Float[np.ndarray, "n k"], positive: int | None
) -> tuple[list[int], Iterable[Float[np.ndarray, "n"]]]:
    """The classes that are ranked against the rest, and the log-odds of each: `positive` alone, unless it is given the
    second of two classes, and all of more.
    """
    k = logits.shape[1]
    ranked = list(range(k)) if positive is None and k > 2 else [1 if positive is None else positive]
    mirror = 1 if ranked == [1] else -1
    return ranked, [binary_margins(logits) * mirror] if k == 2 else log_odds(logits, ranked)


def ranks_of(positives: Side, negatives: Side) -> tuple[float, float]:
    """The ROC AUC and the average precision of two sides."""
    return _roc_auc(positives, negatives), _average_precision(positives, negatives)


def row_losses(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """What each row (n,) puts into the log loss and into the Brier score."""
    parts = [(log_losses(logits[rows], labels[rows]), _briers(logits[rows], labels[rows])) for rows in _chunks(logits)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def sides(margins: Float[np.ndarray, "n"], is_positive: Bool[np.ndarray, "n"], weights: Weights) -> tuple[Side, Side]:
    """The positives and the negatives that have weight."""
    if weights is None:
        return _side(margins[is_positive], None), _side(margins[~is_positive], None)
    positives, negatives = is_positive & (weights > 0), ~is_positive & (weights > 0)
    return _side(margins[positives], weights[positives]), _side(margins[negatives], weights[negatives])


def _side(margins: Float[np.ndarray, "m"], weights: Float64[np.ndarray, "m"] | None) -> Side:
    if weights is None:
        margins.sort()  # a copy already: the rows of one side were picked out
        return Side(margins)
    order = np.argsort(margins)
    return Side(margins[order], weights[order])


def _roc_auc(positives: Side, negatives: Side) -> float:
    few, many = (positives, negatives) if positives.margins.size <= negatives.margins.size else (negatives, positives)
    if not few.margins.size:
        return math.nan
    not_below, above = many.weight_not_below(few.margins), many.weight_above(few.margins)
    # Twice the weight of the pairs that `many` wins, and of all; summed alike, so that rounding keeps the share <= 1,
    # and with one side's weights scaled, so that no product of two is out of range.
    scaled = few.row_weights / few.row_weights.max()
    won, pairs = float((scaled * (not_below + above)).sum()), float((scaled * (2 * many.weight)).sum())
    return (won if many is positives else pairs - won) / pairs


def _average_precision(positives: Side, negatives: Side) -> float:
    if not positives.margins.size:
        return math.nan
    hits, false_alarms = (side.weight_not_below(positives.margins) for side in (positives, negatives))
    precision = hits / (hits + false_alarms)
    weights = positives.row_weights
    return float((weights * precision).sum() / weights.sum())


def losses_of_sides(positives: Side, negatives: Side) -> tuple[float, float]:
    """The log loss and the Brier score of two classes whose margins lie in two sides: one exponential a row.

    Both are NaN without weight.
    """
    log_loss_sums, brier_sums = [], []
    for side, sign in ((positives, 1.0), (negatives, -1.0)):
        for start in range(0, side.margins.size, _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            toward = side.margins[rows].astype(np.float64) * sign
            small = np.exp(-np.abs(toward))
            losses = np.log1p(small) - np.minimum(toward, 0)
            squares = (np.where(toward < 0, 1.0, small) / (1 + small)) ** 2  # of the other class's probability
            if side.weights is not None:
                losses *= side.weights[rows]
                squares *= side.weights[rows]
            log_loss_sums.append(float(losses.sum()))
            brier_sums.append(float(squares.sum()))
    total = positives.weight + negatives.weight
    return (math.fsum(log_loss_sums) / total, math.fsum(brier_sums) / total) if total else (math.nan, math.nan)


def log_odds(logits: Float[np.ndarray, "n k"], classes: list[int]) -> Iterator[Float64[np.ndarray, "n"]]:
    """The log-odds `z_c - logsumexp(other z)` of each class c in turn, from three numbers a row.

    A row's sums are taken in the order of size, so rows that hold the same logits in another order tie exactly.
    """
    top, total, lead = np.empty((3, logits.shape[0]))
    for rows in _chunks(logits):
        ordered = np.sort(logits[rows].astype(np.float64), axis=1)
        top[rows], second = ordered[:, -1], ordered[:, -2]
        total[rows] = np.exp(ordered - ordered[:, -1:]).sum(axis=1)
        lead[rows] = top[rows] - second - np.log(np.exp(ordered[:, :-1] - ordered[:, -2:-1]).sum(axis=1))
    for index in classes:
        behind = logits[:, index].astype(np.float64) - top
        # For the top class itself the difference would cancel; for any other at least 1, the top's share, remains.
        rest = np.where(behind == 0, 1.0, total - np.exp(behind))
        yield np.where(behind == 0, lead, behind - np.log(rest))


def log_losses(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """-log softmax at the label of each row, (n,), from the logits, so that nothing is clipped."""
    rows = np.arange(labels.size)
    top = logits.argmax(axis=1)
    behind = logits.astype(np.float64) - logits[rows, top, np.newaxis]
    others = np.exp(behind)
    others[rows, top] = 0.0
    return np.asarray(np.log1p(others.sum(axis=1)) - behind[rows, labels])


def _briers(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    distances = softmax(logits)
    distances[np.arange(labels.size), labels] -= 1
    return np.asarray((distances**2).sum(axis=1) / (2 if logits.shape[1] == 2 else 1))


def _mean(
    of_rows: Callable[[np.ndarray, np.ndarray], np.ndarray],
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    weights: Weights,
) -> float:
    """The weighted mean of a number per row, by chunks of rows."""
    sums, shares = [], []
    for rows in _chunks(logits):
        values = of_rows(logits[rows], labels[rows])
        share = np.ones(values.size) if weights is None else weights[rows]
        sums.append(float((values * share).sum()))
        shares.append(float(share.sum()))
    total = math.fsum(shares)
    return math.fsum(sums) / total if total else math.nan


def _chunks(logits: Float[np.ndarray, "n k"]) -> Iterator[slice]:
    n, k = logits.shape
    step = max(1, _CHUNK_CELLS // k)
    return (slice(start, start + step) for start in range(0, n, step))
