"""From a request's tensors to what the model runs on, and to the points that decide: each checked against the model.

The operating point is, in this order: the input `operating_point`, one a row (BYTES: names; integers: indices, as the
metadata lists them); the request parameter `operating_point`; the header `Setpoint-Operating-Point`, for clients that
cannot send parameters; the model's default. A model with an input or a described column of that name keeps it for
itself. In place of all of a model's inputs, `features`, `logits`, `probabilities` or `margins` are taken, as in `POST
/predict`; so are the described columns of its one input, a tensor [n] or [n, 1] for each, by name in any order.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.errors import shown
from calibrate.io.columns import input_columns
from calibrate.io.description import Column
from calibrate.io.model import Port
from service.domain import Model, ModelVersion
from service.errors import BadRequest, TooLarge
from service.inference import SCORES, Rows, rows_of
from service.web.oip.codec import InferRequest, Tensor, read_raw
from service.web.oip.datatypes import BYTES, datatype_of
from service.web.oip.metadata import point_labels
from service.web.packed import by_column
from service.web.tensors import fit_inputs

POINT = "operating_point"
POINT_HEADER = "setpoint-operating-point"
_MOST_SHOWN = 20  # names in a refusal, which a client may have sent thousands of


def whole_body(raw: memoryview, version: ModelVersion) -> dict[str, Tensor]:
    """A body without JSON as the model's one input. Raises: `BadRequest`."""
    if version.kind == "scores":
        raise BadRequest(_scores_only(version))
    if len(version.inputs) != 1:
        raise BadRequest(f"a body without a JSON header is one tensor, the model takes {len(version.inputs)} inputs")
    (port,) = version.inputs
    return {port.name: read_raw(raw, datatype_of(port.dtype), port.shape, port.name)}


def split_point(tensors: Mapping[str, Tensor], version: ModelVersion) -> tuple[Tensor | None, Mapping[str, Tensor]]:
    """The input `operating_point`, where it is not the model's own, and the others."""
    if POINT not in tensors or any(port.name == POINT for port in version.inputs):
        return None, tensors
    others = {name: tensor for name, tensor in tensors.items() if name != POINT}
    if any(column.name == POINT for column in version.description.columns):
        whole = {version.inputs[0].name, "features", *SCORES} if version.inputs else set()
        if not (len(others) == 1 and others.keys() <= whole):
            return None, tensors
    return tensors[POINT], others


def to_rows(tensors: Mapping[str, Tensor], version: ModelVersion, most: int) -> tuple[Rows, int]:
    """What the model is to decide, and how many rows it is. Raises: `BadRequest`, `TooLarge`."""
    ports = version.inputs
    given = {port.name: tensors.get(port.name) for port in ports}
    takes = SCORES if version.kind == "scores" else ("features", *SCORES)
    if len(tensors) == 1 and (alone := next(iter(tensors))) in takes and alone not in given:
        return _scored(alone, tensors[alone], version, most)
    if version.kind == "scores":
        raise BadRequest(_scores_only(version))
    if len(given) != len(tensors) or None in given.values():
        described = input_columns(version.description.columns, ports)
        if described and ports[0].name not in tensors and _are_columns(tensors, described):
            array = _by_column(tensors, ports[0], described)
            return Rows({ports[0].name: array}), _bounded(len(array), most, version)
        names = ", ".join(name[:100] for name in list(tensors)[:_MOST_SHOWN]) or "none"
        more = f" and {len(tensors) - _MOST_SHOWN} more" if len(tensors) > _MOST_SHOWN else ""
        columns = ", or its columns," if described else ""
        raise BadRequest(f"the model takes the inputs {', '.join(given)}{columns} (and '{POINT}'); got {names}{more}")
    inputs = {port.name: _fitting(tensors[port.name], port) for port in ports}
    n = len(inputs[ports[0].name])
    if len(ports) > 1 and any(len(array) != n for array in inputs.values()):
        lengths = {name: len(array) for name, array in inputs.items()}
        raise BadRequest(f"inputs must have the same number of rows, got {lengths}")
    return Rows(inputs), _bounded(n, most, version)


def _are_columns(tensors: Mapping[str, Tensor], described: Sequence[Column]) -> bool:
    return len(tensors) > 1 or any(column.name in tensors for column in described)


