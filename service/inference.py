"""One run of a model, any number of operating points.

Whatever a request brings, inputs, features or logits, becomes logits once; each point then decides those. Every answer
is taken from one snapshot of the model, so a batch never mixes two versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike

from calibrate.errors import WrongShape
from calibrate.io.model import Head
from calibrate.logits import head_logits, to_array, to_columns
from service.domain import BadRequest, Model, ModelVersion, PointRecord
from service.registry import Registry


@dataclass(frozen=True, eq=False)
class Rows:
    """What a request brings: exactly one of inputs by name, features (n, d) and logits (n, k)."""

    inputs: Mapping[str, np.ndarray] | None = None
    features: ArrayLike | None = None
    logits: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """Decisions on n rows: class indices, probabilities (of the mapped logits where the point contains a calibration
    map), adjusted probabilities, margins, and what others would say.
    """

    version: ModelVersion
    points: tuple[PointRecord, ...]
    decided: Int[np.ndarray, "n"]
    probabilities: Float64[np.ndarray, "n k"]
    adjusted: Float64[np.ndarray, "n k"]
    margin: Float64[np.ndarray, "n"]
    compared: Mapping[str, Int[np.ndarray, "n"]]


def to_logits(rows: Rows, version: ModelVersion, registry: Registry) -> Float[np.ndarray, "n k"]:
    """The logits of the rows, (n, k).

    Raises: `BadRequest` for features of a model without a head, `WrongShape`, `NotFinite`, `ModelFailed`.
    """
    if rows.inputs is not None:
        logits = registry.session(version).run(rows.inputs)
    elif rows.features is not None:
        logits = features_to_logits(rows.features, registry.head(version), version)
    else:
        logits = to_columns(rows.logits if rows.logits is not None else [])
    return check_width(logits, version)


def features_to_logits(features: ArrayLike, head: Head | None, version: ModelVersion) -> Float[np.ndarray, "n k"]:
    """The logits of rows of features, (n, d), under a version's head.

    Raises: `BadRequest` where it has none, `WrongShape`, `NotFinite`.
    """
    if head is None:
        raise BadRequest(f"model '{version.model}' has no linear head: send inputs or logits, not features")
    array = to_array(features, "features", (2,))
    if array.shape[1] != head.weight.shape[1]:
        raise WrongShape(f"features: wanted {head.weight.shape[1]} columns, got {array.shape[1]}")
    return head_logits(array, head.weight, head.bias)


def check_width(logits: Float[np.ndarray, "n m"], version: ModelVersion) -> Float[np.ndarray, "n m"]:
    """Logits with one column per class of the version. Raises: `WrongShape`."""
    if logits.shape[1] != len(version.classes):
        raise WrongShape(f"logits: wanted {len(version.classes)} columns, one per class, got {logits.shape[1]}")
    return logits


def answer(
    logits: Float[np.ndarray, "n k"],
    model: Model,
    version: ModelVersion,
    references: str | Sequence[str] | None,
    compare: Sequence[str] = (),
) -> Answer:
    """Decides the logits under one point, or each row under its own, and tells what the points in `compare` would say.

    Raises: `UnknownPoint`, `BadRequest` where there is not one reference per row.
    """
    n, k = logits.shape
    if references is None or isinstance(references, str):
        points: tuple[PointRecord, ...] = (model.point(version, references),)
        groups = [(points[0], np.arange(n))]
    elif len(references) != n:
        raise BadRequest(f"operating_point: wanted one name, or one per row ({n}), got {len(references)}")
    else:
        asked = {reference: model.point(version, reference) for reference in set(references)}
        points = tuple(asked[reference] for reference in references)
        labels = np.array([record.label for record in points])
        groups = [(record, np.flatnonzero(labels == record.label)) for record in asked.values()]
    decided, margin = np.empty(n, dtype=np.intp), np.empty(n)
    probabilities, adjusted = np.empty((n, k)), np.empty((n, k))
    for record, rows in groups:
        decided[rows] = record.point.decide(logits[rows])
        probabilities[rows] = record.probabilities(logits[rows])
        adjusted[rows] = record.point.adjusted(logits[rows])
        margin[rows] = record.point.margin(logits[rows])
    compared = {reference: model.point(version, reference).point.decide(logits) for reference in compare}
    return Answer(version, points, decided, probabilities, adjusted, margin, compared)
