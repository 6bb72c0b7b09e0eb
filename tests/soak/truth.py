"""What a server must say: a model whose margins are known, points whose cuts are known, and the label of each row."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.models import WIDTH, forward, network, weights

MODEL, CLASSES = "m", ("clear", "fraud")
ROWS = 64
_CLEAR = 1e-3  # no row lies nearer to a cut, so rounding cannot turn a label


@cache
def _rows() -> tuple[list[list[float]], Any]:
    inputs = np.round(np.random.default_rng(5).normal(size=(ROWS, WIDTH)), 3)
    _, logits = forward(weights(2), inputs.astype(np.float32))
    return inputs.tolist(), logits[:, 1] - logits[:, 0]


def model() -> bytes:
    """The model file."""
    return network(2)


def inputs(rows: list[int]) -> list[list[float]]:
    """The inputs of rows by number."""
    return [_rows()[0][row] for row in rows]


def biases(count: int, seed: int = 0) -> list[float]:
    """Biases for points, each clearly off every row's margin."""
    rng, margins = np.random.default_rng(seed), _rows()[1]
    made: list[float] = []
    while len(made) < count:
        bias = round(float(rng.normal(-np.median(margins), margins.std())), 4)
        if np.abs(margins + bias).min() > _CLEAR:
            made.append(bias)
    return made


def point(bias: float) -> dict[str, Any]:
    """An operating point as it is published."""
    return {"classes": list(CLASSES), "scale": [1.0, 1.0], "bias": [0.0, bias]}


def labels(rows: list[int], bias: float) -> list[str]:
    """What a point with that bias decides on the rows."""
    return [CLASSES[int(_rows()[1][row] + bias > 0)] for row in rows]


@dataclass
class Known:
    """The biases of points by `name@version`, and every answer that was not what they say."""

    bias: dict[str, float] = field(default_factory=lambda: {"argmax@1": 0.0})
    answers: int = 0
    wrong: list[str] = field(default_factory=list)

    def check(self, rows: list[int], answer: dict[str, Any]) -> None:
        """Holds an answer of predict against the point, or the points, that it names."""
        self.answers += 1
        named = answer["operating_point"]
        named = [named] * len(rows) if isinstance(named, str) else named
        said = [row["label"] for row in answer["predictions"]]
        for row, label, name in zip(rows, said, named, strict=True):
            if name in self.bias and label not in labels([row], self.bias[name]):
                self.wrong.append(f"row {row} under {name}: {label}, {answer['request_id']}")
        for name, compared in answer.get("compare", {}).items():
            if name in self.bias and compared != labels(rows, self.bias[name]):
                self.wrong.append(f"rows {rows} compared under {name}: {compared}, {answer['request_id']}")
