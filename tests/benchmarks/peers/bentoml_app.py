"""BentoML with adaptive batching: `bentoml serve bentoml_app:Network`.

A `batchable` API over arrays, which BentoML counts in rows: at most as many as all callers ask for at once, and its
dispatcher finds the window by itself; its latency goal is the default, since it refuses calls that miss a short one.
Types are declared, so that no array is guessed. One worker.
"""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from session import open_session


@bentoml.service(workers=1)
class Network:
    """Rows in, logits out."""

    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=1024)
    def predict(self, inputs: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        """One run for what BentoML put together."""
        made: np.ndarray = self.session.run(None, {"x": inputs})[0]
        return made
