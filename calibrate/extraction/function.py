"""Scores from a function of the inputs, or scores that are there already."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel
from calibrate.extraction.batches import to_numpy
from calibrate.extraction.digest import digest_of
from calibrate.extraction.model import Batch, Extractor
from calibrate.logits import logits_from_probabilities


def function_extractor(model: Callable[..., Any] | None, kind: str | None) -> Extractor:
    """What a function makes of a batch, as `kind` says: logits or probabilities; of None, the inputs themselves.

    A function has no digest: nobody can tell whether it is the same again. Raises: `BadModel`.
    """
    if model is not None and not callable(model):
        raise BadModel(
            "wanted a PyTorch module, an ONNX file, a scikit-learn, XGBoost or LightGBM classifier, a function, or "
            f"None for scores; got {type(model).__name__}"
        )
    if kind is None:
        raise BadModel("nobody can tell logits from probabilities: say output_kind")

    def run(batch: Batch) -> Float[np.ndarray, "..."]:
        if model is not None:
            made = to_numpy(model(*batch.args, **batch.named))
        elif len(batch.args) + len(batch.named) != 1:
            raise BadModel(f"wanted one array of scores, got {len(batch.args) + len(batch.named)}")
        else:
            made = to_numpy([*batch.args, *batch.named.values()][0])
        return logits_from_probabilities(made) if kind == "probabilities" else made

    if model is None:
        return Extractor(run, "scores", digest_of([b"scores"]))
    return Extractor(run, "function", "")
