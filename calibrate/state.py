"""The model imbalance state, and the bias that brings a model to a wanted one.

The state is the mean predicted probability of each class, P(b) for logits z + b. The bias for a target r minimises the
convex `f(b) = mean(logsumexp(z + b)) - r.b`, whose gradient is `P(b) - r`, so Newton replaces the paper's gradient
descent on KL(r || P(b)) and has the same minimum. Undamped Newton from zero goes singular on saturated logits; hence
the bracket in two classes and, in more, the bias of some 4,000 of the rows as a start, which leaves two or three steps
on all of them; there three steps `b += log r - log P` (Sinkhorn) come first. Steps are Armijo's, and where those shrink
it is a round over the classes: with the others held, a class's bias is a two-class problem again.

Source: "Regulating imbalanced deep models with user-specified metrics" (definition of the state, bias adjustment).
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from calibrate.errors import BadPrior, NotConverged
from calibrate.logits import sigmoid, softmax, to_array
from calibrate.operating_point import OperatingPoint

_TOLERANCE = 1e-12
_STEPS = 200
_SHORTEST_STEP = 0.05
_START_ROWS = 4000
_CHUNK_CELLS = 32_768


def model_imbalance_state(logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "k"]:
    """The mean predicted probability of each class, (k,)."""
    if logits.shape[1] == 2:
        return _state_of_margins(lambda rows: logits[rows, 1].astype(np.float64) - logits[rows, 0], logits)
    return _mean_of_rows(lambda rows: softmax(logits[rows]), logits)


def state_under(point: OperatingPoint, logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "k"]:
    """The mean adjusted probability of each class under a point, (k,)."""
    if logits.shape[1] == 2 and point.is_affine:
        shift = point.bias[1] - point.bias[0]
        return _state_of_margins(
            lambda rows: logits[rows, 1] * point.scale[1] - logits[rows, 0] * point.scale[0] + shift, logits
        )
    return _mean_of_rows(lambda rows: point.adjusted(logits[rows]), logits)


def _state_of_margins(margins_of: Callable[[slice], np.ndarray], logits: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """The state of two classes from float64 margins (m,) of some rows at a time: one exponential a row."""
    total = 0.0
    with np.errstate(over="ignore"):  # exp(-margin) is infinite where the probability is 0
        for rows in _chunks(logits):
            odds_against = np.exp(-margins_of(rows))
            total += float((1 / (1 + odds_against)).sum())
    share = total / logits.shape[0]
    return np.array([1 - share, share])


def _mean_of_rows(of_rows: Callable[[slice], np.ndarray], logits: Float[np.ndarray, "n k"]) -> np.ndarray:
    """The mean over the rows of (m, k) numbers of some rows at a time."""
    return np.asarray(sum(of_rows(rows).sum(axis=0) for rows in _chunks(logits)) / logits.shape[0])


def _chunks(logits: Float[np.ndarray, "n k"]) -> Iterator[slice]:
    """The rows, as many at a time as a processor's cache holds."""
    n, k = logits.shape
    step = max(1, _CHUNK_CELLS // k)
    return (slice(start, start + step) for start in range(0, n, step))


def bias_for_state(
    logits: Float[np.ndarray, "n k"],
    target: ArrayLike,
    *,
    start: Float64[np.ndarray, "k"] | None = None,
) -> Float64[np.ndarray, "k"]:
    """The bias, 0 for the first class, under which the state of these rows is `target` (k,).

    Two classes always reach the nearest state that float64 can express. More start from `start`, if there is one: the
    bias of a neighbouring target saves most of the steps.

    Raises: `BadPrior` where `target` is not a distribution with every entry above zero (the minimum does not exist
    then), `NotConverged` with the divergence reached, in more than two classes.
    """
    target = to_array(target, "target", (1,)).astype(np.float64)
    if target.shape != (logits.shape[1],) or not (target > 0).all() or abs(target.sum() - 1) > 1e-9:
        raise BadPrior(f"target state must have {logits.shape[1]} entries > 0 that sum to 1, got {target.tolist()}")
    if logits.shape[1] == 2:
        margins = logits[:, 1].astype(np.float64) - logits[:, 0]
        return np.array([0.0, _shift_for_rate(margins, float(target[1]))])
    bias = _newton(logits.astype(np.float64), target, start)
    return np.asarray(bias - bias[0])


def _shift_for_rate(margins: Float64[np.ndarray, "n"], rate: float) -> float:
    """The b with mean(sigmoid(margins + b)) = rate: Newton on the log-odds of the mean, inside a shrinking bracket."""
    wanted = np.log(rate) - np.log1p(-rate)
    low, high = wanted - margins.max(), wanted - margins.min()
    b = low / 2 + high / 2
    for _ in range(_STEPS):
        p = sigmoid(margins + b)
        mean = p.mean()
        if abs(mean - rate) <= _TOLERANCE * rate:
            break
        low, high = (b, high) if mean < rate else (low, b)
        slope = (p * (1 - p)).mean()
        odds = np.log(mean) - np.log1p(-mean) if 0 < mean < 1 else np.nan
        with np.errstate(over="ignore"):  # a vanishing slope sends the step out of the bracket, which halves then
            step = b - (odds - wanted) * mean * (1 - mean) / slope if slope > 0 else np.nan
        following = step if low < step < high else low / 2 + high / 2
        if following in (low, high, b):
            break
        b = following
    return float(b)


def _newton(
    z: Float64[np.ndarray, "n k"], r: Float64[np.ndarray, "k"], start: Float64[np.ndarray, "k"] | None
) -> Float64[np.ndarray, "k"]:
    n, k = z.shape
    if start is None and n > 5 * _START_ROWS:
        with suppress(NotConverged):  # some rows saturate where all do not
            start = _newton(np.ascontiguousarray(z[:: n // _START_ROWS]), r, None)
    columns = np.ascontiguousarray((z - z.max(axis=1, keepdims=True)).T)  # (k, n): sums over few classes run along n

    def at(b: Float64[np.ndarray, "k"]) -> tuple[Float64[np.ndarray, "k n"], float]:
        """The probabilities under b, and f(b) up to a constant."""
        exps = columns + b[:, np.newaxis]
        top = exps.max(axis=0)
        np.exp(np.subtract(exps, top, out=exps), out=exps)
        sums = exps.sum(axis=0)
        return np.divide(exps, sums, out=exps), float((np.log(sums) + top).mean() - r @ b)

    def sinkhorn(b: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
        scores = columns + b[:, np.newaxis]
        log_p = np.logaddexp.reduce(scores - np.logaddexp.reduce(scores, axis=0), axis=1) - np.log(n)
        return np.asarray(b + np.log(r) - log_p)

    def one_by_one(b: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
        b = b.copy()
        for c in range(k):
            scores = columns + b[:, np.newaxis]
            scores[c] = -np.inf
            b[c] = _shift_for_rate(columns[c] - np.logaddexp.reduce(scores, axis=0), float(r[c]))
        return b

    b = np.zeros(k) if start is None else start
    for _ in range(3 if start is None else 0):
        b = sinkhorn(b)
    p, value = at(b)
    for _ in range(_STEPS):
        state = p.mean(axis=1)
        gradient = state - r
        if np.abs(gradient / r).max() <= 1e-10:
            return b
        hessian = np.diag(state) - p @ p.T / n + 1 / k
        scale = 1 / np.sqrt(np.maximum(np.diagonal(hessian), np.finfo(np.float64).tiny))
        try:
            scaled = hessian * scale[:, None] * scale + 1e-12 * np.eye(k)
            lower = np.linalg.cholesky(scaled)  # raises where the scaled Hessian is not positive definite
            direction = -scale * np.linalg.solve(lower.T, np.linalg.solve(lower, scale * gradient))
        except np.linalg.LinAlgError:
            direction = np.full(k, np.nan)
        slope, slack, length = float(gradient @ direction), 1e-14 * max(1.0, abs(value)), 1.0
        stepped, reached = at(b + direction)
        while not reached <= value + 1e-4 * length * slope + slack and length > _SHORTEST_STEP:
            length /= 2
            stepped, reached = at(b + length * direction)
        if length > _SHORTEST_STEP:
            b, p, value = b + length * direction, stepped, reached
        else:
            b = one_by_one(b)
            p, value = at(b)
    reached_state = p.mean(axis=1)
    with np.errstate(divide="ignore"):
        divergence = float((r * (np.log(r) - np.log(reached_state))).sum())
    raise NotConverged(
        f"no bias brought the model imbalance state to {r.tolist()} in {_STEPS} steps: reached "
        f"{reached_state.tolist()}, divergence {divergence:.3g}; the logits may be saturated, divide them by a "
        "temperature first"
    )
