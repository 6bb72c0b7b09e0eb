"""Intervals around the threshold-free measures of a model (`ranking`): pointwise, for new rows of the same kind.

A bootstrap would draw the rows again and again. Here each measure is first written as a sum of means over the rows of
each class, of one number per row: for log loss and Brier score that is what they are, for the ROC AUC and the average
precision it is their linear part, what a little more weight on that row does to them (for the AUC DeLong's placements).
Then the means are drawn, class by class: neighbours in the sorted rows go into some hundred bins, small at both ends,
and the weight of each bin is drawn from a gamma distribution with the mean and the variance that weights drawn row by
row would have (Rubin's Bayesian bootstrap); what varies inside a bin is added as normal noise. In two classes the
numbers all follow the margin, so they are computed for one row of each bin: 10^6 rows cost little more than a sort.

Where a model ranks without a fault all numbers are alike and no bootstrap ever draws a fault. So, as in `uncertainty`,
a row's worth of doubt is added to each class: half a row that lies where the other class does.

Source: DeLong, DeLong & Clarke-Pearson (1988); Rubin (1981), "The Bayesian bootstrap".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.logits import sigmoid
from calibrate.ranking import (
    Side,
    Weights,
    brier,
    log_loss,
    log_odds_of,
    losses_of_sides,
    ranks_of,
    row_losses,
    sides,
)
from calibrate.uncertainty import Interval, interval_of

MEASURES = ("roc_auc", "average_precision", "log_loss", "brier")
_DRAWS = 500
_BINS = 400
_FEWEST_BINS = 8
_Numbers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def measure_scores(
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    positive: int | None = None,
    weights: Weights = None,
    *,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """`threshold_free` with an interval around each measure, on rows with labels (n,) and weights (n,).

    NaN where a class has no rows. Raises: `NotFinite` where a margin of two classes overflows.

    >>> logits = np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 1.0], [0.0, 0.5], [0.0, -1.5]])
    >>> round(measure_scores(logits, np.array([0, 0, 1, 1, 1]))["roc_auc"].value, 3)
    0.833
    """
    rng = np.random.default_rng(0) if rng is None else rng
    k = logits.shape[1]
    values: tuple[float, ...]
    if k == 2:
        values, classes = _of_two(logits, labels, positive, weights)
    else:
        ranks, classes = _of_more(logits, labels, positive, weights)
        values = (*ranks, log_loss(logits, labels, weights), brier(logits, labels, weights))
    drawn = np.zeros((_DRAWS, len(MEASURES)))
    rows = 0.0
    for each in classes:
        rows += each.effective
        drawn += each.draw(rng)
    most = (1.0, 1.0, np.inf, 2.0 if k > 2 else 1.0)
    found = {}
    for name, value, draws, limit in zip(MEASURES, values, drawn.T, most, strict=True):
        low, high = interval_of(value, np.clip(value + draws, 0, limit), confidence)
        found[name] = Interval(value, low, high, confidence, round(rows), "held_out")
    return found


@dataclass(frozen=True, eq=False)
class _Binned:
    """The rows of a class in bins: for each measure the number of a bin `mean` (b, m), how much the rows inside the
    bins vary in all `spread` (m,), and how far from the mean half a row of doubt lies, `doubt` (m,). `weight` and
    `squares` (b, m or 1) are the sums of the weights in a bin and of their squares.
    """

    mean: Float64[np.ndarray, "b m"]
    spread: Float64[np.ndarray, "m"]
    doubt: Float64[np.ndarray, "m"]
    weight: Float64[np.ndarray, "b c"]
    squares: Float64[np.ndarray, "b c"]

    @cached_property
    def effective(self) -> float:
        """How many rows they are worth."""
        return float(self.weight[:, 0].sum() ** 2 / self.squares[:, 0].sum())

    def draw(self, rng: np.random.Generator) -> Float64[np.ndarray, "draws m"]:
        """How far the means are from what they are, drawn again and again."""
        total = self.weight.sum(axis=0)
        centre = (self.weight * self.mean).sum(axis=0) / total
        off = self.mean - centre
        scale = np.divide(self.squares, self.weight, out=np.zeros_like(self.weight), where=self.weight > 0)
        shape = np.divide(self.weight, scale, out=np.zeros_like(scale), where=scale > 0)
        drawn = rng.standard_gamma(shape, size=(_DRAWS, *shape.shape)) * scale
        half = rng.standard_gamma(0.5, size=(_DRAWS, 1)) * self.squares[:, :1].sum() / total[:1]
        sums = np.einsum("dbc,bm->dm", drawn, off) if drawn.shape[2] == 1 else (drawn * off).sum(axis=1)
        noise = rng.standard_normal((_DRAWS, self.spread.size)) * np.sqrt(self.spread)
        doubted = np.where(self.doubt == 0, 0.0, half)
        return np.asarray((sums + noise + doubted * self.doubt) / (drawn.sum(axis=1) + doubted))


def _starts(rows: int, bins: int) -> Int[np.ndarray, "b"]:
    """Where each bin of sorted rows begins: few rows in those at both ends."""
    if rows <= bins:
        return np.arange(rows)
    return np.unique((np.sin(np.linspace(0, np.pi / 2, bins + 1)[:-1]) ** 2 * rows).astype(np.int64))


def _of_two(
    logits: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, "n"], positive: int | None, weights: Weights
) -> tuple[tuple[float, ...], list[_Binned]]:
    """The four measures, and the rows of both sides in bins of neighbouring margins."""
    ranked, columns = log_odds_of(logits, positive)
    both = sides(next(iter(columns)), labels == ranked[0], weights)
    values = (*ranks_of(*both), *losses_of_sides(*both))
    if not all(side.margins.size for side in both):
        return values, []
    numbers = _Placements(*both)
    whole = sum(side.weight for side in both)
    binned = []
    for is_positive, side in zip((True, False), both, strict=True):
        starts = _starts(side.margins.size, _BINS)
        last = np.append(starts[1:], side.margins.size) - 1
        of = numbers.of_positives if is_positive else numbers.of_negatives
        share, sign = side.weight / whole, 1.0 if is_positive else -1.0

        def all_four(margins: np.ndarray, of: _Numbers = of, share: float = share, sign: float = sign) -> np.ndarray:
            toward = margins.astype(np.float64) * sign
            return np.stack([*of(margins), share * np.logaddexp(0, -toward), share * sigmoid(-toward) ** 2], axis=1)

        squares, weight = side.sums(starts, 2)[:, np.newaxis], side.sums(starts)[:, np.newaxis]
        mean = all_four(side.margins[(starts + last) // 2])
        across = all_four(side.margins[last]) - all_four(side.margins[starts])
        other = both[1] if is_positive else both[0]
        places = other.margins[np.linspace(0, other.margins.size - 1, min(_BINS, other.margins.size)).astype(np.int64)]
        doubt = all_four(places).mean(axis=0) - (weight * mean).sum(axis=0) / weight.sum()
        doubt[2:] = 0
        binned.append(_Binned(mean, (squares * across**2).sum(axis=0) / 12, doubt, weight, squares))
    return values, binned


def _of_more(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], positive: int | None, weights: Weights
) -> tuple[tuple[float, float], list[_Binned]]:
    """The two measures of ranking, macro means unless `positive` is given, and the rows of each class in bins, which
    are other bins for each measure.
    """
    k = logits.shape[1]
    weight = np.bincount(labels, weights, k).astype(np.float64)
    whole = float(weight.sum())
    ranked, columns = log_odds_of(logits, positive)
    numbers, doubt, ranks = np.zeros((4, labels.size)), np.zeros((k, 4)), []
    for index, odds in zip(ranked, columns, strict=True):
        is_positive = labels == index
        both = sides(odds, is_positive, weights)
        ranks.append(ranks_of(*both))
        if not all(side.margins.size for side in both):
            continue
        placed = _Placements(*both)
        of_rest = weight[labels[~is_positive]] / (whole - weight[index])
        numbers[:2, is_positive] += placed.of_positives(odds[is_positive])
        numbers[:2, ~is_positive] += np.multiply(placed.of_negatives(odds[~is_positive]), of_rest)
        here, there = placed.of_positives(both[0].margins), placed.of_positives(both[1].margins)
        doubt[index, :2] = [np.mean(there[i]) - np.mean(here[i]) for i in range(2)]
    numbers[:2] /= len(ranked)
    doubt /= len(ranked)
    numbers[2:] = np.multiply(row_losses(logits, labels), (weight / whole)[labels])
    places = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=k))[:-1])
    binned = [
        _in_bins(numbers[:, rows], None if weights is None else weights[rows], doubt[index], 2 * _BINS // k)
        for index, rows in enumerate(places)
        if weight[index] > 0
    ]
    auc, precision = np.mean(ranks, axis=0).tolist()
    return (auc, precision), binned


def _in_bins(
    numbers: Float64[np.ndarray, "4 n"], weights: Weights, doubt: Float64[np.ndarray, "4"], bins: int
) -> _Binned:
    starts = _starts(numbers.shape[1], max(_FEWEST_BINS, bins))
    sizes = np.diff(np.append(starts, numbers.shape[1]))
    order = np.argsort(numbers, axis=1)
    values = np.take_along_axis(numbers, order, axis=1)
    w = np.ones_like(values) if weights is None else weights[order]
    first = values[:, starts]
    inside = values - np.repeat(first, sizes, axis=1)
    weight, squares = np.add.reduceat(w, starts, axis=1), np.add.reduceat(w**2, starts, axis=1)
    moved = np.add.reduceat(w * inside, starts, axis=1)
    mean = np.divide(moved, weight, out=np.zeros_like(weight), where=weight > 0)
    around = w * (inside - np.repeat(mean, sizes, axis=1))
    return _Binned((first + mean).T, (around**2).sum(axis=1), doubt, weight.T, squares.T)


class _Placements:
    """What a row of either side does to the ROC AUC and to the average precision from where it lies, up to a constant;
    as numbers whose means over the rows of their side move as the measures do.
    """

    def __init__(self, positives: Side, negatives: Side) -> None:
        self._positives, self._negatives = positives, negatives
        hits = positives.weight_not_below(positives.margins)
        alerts = hits + negatives.weight_not_below(positives.margins)
        # What a row at or above each positive adds to that one's precision, summed up over the positives below.
        weights = positives.row_weights
        added, taken = weights * (alerts - hits) / alerts**2, weights * hits / alerts**2
        self._added, self._taken = (np.concatenate([[0.0], np.cumsum(each)]) for each in (added, taken))

    def of_positives(self, margins: Float[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
        """Of a positive at each of these margins (n,)."""
        alarms, over = self._negatives.weight_not_below(margins), self._negatives.weight_above(margins)
        hits = self._positives.weight_not_below(margins)
        alerts = hits + alarms
        precision = np.divide(hits, alerts, out=np.zeros_like(alerts), where=alerts > 0)
        wins = 1 - (alarms + over) / (2 * self._negatives.weight)
        return wins, precision + self._added[np.searchsorted(self._positives.margins, margins, "right")]

    def of_negatives(self, margins: Float[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
        """Of a negative at each of these margins (n,)."""
        positives, every = self._positives, self._positives.weight
        losses = (positives.weight_not_below(margins) + positives.weight_above(margins)) / (2 * every)
        passed = np.searchsorted(positives.margins, margins, side="right")
        return losses, -self._negatives.weight / every * self._taken[passed]
