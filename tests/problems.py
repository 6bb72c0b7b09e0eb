"""Problems with known properties, on which every method is tried."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Problem:
    """Logits (n, k) or (n,), labels (n,) and the prior that a model would have been trained under."""

    name: str
    logits: NDArray[np.floating]
    labels: NDArray[np.int64]
    prior: tuple[float, ...]

    @property
    def classes(self) -> list[str]:
        """Names that are not their indices, so that a mix-up shows."""
        return [f"class {chr(97 + i)}" for i in range(len(self.prior))]

    def __str__(self) -> str:
        return self.name


def draw(prior: tuple[float, ...], n: int, seed: int, dtype: type = np.float32, lead: float = 2.0) -> Problem:
    """Normal logits with the true class raised and the log prior added, as a trained model has them."""
    rng = np.random.default_rng(seed)
    k = len(prior)
    labels = np.concatenate([np.arange(k), np.arange(k), rng.choice(k, p=prior, size=n - 2 * k)])
    logits = rng.normal(size=(n, k)) + np.log(prior)
    logits[np.arange(n), labels] += lead
    return Problem(f"{k} classes, {n} rows, {dtype.__name__}", logits.astype(dtype), labels, prior)


def _binary(name: str, margins: list[float], labels: list[int]) -> Problem:
    return Problem(name, np.array(margins, dtype=np.float32), np.array(labels), (0.75, 0.25))


_ROUNDED = draw((0.9, 0.1), 200, 5)

BINARY = [
    draw((0.95, 0.05), 400, 1),
    draw((0.98, 0.02), 1000, 2, np.float64),
    Problem("ties everywhere", np.round(_ROUNDED.logits), _ROUNDED.labels, _ROUNDED.prior),
    _binary("one positive", [-3.0, -2.0, -2.5, 0.5, -1.0], [0, 0, 0, 1, 0]),
    _binary("all scores equal", [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 1]),
    _binary("perfectly separable", [-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]),
    _binary("perfectly wrong", [2.0, 1.0, -1.0, -2.0], [0, 0, 1, 1]),
    _binary("huge margins", [-3e37, -1e30, 2e37, 1e36, 3e37], [0, 0, 0, 1, 1]),
    _binary("tiny margins", [-1e-38, 0.0, 1e-38, 3e-38, 2e-38], [0, 0, 1, 1, 0]),
]

MULTICLASS = [
    draw((0.7, 0.2, 0.1), 300, 3),
    draw((0.5, 0.25, 0.15, 0.07, 0.03), 600, 4, np.float64),
    Problem(
        "3 classes, ties",
        np.round(draw((0.6, 0.3, 0.1), 150, 6).logits),
        draw((0.6, 0.3, 0.1), 150, 6).labels,
        (0.6, 0.3, 0.1),
    ),
]

PROBLEMS = BINARY + MULTICLASS
