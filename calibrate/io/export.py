"""A model that decides on its own: one ONNX file with the operating points written into its graph.

Decided here: what is exported is the graph as it is served, cut at its logits, with the points behind it as a table.
An input `operating_point` holds a row's index into the table; it has a default, so plain ONNX Runtime may leave it out.
What the file cannot say in numbers, names, versions and digests, is in its metadata.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import onnx

from calibrate.errors import BadModel, BadPoint
from calibrate.io.cut import cut
from calibrate.io.decision import INDEX, OUTPUTS, PREFIX, add_decision
from calibrate.io.description import read_description
from calibrate.io.graph import read_model
from calibrate.io.model import ModelGraph
from calibrate.operating_point import OperatingPoint

_LEAST_OPSET = 11
_CONVERTED_OPSET = 13
POINTS, CLASSES, DEFAULT, SOURCE = (f"setpoint.{key}" for key in ("points", "classes", "default", "source_digest"))


@runtime_checkable
class Fitted(Protocol):
    """A point with what is known of it, as a `FitResult` is."""

    @property
    def point(self) -> OperatingPoint:
        """The rule."""

    def to_dict(self) -> dict[str, Any]:
        """All that is known, the `evidence` among it."""


@dataclass(frozen=True)
class SavedPoint:
    """What a file of a point holds: a bare point, a saved result, or a server's answer with its name and version."""

    point: OperatingPoint
    details: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Everything that stands in the file."""
        return dict(self.details)


def read_point(path: str | Path) -> SavedPoint:
    """Reads what `OperatingPoint.save` or `FitResult.save` wrote, or a server answered. Raises: `BadPoint`."""
    point = OperatingPoint.load(path)
    value = json.loads(Path(path).read_text(encoding="utf-8"))
    return SavedPoint(point, value if "point" in value else {})


def export(
    model: bytes | str | Path,
    points: Mapping[str, OperatingPoint | Fitted],
    *,
    default: str | None = None,
    output: str | None = None,
    output_kind: str | None = None,
) -> bytes:
    """The bytes of an ONNX file that decides under these points.

    `model` is an ONNX file or its bytes, `points` are by name, all of the model's classes; `default`, the first unless
    told, counts where no index is sent. `output` and `output_kind` are those of `read_model`.

    The file takes what the model takes and `operating_point`, INT64 of shape (n,), an index of each row, or (1,), one
    for all; it may be left out. It puts out `label` INT64 (n,), the index of the decided class; and in DOUBLE
    `probabilities` (n, k) of the model, `adjusted` (n, k), `margin` (n,) and `logits` (n, k), each as `OperatingPoint`
    has them. Where an index is not in the table or a number is not finite, the label is -1 and the margin NaN. The
    metadata has `setpoint.points` (index, name, digests of the point and of its evidence), `setpoint.classes`,
    `setpoint.default` and `setpoint.source_digest`.

    Raises: `BadModel`, `NoHead`, `BadPoint`.
    """
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    if not points:
        raise BadPoint("wanted at least one operating point, got none")
    names = list(points)
    chosen = names[0] if default is None else default
    if chosen not in points:
        raise BadPoint(f"the default must be one of {', '.join(names)}, got {chosen!r}")
    rules = [value if isinstance(value, OperatingPoint) else value.point for value in points.values()]
    served = read_model(data, output=output, output_kind=output_kind)
    columns = _check_classes(served, names, rules)

    exported = _of_opset(onnx.load_model_from_string(served.data))
    graph = exported.graph
    tensor = cut(graph, served.output, lambda name: name in (INDEX, *OUTPUTS) or name.startswith(PREFIX))
    add_decision(
        graph,
        tensor,
        columns,
        of_probabilities=served.kind == "probabilities",
        points=rules,
        default=names.index(chosen),
    )
    exported.ir_version = max(exported.ir_version, 4)  # from which on a constant need not be an input
    exported.producer_name = "setpoint"
    metadata = served.metadata | {
        POINTS: json.dumps([_entry(i, name, value) for i, (name, value) in enumerate(points.items())]),
        CLASSES: json.dumps(rules[0].classes, ensure_ascii=False),
        DEFAULT: chosen,
        SOURCE: hashlib.sha256(data).hexdigest(),
    }
    onnx.helper.set_model_props(exported, metadata)
    try:
        onnx.checker.check_model(exported, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadModel(f"the model with its points does not pass the ONNX checker: {str(error)[:500]}") from None
    return bytes(exported.SerializeToString())


def _entry(index: int, name: str, value: OperatingPoint | Fitted) -> dict[str, Any]:
    """What the metadata says of a point."""
    point = value if isinstance(value, OperatingPoint) else value.point
    details = {} if isinstance(value, OperatingPoint) else value.to_dict()
    kept = ("model", "model_version", "version", "metric", "constraints", "positive", "prevalence", "method")
    known: dict[str, Any] = {key: details[key] for key in kept if key in details}
    evidence = details.get("evidence")
    return {
        "index": index,
        "name": name,
        "published_as": details.get("name"),
        **known,
        "digest": point.digest,
        "evidence_digest": None if not evidence else _digest(evidence),
    }


def _digest(value: object) -> str:
    """SHA-256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_classes(model: ModelGraph, names: Sequence[str], rules: Sequence[OperatingPoint]) -> int:
    """The width of the model's output. Raises: `BadPoint`, `BadModel` where points and model do not belong together."""
    classes = rules[0].classes
    for name, rule in zip(names, rules, strict=True):
        if rule.classes != classes:
            raise BadPoint(
                f"points must be of the same classes: {names[0]!r} has {classes}, {name!r} has {rule.classes}"
            )
    own = read_description(model.metadata).classes or model.labels
    if own is not None and len(own) == len(classes) and own != classes and sorted(own) == sorted(classes):
        raise BadPoint(
            f"the points are for {', '.join(classes[:20])}, the model has {', '.join(own[:20])}, in this order"
        )
    if model.columns is None:
        raise BadModel(f"the number of columns of output {model.output!r} is not told: declare its shape in the graph")
    if model.columns != len(classes) and (model.columns, len(classes)) != (1, 2):
        raise BadPoint(f"the points are for {len(classes)} classes, the model puts out {model.columns} columns")
    return model.columns


def _of_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an operator set that has what is added."""
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if versions and max(versions) >= _LEAST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, _CONVERTED_OPSET)
    except Exception as error:  # of C++ code, without a base of their own
        raise BadModel(
            f"the model is of operator set {max(versions, default=0)} and cannot be converted, wanted {_LEAST_OPSET} "
            f"or later: export it so. {str(error)[:200]}"
        ) from None
