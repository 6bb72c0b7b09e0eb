"""What is known of a model's graph: values without ONNX, so that a server which only runs models need not import it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

OutputKind = Literal["logits", "probabilities"]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear last layer: `logits = features @ weight.T + bias`, and the names of its two tensors in the graph.

    `weight` (k, d) and `bias` (k,) are float32; a head of one logit has k = 2 and zeros in its first row.
    """

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, "k"]
    features: str
    logits: str


@dataclass(frozen=True)
class Port:
    """An input: its name, numpy type ("float32", "int64", "str", ...) and shape, None where a length is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class ModelGraph:
    """A model ready to serve: `data` is the graph with `output`, which holds `kind`, and the head's features.

    `labels` are the classes as the graph itself names them, in the order of its columns, None where it names none;
    `columns` the width of `output`, 1 for one logit of two classes, None where it cannot be told.
    """

    data: bytes
    inputs: tuple[Port, ...]
    output: str
    kind: OutputKind
    head: Head | None
    metadata: dict[str, str]
    labels: tuple[str, ...] | None = None
    columns: int | None = None
