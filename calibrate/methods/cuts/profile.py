"""Counts at candidate cuts from what lies below each: drawn, smoothed or expected, where a tally has them counted."""

import numpy as np
from jaxtyping import Float64, Int

from calibrate.counts import Counts
from calibrate.errors import UndefinedMetric
from calibrate.objective import Objective, Score


def counts_at(
    below: Float64[np.ndarray, "draws cuts 2"], totals: Float64[np.ndarray, "draws 1 2"], positive: int
) -> Counts:
    """Counts (draws, cuts) from the weight of positives and of negatives below each cut, and in all.

    `positive` is the index of the positive class.
    """
    above = totals - below
    hits = np.empty(above.shape)
    hits[..., positive], hits[..., 1 - positive] = above[..., 0], below[..., 1]
    predicted = np.empty(above.shape)
    predicted[..., positive], predicted[..., 1 - positive] = above.sum(axis=-1), below.sum(axis=-1)
    return Counts(hits, predicted, totals if positive == 0 else totals[..., ::-1].copy())


def best_of_each(score: Score, objective: Objective) -> tuple[Int[np.ndarray, "defined"], Int[np.ndarray, "defined"]]:
    """The draws in which the metric is defined somewhere, and the first best cut of each, as `Score.best` has it.

    Raises: `UndefinedMetric` where there is no such draw.
    """
    best = score.best_of_each()
    defined = np.flatnonzero(np.isfinite(np.take_along_axis(score.gain, best[:, np.newaxis], axis=-1)[:, 0]))
    if not defined.size:
        raise UndefinedMetric(f"metric '{objective.metric.name}' is undefined (0/0) at every cut")
    return defined, best[defined]
