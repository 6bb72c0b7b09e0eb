"""What is known of a model that rows are run through, whatever it was made with.

Decided here: a model that has a linear head gives features, and its logits are made from them and the head by
`feature_cache`, in float64; one that has none gives logits. What a model gives is checked on every batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of the data: what the model is called with, labels (n,), and further columns (n,) by name."""

    number: int
    first_row: int
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    labels: np.ndarray
    columns: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.labels.shape[0])


@dataclass(frozen=True, eq=False)
class LinearHead:
    """`logits = features @ weight.T + bias`: `weight` (k, d), or (1, d) for one logit; `bias` (k,); its name."""

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, "k"]
    name: str


@dataclass(frozen=True, eq=False)
class Extractor:
    """A model made ready: `run` gives the features (n, d) of a batch where there is a `head`, else its logits.

    `kind` says what made the model, `digest` is of its weights, `file_digest` the SHA-256 of its file where it was one;
    `classes` and `prior` are what it knows of itself, and `values` (k,) the labels that it was trained with, where they
    are not the indices of its columns.
    """

    run: Callable[[Batch], Float[np.ndarray, "..."]]
    kind: str
    digest: str
    head: LinearHead | None = None
    classes: tuple[str, ...] | None = None
    prior: Sequence[float] | None = None
    values: np.ndarray | None = field(default=None)
    file_digest: str | None = None
