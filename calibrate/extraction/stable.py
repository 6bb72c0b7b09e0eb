"""Whether a model gives rows of the data the same numbers twice, and alone as beside others.

Decided here: a few rows of the first batch are run, as they come. A model that answers at random is refused: what is
fitted on its scores does not hold for the next ones. One whose rows depend on their batch is warned of, because it
answers a single row otherwise than it does in the batches of an extraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel

_ROUNDING, _HALF_ROUNDING = 1e-3, 2e-2  # relative to 1 and the row's largest number
FIRST_ROWS = 4
EVALUATION = "export it in evaluation mode (with torch, model.eval() before torch.onnx.export)"


@dataclass(frozen=True)
class Differences:
    """The largest difference between two runs of the same rows, and between rows run together and each alone."""

    twice: float
    together: float


def compare_runs(run: Callable[[Sequence[int]], Float[np.ndarray, "..."]], n: int) -> Differences:
    """The differences of `n` rows, relative to 1 and the row's largest number; `run` gives the numbers of some rows."""
    order = list(range(n))
    together = _lines(run(order), n)
    scale = 1 + np.abs(together).max(axis=1, keepdims=True)
    twice = np.abs((_lines(run(order), n) - together) / scale).max()
    alone = np.concatenate([_lines(run([i]), 1) for i in order])
    return Differences(float(twice), float(np.abs((together - alone) / scale).max()))


def check_steady(differences: Differences, rounding: float, remedy: str) -> None:
    """Raises `BadModel` where two runs on the same rows differ by more than rounding."""
    if differences.twice > rounding:
        raise BadModel(
            f"two runs on the same rows differ by {differences.twice:.2g}: the model's answers depend on chance or on "
            f"earlier runs; {remedy}"
        )


def rounding_of(is_half: bool) -> float:
    """The largest difference that rounding makes, in float32 or in 16-bit floats."""
    return _HALF_ROUNDING if is_half else _ROUNDING


def _lines(numbers: Float[np.ndarray, "..."], n: int) -> Float[np.ndarray, "n d"]:
    return np.asarray(numbers, np.float64).reshape(n, -1)
