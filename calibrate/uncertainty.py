"""Intervals around measured metrics.

A share of rows has the exact interval of Clopper and Pearson. For everything else the rates at which each true class is
decided as each class are drawn from their posterior under Jeffreys' prior, `Dirichlet(counts + 1/k)`, class by class,
with the number of rows of each class held. It is the stratified bootstrap of the rows with one row's worth of doubt
added, and that is the point: where every positive is found, the plain bootstrap never draws a miss. In simulation (38
positives, true recall 0.99) its 95 % interval of the G-mean covered 31 to 79 %, this one 96 to 97 %; `tests/statistics`
holds such cases. All of it is pointwise: each interval covers its own number, not all of them at once.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from calibrate.counts import Counts
from calibrate.metrics import Metric

Kind = Literal["held_out", "cross_fitted", "certified", "submitted"]
_DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A measured number: its value, the interval around it at `confidence`, and where it comes from.

    `rows` is how many rows it rests on (for recall the positives, for precision the alerts). `kind` says which rows:
    `held_out` did not fit this point, `cross_fitted` scores the procedure and not this very point, `certified` is a
    guarantee, `submitted` came from outside. NaN where undefined.
    """

    value: float
    low: float
    high: float
    confidence: float
    rows: int
    kind: Kind

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, None for NaN."""
        return {
            "value": _or_none(self.value),
            "low": _or_none(self.low),
            "high": _or_none(self.high),
            "confidence": self.confidence,
            "rows": self.rows,
            "kind": self.kind,
        }


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share; (NaN, NaN) without trials.

    Source: Clopper & Pearson (1934), in the form of beta quantiles.
    """
    from scipy.special import betaincinv  # takes 0.4 s to import, and a server is ready before it needs it

    if trials == 0:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


def draw_counts(confusion: Int[np.ndarray, "k k"], draws: int, rng: np.random.Generator) -> Counts:
    """Counts (draws, k) that might as well have been seen, the number of rows of each true class kept.

    The cells that hold nothing share their part of the prior evenly, in one draw: k may be a thousand.
    """
    k = confusion.shape[0]
    hits, predicted = np.zeros((draws, k)), np.zeros((draws, k))
    for label in range(k):
        row = confusion[label]
        if not row.any():
            continue
        empty = np.flatnonzero((row == 0) & (np.arange(k) != label))
        seen = np.setdiff1d(np.arange(k), empty)
        weights = np.append(row[seen] + 1 / k, empty.size / k) if empty.size else row[seen] + 1 / k
        rates = rng.dirichlet(weights, size=draws) * row.sum()
        predicted[:, seen] += rates[:, : seen.size]
        if empty.size:
            predicted[:, empty] += rates[:, -1:] / empty.size
        hits[:, label] = rates[:, np.searchsorted(seen, label)]
    return Counts(hits, predicted, confusion.sum(axis=1).astype(np.float64))


def measure(
    confusion: Int[np.ndarray, "k k"],
    metrics: Iterable[Metric],
    kind: Kind,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Each metric of a confusion matrix (rows the labels, columns the decisions) with its interval, by name."""
    counts = Counts.of_confusion(confusion)
    drawn_counts = draw_counts(confusion, _DRAWS, rng)
    found = {}
    for metric in metrics:
        value, rows = float(metric.value(counts)), int(confusion.sum())
        if metric.rate is not None:
            successes, rows = int(metric.rate.successes(counts)), int(metric.rate.trials(counts))
            low, high = clopper_pearson(successes, rows, confidence)
        else:
            drawn = metric.value(drawn_counts)
            drawn = drawn[~np.isnan(drawn)]
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            low, high = math.nan, math.nan
            if drawn.size and not math.isnan(value):  # at an end of the scale the draws may all lie to one side
                low, high = np.quantile(drawn, tails).tolist()
                low, high = min(low, value), max(high, value)
        found[metric.name] = Interval(value, low, high, confidence, rows, kind)
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
