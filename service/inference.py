"""One run of a model, any number of operating points.

Whatever a request brings, inputs, features or logits, becomes logits once; each point then decides those. Every answer
is taken from one snapshot of the model, so a batch never mixes two versions. Nothing here knows of HTTP: `find_logits`
and `answer` are what every protocol calls.

Decided here: runs are the runner's to order, which may run rows of several callers together, or at once and in place
where a run is short.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike

from calibrate.errors import WrongShape
from calibrate.io.model import Head
from calibrate.logits import head_logits, to_array, to_columns
from calibrate.operating_point import Judged, decide_under, judge_rows
from service.domain import BadRequest, Model, ModelVersion, PointRecord
from service.ports import Runner
from service.registry import Registry


class Rows(NamedTuple):
    """What a request brings: exactly one of inputs by name, features (n, d) and logits (n, k)."""

    inputs: Mapping[str, np.ndarray] | None = None
    features: ArrayLike | None = None
    logits: ArrayLike | None = None


class Answer(NamedTuple):
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


InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


def find_logits_now(
    rows: Rows, version: ModelVersion, registry: Registry, runner: Runner
) -> Float[np.ndarray, "n k"] | None:
    """The logits of the rows, (n, k), where they are found faster than a thread could be asked; None where not.

    Raises: what `to_logits` raises.
    """
    if rows.logits is not None:
        return to_logits(rows, version, registry)
    session = None if rows.inputs is None else registry.loaded(version)
    if rows.inputs is None or session is None:
        return None
    logits = runner.run_now(version, session, rows.inputs)
    return None if logits is None else check_width(logits, version)


async def find_logits(
    rows: Rows,
    version: ModelVersion,
    registry: Registry,
    runner: Runner,
    in_thread: InThread,
    *,
    priority: int = 0,
    until: float | None = None,
) -> Float[np.ndarray, "n k"]:
    """The logits of the rows, (n, k), without holding up the event loop; `in_thread` runs what is long.

    Raises: what `to_logits` raises, `Busy`, `TimedOut`.
    """
    if rows.inputs is not None:
        session = registry.loaded(version) or await in_thread(lambda: registry.session(version))
        return check_width(await runner.run(version, session, rows.inputs, priority=priority, until=until), version)
    if rows.features is not None:
        found: Float[np.ndarray, "n k"] = await in_thread(lambda: to_logits(rows, version, registry))
        return found
    return to_logits(rows, version, registry)


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

    Raises: `UnknownPoint`, `NotApproved`, `BadRequest` where there is not one reference per row, `NotFinite` where a
    point overflows.
    """
    n = len(logits)
    if references is None or isinstance(references, str):
        record = model.point(version, references)
        points: tuple[PointRecord, ...] = (record,)
        decided, probabilities, adjusted, margin = record.judge(logits)
    else:
        if len(references) != n:
            raise BadRequest(f"operating_point: wanted one name, or one per row ({n}), got {len(references)}")
        asked = {reference: model.point(version, reference) for reference in dict.fromkeys(references)}
        points = tuple([asked[reference] for reference in references])
        decided, probabilities, adjusted, margin = _judge_each(logits, points)
    compared: dict[str, Int[np.ndarray, "n"]] = {}
    if compare:
        records = [model.compared(version, reference) for reference in compare]
        compared = dict(zip(compare, decide_under([record.point for record in records], logits), strict=True))
    return Answer(version, points, decided, probabilities, adjusted, margin, compared)


def _judge_each(logits: Float[np.ndarray, "n k"], points: Sequence[PointRecord]) -> Judged:
    """Each row under its own point."""
    judged = judge_rows([record.point for record in points], logits)
    rows: dict[str, tuple[PointRecord, list[int]]] = {}
    for i, record in enumerate(points):
        if record.calibration is not None:
            rows.setdefault(record.label, (record, []))[1].append(i)
    for record, own in rows.values():
        judged.probabilities[own] = record.probabilities(logits[own])
    return judged
