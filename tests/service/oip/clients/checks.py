"""Runs the checks of a client, and tells how each ended as one line of JSON."""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Served:
    """A server to check: `address` is host and port, `base` the same behind a path, `guarded` one with a token."""

    address: str
    base: str
    guarded: str
    token: str
    x: np.ndarray
    logits: np.ndarray

    @property
    def labels(self) -> list[bytes]:
        """What the plain model decides."""
        return [(b"clear", b"fraud")[i] for i in self.logits.argmax(axis=1)]

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits."""
        exps = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(exps / exps.sum(axis=1, keepdims=True))


def run(checks: dict[str, Callable[[Served], Any]]) -> None:
    """Runs every function of a module that begins with `check_`."""
    given = json.loads(sys.argv[1])
    served = Served(**{**given, "x": np.array(given["x"], dtype=np.float32), "logits": np.array(given["logits"])})
    said: dict[str, str | None] = {}
    for name, check in checks.items():
        if name.startswith("check_"):
            try:
                check(served)
                said[name] = None
            except Exception:  # each check is told by itself
                said[name] = traceback.format_exc()
    print(json.dumps(said))
