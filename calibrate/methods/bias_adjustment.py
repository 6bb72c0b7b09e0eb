"""Bias adjustment: a free bias per class, chosen for the metric and nothing else.

`search="exact"` sweeps the cut itself (two classes), or climbs by exact one-class sweeps (more). `search="decimal"` is
the paper's: the model imbalance state of the training rows is moved to a target r by a bias, and the target is searched
on the validation rows digit by digit: 0.1 to 0.9, then nine steps of 0.01 to each side of the best, then of 0.001. With
more than two classes the classes take turns, the others keeping their proportions, until no turn gains. A coarse grid
in the state regularises: it cannot put the cut where the model expects next to no positives.

Source: "Regulating imbalanced deep models with user-specified metrics".
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float64

from calibrate.errors import NotConverged, UndefinedMetric, UnknownMethod
from calibrate.methods.logit_adjustment import fit_logit_adjustment
from calibrate.methods.task import Fitted, Task, exact_cut, point_at
from calibrate.operating_point import OperatingPoint
from calibrate.search import bias_value, coordinate_ascent
from calibrate.state import bias_for_state, model_imbalance_state

_DIGITS = 3
_LEAST_SHARE = 1e-6  # what a class that the model never predicts starts from: no bias reaches a share of zero


def fit_bias_adjustment(task: Task) -> Fitted:
    """The best bias of the search that the task names.

    Raises: `UndefinedMetric`, `UnknownMethod` for an unknown search or a bad number of digits.
    """
    if task.search not in SEARCHES:
        raise UnknownMethod(f"search must be one of {', '.join(SEARCHES)}; got {str(task.search)[:100]!r}")
    return SEARCHES[task.search](task)


def best_rate(score: Callable[[float], float], digits: int) -> tuple[float, float]:
    """The rate between 0 and 1 with the best score, searched digit by digit, and its score; ties go to the lowest."""
    units, value = 0, -np.inf
    for digit in range(1, digits + 1):
        whole = 10**digit
        candidates = range(max(1, 10 * units - 9), min(whole - 1, 10 * units + 9) + 1)
        values = [score(candidate / whole) for candidate in candidates]
        units, value = candidates[int(np.argmax(values))], max(values)
    return units / 10**digits, value


def _exact(task: Task) -> Fitted:
    if task.digits is not None:
        raise UnknownMethod("search 'exact' has no option 'digits'")
    if len(task.classes) == 2:
        cut = exact_cut(task)
        return Fitted(point_at(cut.at(), task.classes), {"cut": cut.at(), "gap": cut.gap})
    starts = [np.zeros(len(task.classes))]
    if task.prior is not None:
        starts += [-np.log(task.prior), fit_logit_adjustment(task).point.bias]
    bias = coordinate_ascent(task.logits, task.labels, task.metric, starts)
    return Fitted(OperatingPoint(task.classes, np.ones(bias.size), bias))


def _decimal(task: Task) -> Fitted:
    digits = _DIGITS if task.digits is None else task.digits
    if not isinstance(digits, int) or not 1 <= digits <= 6:
        raise UnknownMethod(f"digits must be a whole number from 1 to 6, got {digits!r}")
    logits = task.logits.astype(np.float64)
    state = np.maximum(model_imbalance_state(task.state_logits), _LEAST_SHARE)
    target, value = state / state.sum(), -np.inf
    turns: Sequence[int] = [task.metric.positive] if len(task.classes) == 2 else range(len(task.classes))
    bias = None

    def score(held: Float64[np.ndarray, "k"], index: int, rate: float) -> float:
        nonlocal bias
        try:
            bias = bias_for_state(task.state_logits, _with_rate(held, index, rate), start=bias)
        except NotConverged:
            bias = None
            return -np.inf
        return bias_value(logits, task.labels, task.metric, bias)

    gained = True
    while gained:
        gained = False
        for index in turns:
            rate, reached = best_rate(partial(score, target, index), digits)
            if reached > value:
                target, value, gained = _with_rate(target, index, rate), reached, len(turns) > 1
    if np.isneginf(value):
        raise UndefinedMetric(f"metric '{task.metric.name}' is undefined (0/0) at every target of the decimal search")
    parameters = {f"target[{name}]": float(share) for name, share in zip(task.classes, target, strict=True)}
    point = OperatingPoint(task.classes, np.ones(target.size), bias_for_state(task.state_logits, target))
    return Fitted(point, parameters)


def _with_rate(target: Float64[np.ndarray, "k"], index: int, rate: float) -> Float64[np.ndarray, "k"]:
    """The target with one class at the rate and the others scaled to the rest."""
    others = np.delete(target, index)
    return np.insert(others * ((1 - rate) / others.sum()), index, rate)


SEARCHES: dict[str, Callable[[Task], Fitted]] = {"exact": _exact, "decimal": _decimal}
