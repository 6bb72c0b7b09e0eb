"""Exact sweeps: the best cut for a metric over every cut there is, not over a grid.

Binary: a metric that never falls when a false alarm is taken away is best just below some positive's margin, or where
nothing is predicted. So the positives and the negatives are sorted apart (`np.sort` is vectorised, `argsort` is not)
and counted with `searchsorted` at P + 1 cuts, however many negatives there are. Only exactly equal margins are tied.

More classes: raising one class's bias moves each row to that class once, so one class is swept exactly with the others
held; `coordinate_ascent` goes round the classes from several starts and is never worse than any of them.

Ties in the metric go to fewer rows decided as the swept class; the cut is then placed midway.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from calibrate.counts import Counts
from calibrate.errors import UndefinedMetric
from calibrate.metrics import Metric

_CHUNK_CUTS = 65_536
_LEAST_GAIN = 1e-9


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

    def mirrored(self) -> "Cut":
        """The same place on the negated margin."""
        return Cut(-self.upper, -self.lower)


def _beyond(margin: float) -> float:
    return max(1.0, abs(margin) / 1024)


def sweep_cut(margins: Float[np.ndarray, "n"], is_positive: Bool[np.ndarray, "n"], metric: Metric) -> Cut:
    """The best cut on a margin that points towards `metric.positive`: rows above it are decided positive.

    `margins` (n,) are compared in the type they come in. Ties go to fewer alerts.

    Raises: `UndefinedMetric` where the metric is 0/0 at every cut.
    """
    positives, negatives = np.sort(margins[is_positive]), np.sort(margins[~is_positive])
    first_of_run = np.concatenate([[True], positives[1:] != positives[:-1]])[: positives.size]
    lowest_alerts = positives[first_of_run][::-1]
    if not positives.size or (negatives.size and negatives[-1] > positives[-1]):
        # Where no alert is undefined (0/0), the fewest false alarms may be best.
        lowest_alerts = np.concatenate([negatives[-1:], lowest_alerts])
    fewer_positives = np.searchsorted(positives, lowest_alerts, side="left")
    fewer_negatives = np.searchsorted(negatives, lowest_alerts, side="left")
    # The cuts, from no alert downwards: how many of each side lie below them.
    positives_below = np.concatenate([[positives.size], fewer_positives])
    negatives_below = np.concatenate([[negatives.size], fewer_negatives])
    counts = Counts.of_binary(
        positives.size - positives_below,
        negatives.size - negatives_below,
        positives.size,
        negatives.size,
        metric.positive,
    )
    best = _first_best(metric.value(counts), metric)
    below = [*positives[: positives_below[best]][-1:], *negatives[: negatives_below[best]][-1:]]
    return Cut(
        float(max(below)) if below else -np.inf,
        float(lowest_alerts[best - 1]) if best else np.inf,
    )


def sweep_class(
    scores: Float64[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], index: int, metric: Metric
) -> tuple[Cut, float]:
    """The best bias of one class, added to its scores while the others are held, and the metric it reaches.

    Row i goes to the class when the bias exceeds `gap_i`, the lead of the best other class over it. Exact over all
    gaps that a float64 bias can tell apart, O(n log n + n k) in time, and in memory a chunk of cuts at a time.

    Raises: `UndefinedMetric`.
    """
    n, k = scores.shape
    others = scores.copy()
    others[:, index] = -np.inf
    runners = others.argmax(axis=1)
    leads = others[np.arange(n), runners]
    gaps = leads - scores[:, index]
    resolution = 4 * np.spacing(np.maximum(np.abs(leads), np.abs(scores[:, index])))
    order = np.argsort(gaps, kind="stable")
    gaps, runners, labels, resolution = gaps[order], runners[order], labels[order], resolution[order]
    actual = np.bincount(labels, minlength=k).astype(np.float64)
    hits = np.bincount(labels[labels == runners], minlength=k).astype(np.float64)
    predicted = np.bincount(runners, minlength=k).astype(np.float64)
    # A bias can only tell two rows apart whose gaps differ by more than the rounding of the scores it is added to.
    distinct = np.concatenate([[True], np.diff(gaps) > np.maximum(resolution[1:], resolution[:-1]), [True]])
    best_value, best_moved = -np.inf, -1
    for start in range(0, n + 1, _CHUNK_CUTS):
        stop = min(start + _CHUNK_CUTS, n + 1)
        rows = np.arange(start, min(stop, n))
        moved_hits, moved_predicted = _moves(labels[rows], runners[rows], index, k)
        at_hits = np.vstack([hits, hits + moved_hits])
        at_predicted = np.vstack([predicted, predicted + moved_predicted])
        values = metric.value(Counts(at_hits[: stop - start], at_predicted[: stop - start], actual))
        values = np.where(distinct[start:stop] & ~np.isnan(values), values, -np.inf)
        top = int(values.argmax())
        if values[top] > best_value:
            best_value, best_moved = float(values[top]), start + top
        hits, predicted = at_hits[-1], at_predicted[-1]
    if best_moved < 0:
        raise UndefinedMetric(f"metric '{metric.name}' is undefined (0/0) at every cut")
    lower = float(gaps[best_moved - 1]) if best_moved else -np.inf
    upper = float(gaps[best_moved]) if best_moved < n else np.inf
    return Cut(lower, upper), best_value


def coordinate_ascent(
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    metric: Metric,
    starts: Iterable[Float64[np.ndarray, "k"]],
) -> Float64[np.ndarray, "k"]:
    """A bias per class that no one-class sweep improves, the best over all starts; never worse than a start.

    A move is kept only if the metric gains when the decisions are taken again from scratch, so rounding cannot lie.
    It ends because every round but the last gains at least 1e-9 and a metric is at most 1.

    Raises: `UndefinedMetric` where the metric is 0/0 at every start and every cut from it.
    """
    z = logits.astype(np.float64)
    best_bias, best_value = None, -np.inf
    for start in starts:
        bias = start.astype(np.float64)
        value, before = bias_value(z, labels, metric, bias), None
        while before is None or value > before + _LEAST_GAIN:
            before = value
            for index in range(z.shape[1]):
                moved = _sweep_bias(z, labels, index, metric, bias)
                reached = -np.inf if moved is None else bias_value(z, labels, metric, moved)
                if moved is not None and reached > value:
                    bias, value = moved, reached
        if value > best_value:
            best_bias, best_value = bias, value
    if best_bias is None:
        raise UndefinedMetric(f"metric '{metric.name}' is undefined (0/0) at every cut")
    return best_bias


def bias_value(
    logits: Float64[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    metric: Metric,
    bias: Float64[np.ndarray, "k"],
) -> float:
    """The metric when rows are decided by `argmax(z + bias)`, minus infinity where it is undefined."""
    decided = (logits + bias).argmax(axis=1)
    value = float(metric.value(Counts.of(labels, decided, logits.shape[1])))
    return -np.inf if np.isnan(value) else value


def _sweep_bias(
    z: Float64[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    index: int,
    metric: Metric,
    bias: Float64[np.ndarray, "k"],
) -> Float64[np.ndarray, "k"] | None:
    moved = bias.copy()
    moved[index] = 0.0
    try:
        cut, _ = sweep_class(z + moved, labels, index, metric)
    except UndefinedMetric:
        return None
    moved[index] = cut.at()
    return moved


def _moves(
    labels: Int[np.ndarray, "m"], runners: Int[np.ndarray, "m"], index: int, k: int
) -> tuple[Float64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """What moving the first 1, 2, ... rows to the class changes in hits and predicted, per class."""
    rows = np.arange(labels.size)
    hits = np.zeros((labels.size, k))
    hits[rows, runners] -= labels == runners
    hits[rows, index] += labels == index
    predicted = np.zeros((labels.size, k))
    predicted[rows, runners] -= 1
    predicted[rows, index] += 1
    return hits.cumsum(axis=0), predicted.cumsum(axis=0)


def _first_best(values: Float64[np.ndarray, "cuts"], metric: Metric) -> int:
    if np.isnan(values).all():
        raise UndefinedMetric(f"metric '{metric.name}' is undefined (0/0) at every cut")
    return int(np.nanargmax(values))
