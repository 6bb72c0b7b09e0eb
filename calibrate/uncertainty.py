"""Intervals around measured metrics.

A share of rows has the exact interval of Clopper and Pearson. Everything else is bootstrapped within each true class:
with the decisions fixed, resampling a class's rows is a multinomial draw of its row of the confusion matrix, so no row
is touched again. All of it is pointwise: each interval covers its own number, not all of them at once.
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


def bootstrap_counts(confusion: Int[np.ndarray, "k k"], draws: int, rng: np.random.Generator) -> Counts:
    """Counts (draws, k) of resamples that keep the number of rows of each true class."""
    k = confusion.shape[0]
    hits, predicted = np.zeros((draws, k)), np.zeros((draws, k))
    for label in range(k):
        row = confusion[label]
        columns = np.flatnonzero(row)
        if columns.size:
            drawn = rng.multinomial(int(row.sum()), row[columns] / row.sum(), size=draws)
            predicted[:, columns] += drawn
            hits[:, label] = drawn[:, columns == label].sum(axis=1)
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
    resampled = bootstrap_counts(confusion, _DRAWS, rng)
    found = {}
    for metric in metrics:
        value, rows = float(metric.value(counts)), int(confusion.sum())
        if metric.rate is not None:
            successes, rows = int(metric.rate.successes(counts)), int(metric.rate.trials(counts))
            low, high = clopper_pearson(successes, rows, confidence)
        else:
            drawn = metric.value(resampled)
            drawn = drawn[~np.isnan(drawn)]
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            low, high = np.quantile(drawn, tails).tolist() if drawn.size and not math.isnan(value) else [math.nan] * 2
        found[metric.name] = Interval(value, low, high, confidence, rows, kind)
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