def _by_column(tensors: Mapping[str, Tensor], port: Port, described: Sequence[Column]) -> np.ndarray:
    """The rows (n, d) of a model's one input, from a tensor of any type for each described column.

    Raises: `BadRequest`, `WrongColumns`, `UnknownCategory`, `WrongShape`.
    """
    arrays = {}
    for name, tensor in tensors.items():
        shape = tensor.array.shape
        if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            raise BadRequest(f"input {shown(name)}: a column must have shape [n] or [n, 1], got {list(shape)}")
        arrays[name] = tensor.array.reshape(-1)
    first, *others = arrays
    if (odd := next((name for name in others if len(arrays[name]) != len(arrays[first])), None)) is not None:
        raise BadRequest(
            f"columns must have the same number of rows, got {len(arrays[first])} in {shown(first)} and "
            f"{len(arrays[odd])} in {shown(odd)}"
        )
    rows = by_column(arrays, port, described)
    if not len(rows):
        return np.empty(rows.shape, object if port.dtype == "str" else port.dtype)
    return fit_inputs({port.name: rows}, [port])[port.name]


def _scores_only(version: ModelVersion) -> str:
    wanted = " or ".join(f"'{kind}'" for kind in SCORES)
    return f"model '{version.model}' is registered by its classes alone: send one input, {wanted}"


def _scored(kind: str, tensor: Tensor, version: ModelVersion, most: int) -> tuple[Rows, int]:
    """Features or scores in place of a model's inputs. Raises: `BadRequest`, `TooLarge`."""
    array = tensor.array
    axes = (2,) if kind in ("features", "logits") else (1, 2)
    if tensor.datatype not in ("FP32", "FP64") or array.ndim not in axes:
        wanted = " or ".join(str(count) for count in axes)
        raise BadRequest(
            f"input '{kind}' must be FP32 or FP64 with {wanted} axes, got {tensor.datatype} of shape "
            f"{list(array.shape)}"
        )
    return rows_of(kind, array), _bounded(len(array), most, version)


def _fitting(tensor: Tensor, port: Port) -> np.ndarray:
    """The array of an input. Raises: `BadRequest` where it is not of the model's type and shape."""
    wanted, shape = datatype_of(port.dtype), tensor.array.shape
    if tensor.datatype != wanted:
        raise BadRequest(f"input '{port.name}' must be {wanted}, got {tensor.datatype}")
    if not _has_shape(shape, port.shape):
        shown = ", ".join("-1" if length is None else str(length) for length in port.shape)
        raise BadRequest(f"input '{port.name}' must have shape [{shown}], got {list(shape)}")
    return tensor.array


def _has_shape(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    if len(shape) != len(wanted):
        return False
    for got, length in zip(shape, wanted, strict=True):  # noqa: SIM110  # of few axes, as in all() in half the time
        if length is not None and length != got:
            return False
    return True


def _bounded(rows: int, most: int, version: ModelVersion) -> int:
    if rows > most:
        raise TooLarge(f"a call may have at most {most} rows of {len(version.classes)} classes, got {rows}")
    return rows


def to_references(
    own: Tensor | None,
    rows: int,
    request: InferRequest,
    headers: Mapping[str, str],
    model: Model,
    version: ModelVersion,
) -> str | Sequence[str] | None:
    """The point that decides, or one a row. Raises: `BadRequest`."""
    told = request.parameters.get(POINT)
    if told is not None and not isinstance(told, str):
        raise BadRequest(f"parameters: {POINT} must be a text, `name` or `name@version`")
    if own is None:
        return told if told is not None else headers.get(POINT_HEADER)
    if told is not None:
        raise BadRequest(f"{POINT} was given as an input and as a parameter: give one")
    if own.array.shape not in ((rows,), (rows, 1)):
        raise BadRequest(f"input '{POINT}' must have shape [{rows}], one a row, got {list(own.array.shape)}")
    if own.datatype == BYTES:
        return [str(name) for name in own.array.ravel().tolist()]
    if own.array.dtype.kind not in "iu":
        raise BadRequest(f"input '{POINT}' must be BYTES, names, or INT32, indices; got {own.datatype}")
    labels, indices = point_labels(model, version), own.array.ravel()
    if (outside := np.flatnonzero((indices < 0) | (indices >= len(labels)))).size:
        raise BadRequest(
            f"input '{POINT}'[{outside[0]}] must be an index from 0 to {len(labels) - 1}, as the model's metadata "
            f"lists its points; got {indices[outside[0]]}"
        )
    return [labels[index] for index in indices.tolist()]
