"""Whether a model gives a row the same answer twice, and alone as beside others.

Decided here: rows are drawn, of several sizes, because a scale that comes from the whole batch does not show among rows
of zeros or among rows that are alike. Probabilities are compared as such: near 0 and 1 their logits differ by rounding
alone. What two kernels round differently stays below the tolerance; what other rows do to an answer is above it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from calibrate.errors import SetpointError
from calibrate.io.model import OutputKind, Port
from calibrate.logits import softmax

ROUNDING, HALF_ROUNDING = 1e-3, 2e-2  # in logits relative to the row's largest, or in probability
_SIZES = (1.0, 1.0, 30.0, 0.1)  # of the rows

Inputs = Mapping[str, np.ndarray]
Run = Callable[[Inputs], Float[np.ndarray, "n k"]]


@dataclass(frozen=True)
class Alike:
    """The largest difference between two runs of the same rows, and between rows run together and each alone; whether
    rows that differ together all get the same answer alone, so that the model cannot decide single rows.
    """

    twice: float
    together: float
    is_constant: bool


def compare_rows(run: Run, ports: Sequence[Port], kind: OutputKind, length: int) -> Alike | None:
    """Runs a few drawn rows twice, each alone, and in another order; `length` is that of axes the file leaves free.

    Differences are in logits, relative to 1 and the row's largest, or in probability where `kind` says so. None where
    the model does not run on drawn rows.
    """
    for sizes in (_SIZES, (1.0,) * len(_SIZES)):
        try:
            return _compare(run, _rows(ports, sizes, length), kind, len(sizes))
        except SetpointError:
            continue
    return None


def draw(port: Port, rows: int, rng: np.random.Generator, length: int) -> np.ndarray:
    """Random rows of an input: standard normal, or 0 and 1 where it takes whole numbers, or one of three letters."""
    shape = (rows, *(length if known is None else known for known in port.shape[1:]))
    if port.dtype == "str":
        return np.array(rng.choice(["a", "b", "c"], size=shape), dtype=object)
    kind = np.dtype(port.dtype).kind
    drawn = rng.normal(size=shape) if kind == "f" else rng.integers(0, 2, size=shape)
    return drawn.astype(port.dtype)


def _rows(ports: Sequence[Port], sizes: Sequence[float], length: int) -> Inputs:
    rng = np.random.default_rng(0)
    inputs = {port.name: draw(port, len(sizes), rng, length) for port in ports}
    for name, array in inputs.items():
        if array.dtype.kind == "f":
            shape = (len(sizes), *(1,) * (array.ndim - 1))
            inputs[name] = (array * np.reshape(sizes, shape)).astype(array.dtype)
    return inputs


def _compare(run: Run, rows: Inputs, kind: OutputKind, n: int) -> Alike:
    def answers(which: list[int]) -> Float[np.ndarray, "n k"]:
        logits = run({name: array[which] for name, array in rows.items()}).astype(np.float64)
        return softmax(logits) if kind == "probabilities" else logits

    order = list(range(n))
    together = answers(order)
    scale = 1.0 if kind == "probabilities" else 1 + np.abs(together).max(axis=1, keepdims=True)
    twice = np.abs((answers(order) - together) / scale).max()
    alone = np.concatenate([answers([i]) for i in order])
    backwards = answers(order[::-1])[::-1]
    mixed = max(np.abs((other - alone) / scale).max() for other in (together, backwards))
    apart, beside = (np.ptp(each, axis=0).max() / (1 + np.abs(each).max()) for each in (alone, together))
    return Alike(float(twice), float(mixed), bool(apart <= ROUNDING < beside))
