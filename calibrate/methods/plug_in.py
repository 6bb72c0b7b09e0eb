"""The plug-in rule: `argmax(weight * q + offset)` on the probabilities, for metrics that a bias alone cannot reach.

A metric psi of the hits and predictions per class is best served, near given counts, by deciding the class with the
largest `dpsi/dhits_k * q_k + dpsi/dpredicted_k`: for macro-F1 that is `(2 / (P_k + Q_k)) (q_k - F_k / 2)`, a weight and
an offset. The counts that the rule gives make the next rule (Frank and Wolfe's linear step). The published methods end
in a random mixture of such rules; here every rule on the way is scored as what it is, one deterministic rule, and the
best is kept, argmax included, so it is never worse than that on the fitting rows. Next to nothing is fitted to the rows
themselves: the rule rests on the probabilities, and is as good as they are calibrated.

Source: Narasimhan et al., "Consistent multiclass algorithms for complex performance measures" (2015), algorithm 1.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from calibrate.counts import Counts
from calibrate.errors import UnknownMethod
from calibrate.methods.task import Fitted, Task, check_counts
from calibrate.objective import Objective
from calibrate.operating_point import OperatingPoint

_STEPS = 30


def fit_plug_in(task: Task) -> Fitted:
    """The best deterministic rule on the way.

    Raises: `UndefinedMetric`, `Infeasible`, `UnknownMethod`; `MissingPrior` for a prevalence without a prior.
    """
    task.check_probabilities()
    if any(metric.reads != "rows" for metric in task.objective.metrics):
        raise UnknownMethod(
            f"method 'plug_in' is for metrics of the counts of rows, not '{task.objective.metric.name}'"
        )
    best_key, best, steps = (-np.inf, -np.inf), OperatingPoint.argmax(task.classes), 0
    for step, point in enumerate(_rules(task)):
        key = task.objective.score(_counts(task, point)).key
        if key > best_key:
            best_key, best, steps = key, point, step
    check_counts(task.objective, _counts(task, best), "by the plug-in rule")
    return Fitted(best, {"steps": float(steps)})


def _rules(task: Task) -> Iterator[OperatingPoint]:
    """Argmax, and from its counts each rule that follows."""
    k = len(task.classes)
    start = OperatingPoint.argmax(task.classes)
    yield start
    counts = _counts(task, start)
    for step in range(_STEPS):
        weight, offset = gradient(task.objective, counts)
        if not (np.isfinite(weight).all() and np.isfinite(offset).all() and (weight >= 0).all() and weight.any()):
            return  # undefined (0/0) here, or a metric that would rather miss
        point = OperatingPoint(task.classes, np.ones(k), np.zeros(k), weight=weight, offset=offset)
        yield point
        reached = _counts(task, point)
        share = 2 / (step + 2)
        counts = Counts(
            (1 - share) * counts.hits + share * reached.hits,
            (1 - share) * counts.predicted + share * reached.predicted,
            counts.actual,
        )


def _counts(task: Task, point: OperatingPoint) -> Counts:
    return task.sample.counts(point.decide(task.logits))


def gradient(objective: Objective, counts: Counts) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """The slopes of the gain in the hits and in the predictions of each class, by central differences of a millionth
    of the rows; NaN where the metric is.
    """
    k, step = counts.actual.size, float(counts.rows) * 1e-6
    moves = np.concatenate([np.eye(k), -np.eye(k)]) * step
    hits = np.concatenate([counts.hits + moves, np.broadcast_to(counts.hits, (2 * k, k))])
    predicted = np.concatenate([np.broadcast_to(counts.predicted, (2 * k, k)), counts.predicted + moves])
    gains = objective.metric.gain(Counts(hits, predicted, counts.actual))
    slopes = (gains.reshape(2, 2, k)[:, 0] - gains.reshape(2, 2, k)[:, 1]) / (2 * step)
    scale = np.abs(slopes).max()
    weight, offset = slopes / scale if scale else slopes
    return np.asarray(weight), np.asarray(offset)
