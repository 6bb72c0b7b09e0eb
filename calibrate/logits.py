"""Logits: what every model's last layer is brought to before anything else happens.

Decided here: two classes are two columns, `(0, x)` where a model has one logit, so softmax equals sigmoid and there is
no second code path. Nothing guesses what an array is: probabilities enter through `logits_from_probabilities` alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from calibrate.errors import NoRows, NotFinite, WrongShape

# The smallest normal float32: log of it, -87.3, stands for a probability of exactly zero, which trees give.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
_CHUNK_ROWS = 65_536
_LARGEST = 1e300
_ROUNDING = 4  # steps of float64 by which a row's log-odds may differ from those of its probability
_FEW = 16  # numbers that Python looks through faster than numpy does


def to_array(values: ArrayLike, name: str, axes: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Finite floats with a wanted number of axes and at least one row; float32 and float64 stay as they are.

    Raises: `WrongShape`, `NoRows`, `NotFinite`, each naming `name` and the item.
    """
    if type(values) is np.ndarray and values.dtype.char in "fd":  # two characters compare quicker than types do
        array: np.ndarray = values
    else:
        array = _to_floats(values, name)
    if array.ndim not in axes:
        wanted = " or ".join(str(n) for n in axes)
        raise WrongShape(f"{name}: wanted {wanted} axes, got shape {array.shape}")
    if array.shape[0] == 0:
        raise NoRows(f"{name}: wanted at least one row, got shape {array.shape}")
    if not is_finite(array):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise NotFinite(f"{name}{list(where)} must be finite, got {array[where]}")
    return array


def _to_floats(values: ArrayLike, name: str) -> Float[np.ndarray, "..."]:
    try:
        array: np.ndarray = np.asarray(values)
        if array.dtype not in (np.float32, np.float64):
            if array.dtype.kind not in "iuf":
                raise TypeError
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise WrongShape(f"{name}: wanted numbers in rows of equal length") from None
    return array


def is_finite(array: Float[np.ndarray, "..."]) -> bool:
    """Whether no number is NaN or infinite; quick for a few numbers, as one row of a request has."""
    if array.size <= _FEW:
        return all(map(math.isfinite, array.ravel().tolist()))
    return bool(np.count_nonzero(np.isfinite(array)) == array.size)  # a reduction of truth values takes twice as long


def to_columns(logits: ArrayLike, name: str = "logits") -> Float[np.ndarray, "n k"]:
    """Logits with a column per class: one logit x, as (n,) or (n, 1), becomes `(0, x)`.

    Raises: `WrongShape`, `NoRows`, `NotFinite`.
    """
    array = to_array(logits, name, (1, 2))
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.shape[1] == 0:
        raise WrongShape(f"{name}: wanted a column per class, got shape {array.shape}")
    if array.shape[1] == 1:
        columns = np.zeros((2, array.shape[0]), array.dtype)  # each column in one piece
        columns[1] = array[:, 0]
        array = columns.T
    return array


def logits_from_probabilities(probabilities: ArrayLike) -> Float64[np.ndarray, "n k"]:
    """Logits whose softmax is the given probabilities: their logarithm. One column p becomes `(log(1 - p), log p)`.

    A probability of exactly zero, which a tree gives, counts as the smallest normal float32 (logit -87.3).

    Raises: `WrongShape` where a number is not in [0, 1] or a row is not a distribution (sum within 1e-3 of 1),
    `NoRows`, `NotFinite`.
    """
    array = to_array(probabilities, "probabilities", (1, 2)).astype(np.float64)
    outside = (array < -1e-6) | (array > 1 + 1e-6)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        percent = "; divide percentages by 100" if array.min() >= 0 and array.max() <= 100 else ""
        raise WrongShape(f"probabilities{list(where)} must lie in [0, 1], got {array[where]:g}{percent}")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.shape[1] == 1:
        array = np.concatenate([1 - array, array], axis=1)
    sums = array.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > 1e-3)
    if off.size:
        raise WrongShape(f"probabilities of row {off[0]} must sum to 1, got {sums[off[0]]:g}")
    return np.log(np.maximum(array, SMALLEST_PROBABILITY))


def head_logits(
    features: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "k d"], bias: Float[np.ndarray, "k"]
) -> Float64[np.ndarray, "n k"]:
    """What a linear last layer makes of its features, in float64 and by chunks of rows."""
    logits = np.empty((features.shape[0], weight.shape[0]))
    weight64, bias64 = weight.astype(np.float64).T, bias.astype(np.float64)
    for start in range(0, features.shape[0], _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        logits[rows] = features[rows].astype(np.float64) @ weight64 + bias64
    return logits


def softmax_pairs(logits: Sequence[Sequence[float]]) -> list[list[float]]:
    """`softmax` of a few rows of two finite logits, to the last bit, in a fraction of the time of numpy's calls."""
    gaps = [right - left if left > right else left - right for left, right in logits]  # from the larger to the lesser
    exps = np.exp(gaps).tolist() if len(gaps) > 2 else [float(np.exp(gap)) for gap in gaps]
    return [
        [1.0 / (1.0 + exp), exp / (1.0 + exp)] if left > right else [exp / (exp + 1.0), 1.0 / (exp + 1.0)]
        for (left, right), exp in zip(logits, exps, strict=True)
    ]


def softmax(logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Probabilities, in float64, without overflow."""
    if logits.shape[1] == 2:  # numpy reduces rows of two several times slower than it takes two columns
        exps = logits - np.maximum(logits[:, 0], logits[:, 1], dtype=np.float64)[:, np.newaxis]
        np.exp(exps, out=exps)
        exps /= (exps[:, 0] + exps[:, 1])[:, np.newaxis]
        return np.asarray(exps)
    # The reductions of the ufuncs are those of `max` and `sum` without their wrappers, which cost a small call more.
    shifted = logits.astype(np.float64) - np.maximum.reduce(logits, axis=1, keepdims=True)
    exps = np.exp(shifted, out=shifted)
    exps /= np.add.reduce(exps, axis=1, keepdims=True)
    return np.asarray(exps)


def sigmoid(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """`1 / (1 + exp(-x))` without overflow, exact to rounding at both ends."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1 + small))


def least_log_odds(probability: float) -> float:
    """Return the smallest log-odds whose sigmoid is at least a probability, less what rounding may take from a row's.

    +-1e300 where no row, or every row, reaches it.
    """
    from scipy.special import expit

    if not probability > 0:
        return -_LARGEST
    if probability > 1:
        return _LARGEST
    low, high = -800.0, 800.0  # sigmoids of 0 and 1
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (low, middle) if expit(middle) >= probability else (middle, high)
    if probability < 1:  # near 1 the sigmoid rounds away what the logarithm of 1 - p still tells apart
        high = min(high, math.log(probability) - math.log(1 - probability))
    return high - _ROUNDING * float(np.spacing(max(1.0, abs(high))))


def binary_margins(logits: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """The margin `z1 - z0`: in the type it came in where z0 is 0 (then it is exact), else in float64.

    Raises: `NotFinite` where the difference overflows.
    """
    if not logits[:, 0].any():
        return logits[:, 1]
    with np.errstate(over="ignore"):
        margins = logits[:, 1].astype(np.float64) - logits[:, 0]
    if not np.isfinite(margins).all():
        row = int(np.flatnonzero(~np.isfinite(margins))[0])
        raise NotFinite(f"the margin of row {row} must be finite, got {margins[row]} from {logits[row].tolist()}")
    return np.asarray(margins)
