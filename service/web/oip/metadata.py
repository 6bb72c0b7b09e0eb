"""What the server and its models say of themselves under the protocol: pure, from the registry's values.

Decided here: a model's `properties` tell what no tensor says: its classes in the order of the columns, and its
operating points, whose place in that list is what an integer in the input `operating_point` means. Points are numbered
in the order in which they were published for the version and never go away, so an index keeps its meaning. The
configuration's `max_batch_size` is the number of rows that one call may have. A version that is registered by its
classes alone is described by one input, `logits`.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from calibrate.io.model import Port
from service.domain import Model, ModelVersion
from service.web.oip.datatypes import datatype_of
from service.web.oip.outputs import OUTPUTS

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)


def server_metadata(version: str) -> dict[str, Any]:
    """The server, its version and what it knows beyond the protocol's core."""
    return {"name": "setpoint", "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(model: Model, version: ModelVersion, provider: str | None) -> dict[str, Any]:
    """A model version's tensors; -1 is a free length. `provider` is what it runs on, None before it was loaded."""
    return {
        "name": model.name,
        "versions": [str(number) for number in model.versions],
        "platform": "onnx_onnxv1" if version.kind == "onnx" else "setpoint_scores",
        "inputs": [
            {"name": port.name, "datatype": datatype_of(port.dtype), "shape": _shape(port.shape)}
            for port in _ports(version)
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, len(version.classes)] if by_class else [-1]}
            for name, (datatype, by_class) in OUTPUTS.items()
        ],
        "properties": _properties(model, version) | ({} if provider is None else {"provider": provider}),
    }


def model_config(model: Model, version: ModelVersion, most_rows: int) -> dict[str, Any]:
    """A model version as Triton's configuration tells one: shapes without the axis of rows."""
    k = len(version.classes)
    return {
        "name": model.name,
        "platform": "onnxruntime_onnx" if version.kind == "onnx" else "setpoint_scores",
        "backend": "onnxruntime" if version.kind == "onnx" else "setpoint",
        "version_policy": {"specific": {"versions": list(model.versions)}},
        "max_batch_size": most_rows,
        "input": [
            {"name": port.name, "data_type": _type(datatype_of(port.dtype)), **_dims(_shape(port.shape[1:]))}
            for port in _ports(version)
        ],
        "output": [
            {"name": name, "data_type": _type(datatype), **_dims([k] if by_class else [])}
            for name, (datatype, by_class) in OUTPUTS.items()
        ],
        "parameters": {name: {"string_value": value} for name, value in _properties(model, version).items()},
    }


def point_labels(model: Model, version: ModelVersion) -> tuple[str, ...]:
    """A version's operating points, `name@version`, in the order of their indices."""
    return model.labels(version)


def index_item(version: ModelVersion, reason: str | None) -> dict[str, str]:
    """A model version's line in the repository index; `reason` says why it is not ready, None where it is."""
    state = "READY" if reason is None else "UNAVAILABLE"
    return {"name": version.model, "version": str(version.version), "state": state, "reason": reason or ""}


def _ports(version: ModelVersion) -> tuple[Port, ...]:
    """The inputs that a version is described by: `logits`, where it is registered by its classes alone."""
    if version.kind == "scores":
        return (Port("logits", "float64", (None, len(version.classes))),)
    return version.inputs


def _properties(model: Model, version: ModelVersion) -> dict[str, str]:
    is_default = model.default.model_version == version.version
    return {
        "classes": _json(version.classes),
        "operating_points": _json(point_labels(model, version)),
        "default_operating_point": model.default.label if is_default else "",
        "model_digest": version.digest,
    }


def _json(texts: Sequence[str]) -> str:
    return orjson.dumps(list(texts)).decode()


def _shape(shape: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in shape]


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _dims(inner: list[int]) -> dict[str, Any]:
    """A row's shape; Triton has none of no axes, and tells one of length 1 in its place."""
    return {"dims": inner} if inner else {"dims": [1], "reshape": {"shape": []}}
