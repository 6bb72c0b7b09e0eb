"""`infer`: a request's headers and body in, the answer's out, without a transport.

The operating point is, in this order: the input `operating_point`, one a row (BYTES: names; integers: indices, as the
metadata lists them); the request parameter `operating_point`; the header `Setpoint-Operating-Point`, for clients that
cannot send parameters; the model's default. A model with an input of that name keeps it for itself. In place of all of
a model's inputs, `features` or `logits` are taken, as in `POST /predict`.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.errors import SetpointError
from service.domain import BadRequest, Busy, Model, ModelVersion, Principal, TooLarge
from service.inference import Answer, Rows, answer, to_logits
from service.web.oip.codec import InferRequest, InferResponse, Tensor, read_raw, read_request, write_response
from service.web.oip.datatypes import BYTES, datatype_of
from service.web.oip.metadata import point_labels
from service.web.oip.outputs import answering_points, make_outputs, wanted_outputs
from service.web.oip.statistics import Times
from service.web.state import Parts

POINT = "operating_point"
POINT_HEADER = "setpoint-operating-point"
MOST_NUMBERS = 10_000_000  # rows times classes, as in `POST /predict`


def infer(
    service: Parts,
    who: Principal,
    model: str,
    version: str | None,
    headers: Mapping[str, str],
    body: bytes,
    arrived_ns: int,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; `arrived_ns` is of `time.monotonic_ns`, `headers` are in lower case.

    Raises: `Forbidden`, `UnknownModel`, `UnknownVersion`, `UnknownPoint`, `BadRequest`, `TooLarge`, `Unsupported`,
    `WrongShape`, `NotFinite`, `ModelFailed`, and `Busy` where the time that the request gave itself is over.
    """
    who.check_model(model)
    found = service.registry.model(model)
    wanted = found.version(read_version(version))
    begun = time.monotonic_ns()
    try:
        request = read_request(body, headers, service.settings.body_bytes)
        reply, rows, run_ns, read_ns = _decide(service, found, wanted, request, headers, arrived_ns)
        said, content = write_response(reply, headers.get("accept-encoding", ""))
    except SetpointError:
        service.statistics.failed(model, wanted.version, time.monotonic_ns() - arrived_ns)
        raise
    rest = time.monotonic_ns() - begun - read_ns - run_ns
    service.statistics.succeeded(model, wanted.version, rows, Times(begun - arrived_ns, read_ns, run_ns, rest))
    return 200, said, content


def read_version(text: str | None) -> int | None:
    """The number of a version in an address, None for the default one. Raises: `BadRequest`."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"a model's version is a whole number, got {text[:50]!r}")
    return int(text)


def most_rows(service: Parts, version: ModelVersion) -> int:
    """The most rows of one call."""
    return min(service.settings.predict_rows, MOST_NUMBERS // len(version.classes))


def _decide(
    service: Parts,
    model: Model,
    version: ModelVersion,
    request: InferRequest,
    headers: Mapping[str, str],
    arrived_ns: int,
) -> tuple[InferResponse, int, int, int]:
    """The answer, its rows, and the nanoseconds of running and of reading."""
    begun = time.monotonic_ns()
    wanted_outputs(request)
    tensors = dict(request.inputs)
    if request.raw is not None:
        tensors = _whole_body(request.raw, version)
    own = None if any(port.name == POINT for port in version.inputs) else tensors.pop(POINT, None)
    rows, n = _rows(tensors, version, most_rows(service, version))
    references = _references(own, n, request, headers, model, version)
    _check_time(request, arrived_ns)
    ready = time.monotonic_ns()
    if n == 0:
        logits, decided = _nothing(model, version, references)
    else:
        logits = to_logits(rows, version, service.registry)
    ran = time.monotonic_ns()
    if n > 0:
        decided = answer(logits, model, version, references)
    points = answering_points(decided)
    reply = InferResponse(
        model=model.name,
        version=str(version.version),
        id=request.id,
        parameters={POINT: ",".join(points), "model_digest": version.digest},
        outputs=make_outputs(request, decided, logits),
    )
    return reply, n, ran - ready, ready - begun


def _whole_body(raw: memoryview, version: ModelVersion) -> dict[str, Tensor]:
    if len(version.inputs) != 1:
        raise BadRequest(f"a body without a JSON header is one tensor, the model takes {len(version.inputs)} inputs")
    (port,) = version.inputs
    return {port.name: read_raw(raw, datatype_of(port.dtype), port.shape, port.name)}


def _rows(tensors: Mapping[str, Tensor], version: ModelVersion, most: int) -> tuple[Rows, int]:
    """What the model is to decide, and how many rows it is. Raises: `BadRequest`, `TooLarge`."""
    names = [port.name for port in version.inputs]
    if len(tensors) == 1 and (alone := next(iter(tensors))) in ("features", "logits") and alone not in names:
        tensor = tensors[alone]
        if tensor.datatype not in ("FP32", "FP64") or tensor.array.ndim != 2:
            raise BadRequest(
                f"input '{alone}' must be FP32 or FP64 with 2 axes, got {tensor.datatype} of shape "
                f"{list(tensor.array.shape)}"
            )
        n = _bounded(len(tensor.array), most, version)
        return Rows(features=tensor.array) if alone == "features" else Rows(logits=tensor.array), n
    if tensors.keys() != set(names):
        raise BadRequest(
            f"the model takes the inputs {', '.join(names)} (and '{POINT}'); "
            f"got {', '.join(name[:100] for name in tensors) or 'none'}"
        )
    for port in version.inputs:
        tensor, wanted = tensors[port.name], datatype_of(port.dtype)
        if tensor.datatype != wanted:
            raise BadRequest(f"input '{port.name}' must be {wanted}, got {tensor.datatype}")
        if tensor.array.ndim != len(port.shape) or any(
            length not in (None, got) for length, got in zip(port.shape, tensor.array.shape, strict=True)
        ):
            shown = ", ".join("-1" if length is None else str(length) for length in port.shape)
            raise BadRequest(f"input '{port.name}' must have shape [{shown}], got {list(tensor.array.shape)}")
    lengths = {name: len(tensors[name].array) for name in names}
    if len(set(lengths.values())) > 1:
        raise BadRequest(f"inputs must have the same number of rows, got {lengths}")
    n = _bounded(lengths[names[0]], most, version)
    return Rows(inputs={name: tensors[name].array for name in names}), n


def _bounded(rows: int, most: int, version: ModelVersion) -> int:
    if rows > most:
        raise TooLarge(f"a call may have at most {most} rows of {len(version.classes)} classes, got {rows}")
    return rows


def _references(
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


def _check_time(request: InferRequest, arrived_ns: int) -> None:
    timeout_us = request.schedule.timeout_us
    if timeout_us and time.monotonic_ns() - arrived_ns > timeout_us * 1000:
        raise Busy(f"the request's timeout of {timeout_us} microseconds was over before it could run")


def _nothing(model: Model, version: ModelVersion, references: str | Sequence[str] | None) -> tuple[np.ndarray, Answer]:
    """The answer to no rows, which no model is run for: the point must be there all the same."""
    k = len(version.classes)
    points = (model.point(version, references),) if references is None or isinstance(references, str) else ()
    columns = np.empty((0, k))
    return columns, Answer(version, points, np.empty(0, dtype=np.intp), columns, columns, np.empty(0), {})
