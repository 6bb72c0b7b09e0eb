"""Per-class scales: tau-normalisation and learnable weight scaling (LWS), which rescale each class's row of the head.

Both were published as new heads, `s_k w_k . x`. On logits `z_k = w_k . x + beta_k` that is a scale per class, so they
end in operating points. What becomes of the head's own bias beta is part of each definition, and they decide
differently on most rows, so each has a name:

- `tau_normalization` as published drops beta: scale s, bias `-s beta`; `tau_normalization_keep_bias` keeps it:
  scale s, bias `(1 - s) beta`. Here `s_k = |w_k|^-tau`.
- `lws` as published (in the authors' code) scales it too: scale s, bias 0; `lws_keep_bias` keeps it.

What had to change to live on cached rows: tau is searched from 0 to 4 for the metric that the user names, where the
paper tries values up to 1 for accuracy; LWS learns its scales on the fitting rows, by the class-balanced cross-entropy
that class-balanced sampling has as its mean, exactly (it is convex in the scales), where the paper draws batches.

To shift all logits of a row is not indifferent to a scale per class: the logits must be the head's own, as they are
served, not log-probabilities.

Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition" (2020), section 4.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from calibrate.ascent import LARGE
from calibrate.counts import Counts, stacked
from calibrate.errors import MissingHead, NotConverged, UnknownMethod
from calibrate.logits import softmax
from calibrate.methods.task import Fitted, Task, check_counts
from calibrate.objective import NO_SCORE
from calibrate.operating_point import OperatingPoint

_MOST_TAU = 4.0
_STEPS, _STEPS_LARGE = (0.01, 0.0005), (0.1, 0.01, 0.0005)
_LEAST_SCALE, _MOST_STEPS, _SLOPE = 1e-6, 1000, 1e-7


def fit_tau_normalization(task: Task, *, keep_bias: bool = False) -> Fitted:
    """The scale `|w_k|^-tau`, tau fitted for the objective or given.

    Raises: `MissingHead`, `UndefinedMetric`, `Infeasible`, `UnknownMethod` for a bad tau.
    """
    weight, beta = task.needed_head()
    norms = np.sqrt((weight**2).sum(axis=1))
    if not norms.all():
        name = task.classes[int(norms.argmin())]
        raise MissingHead(
            f"tau-normalisation divides by the norm of each class's weight, and that of class '{name}' is 0: "
            "a head of one logit has nothing to normalise"
        )
    if task.tau is not None and not (np.isfinite(task.tau) and abs(task.tau) <= 100):
        raise UnknownMethod(f"tau must be a number from -100 to 100, got {task.tau}")

    def point(tau: float) -> OperatingPoint:
        scale = norms**-tau
        return OperatingPoint(task.classes, scale, (1 - scale) * beta if keep_bias else -scale * beta)

    if task.tau is not None:
        return Fitted(point(task.tau), {"tau": float(task.tau)}, rows_had_a_say=False)
    tau = _best_tau(task, point)
    check_counts(task.objective, _counts(task, point(tau)), f"at a tau from 0 to {_MOST_TAU:g}")
    return Fitted(point(tau), {"tau": tau})


def fit_lws(task: Task, *, keep_bias: bool = False) -> Fitted:
    """The scales of least class-balanced cross-entropy on the fitting rows, each above 0.

    Raises: `MissingHead` where the bias is to be kept and there is no head, `NotConverged`.
    """
    k = len(task.classes)
    beta = task.needed_head()[1] if keep_bias else np.zeros(k)
    slopes = task.logits.astype(np.float64) - beta
    share = np.ones(task.labels.size) if task.weights is None else task.weights
    share = share / np.bincount(task.labels, share, k)[task.labels] / k
    scale = _least_cross_entropy(slopes, beta, task, share)
    notes = tuple(
        f"the scale of class '{name}' is at its lower bound, {_LEAST_SCALE:g}: less would have fitted better"
        for name, value in zip(task.classes, scale.tolist(), strict=True)
        if value <= _LEAST_SCALE
    )
    return Fitted(OperatingPoint(task.classes, scale, (1 - scale) * beta), notes=notes)


def _counts(task: Task, point: OperatingPoint) -> Counts:
    return task.sample.counts(point.decide(task.logits))


def _best_tau(task: Task, point: Callable[[float], OperatingPoint]) -> float:
    """The middle of the first stretch of best taus, each step's grid finer around it; the first where the middle, or a
    finer grid, is worse.
    """
    low, high = 0.0, _MOST_TAU
    best, reached = 0.0, NO_SCORE
    for step in _STEPS if task.logits.size <= LARGE else _STEPS_LARGE:
        taus = np.linspace(low, high, round((high - low) / step) + 1)
        score = task.objective.score(stacked([_counts(task, point(tau)) for tau in taus.tolist()]))
        first = score.best()
        same = (score.gain == score.gain[first]) & (score.shortfall == score.shortfall[first])
        last = first + int(np.append(same[first:], False).argmin()) - 1
        middle = float((taus[first] + taus[last]) / 2)
        for tau in (middle, float(taus[first])):
            reaches = task.objective.score(_counts(task, point(tau)))
            if reaches.key >= reached.key:
                best, reached = tau, reaches
                if reaches.key >= score.at(first).key:
                    break
        low, high = max(0.0, taus[first] - step), min(_MOST_TAU, taus[last] + step)
    return best


def _least_cross_entropy(
    slopes: Float64[np.ndarray, "n k"], beta: Float64[np.ndarray, "k"], task: Task, share: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "k"]:
    """The scales s of least `-share . log softmax(s slopes + beta)` at the labels. Raises: `NotConverged`."""
    from scipy.optimize import minimize

    size = np.sqrt(share @ slopes**2)  # so that all scales are searched in steps of one size
    size = np.where(size > 0, size, 1.0)
    unit, rows = slopes / size, np.arange(task.labels.size)

    def loss(scaled: Float64[np.ndarray, "k"]) -> tuple[float, Float64[np.ndarray, "k"]]:
        scores = unit * scaled + beta
        off = softmax(scores)
        top = scores.max(axis=1)
        sums = top + np.log(np.exp(scores - top[:, np.newaxis]).sum(axis=1))
        off[rows, task.labels] -= 1
        return float(share @ (sums - scores[rows, task.labels])), np.asarray(share @ (off * unit))

    found = minimize(
        loss,
        size,
        jac=True,
        method="L-BFGS-B",
        bounds=[(_LEAST_SCALE * each, None) for each in size],
        options={"maxiter": _MOST_STEPS, "maxfun": 20 * _MOST_STEPS, "ftol": 0.0, "gtol": _SLOPE},
    )
    scaled = np.asarray(found.x)
    slope = found.jac * ((scaled > _LEAST_SCALE * size) | (found.jac < 0))
    if not np.isfinite(found.fun) or np.abs(slope).max() > 10 * _SLOPE:
        raise NotConverged(
            f"LWS stopped after {found.nit} steps at a slope of {np.abs(slope).max():.3g} ({found.message}): are the "
            "logits far apart? divide them by a temperature first"
        )
    return np.maximum(scaled / size, _LEAST_SCALE)
