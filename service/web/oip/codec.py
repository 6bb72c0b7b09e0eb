"""An infer request from bytes and headers, and its answer as bytes and headers: pure, without a model or a transport.

Decided here: whether a body holds raw tensors is told by `Inference-Header-Content-Length` alone, because clients send
any content type or none; fields that are not known are passed over, because clients send more than the protocol names;
what is known must be right, and a message names the tensor and the element.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from service.errors import BadRequest, Unsupported
from service.web.oip.compression import compress, decompress
from service.web.oip.datatypes import BYTES, elements, read_datatype, read_shape
from service.web.oip.tensors import Texts, from_bytes, from_json, to_bytes, to_json, to_text

HEADER_LENGTH = "inference-header-content-length"
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_NO_JSON = re.compile(rb"\b(NaN|Infinity)\b")
Parameter = str | int | float | bool
Parameters = Mapping[str, Parameter]


@dataclass(frozen=True, eq=False)
class Tensor:
    """An input as it came: a view of the body where its bytes were raw; texts are an array of `str`."""

    datatype: str
    array: np.ndarray


@dataclass(frozen=True)
class WantedOutput:
    """An output that is asked for: raw or as JSON, and of how many classes if as a classification (0 where not)."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Schedule:
    """When a request should run: `priority` 1 is the highest, 0 the default; `timeout_us` is 0 where it has none."""

    priority: int = 0
    timeout_us: int = 0


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a client asked. `raw` is a whole body that is the model's one input, `outputs` is None where all are wanted,
    and `binary` says how they are then answered.
    """

    inputs: Mapping[str, Tensor]
    outputs: tuple[WantedOutput, ...] | None = None
    binary: bool = False
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
    schedule: Schedule = Schedule()
    raw: memoryview | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor of the answer."""

    name: str
    datatype: str
    values: np.ndarray | Texts
    binary: bool


@dataclass(frozen=True, eq=False)
class InferResponse:
    """What a client is answered."""

    model: str
    version: str
    id: str | None
    parameters: Parameters
    outputs: Sequence[Output]


def read_request(body: bytes, headers: Mapping[str, str], most_bytes: int) -> InferRequest:
    """A request from its body; `headers` are looked up in lower case.

    Raises: `BadRequest`, `TooLarge` where it unpacks to more than `most_bytes`, `Unsupported` for shared memory and
    sequences.
    """
    unpacked = memoryview(decompress(body, headers.get("content-encoding", ""), most_bytes))
    length = _header_length(headers.get(HEADER_LENGTH), len(unpacked))
    if length == 0 and HEADER_LENGTH in headers:
        return InferRequest({}, binary=True, raw=unpacked)
    call = _read_json(unpacked[:length])
    call_id = call.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise BadRequest("id must be a text")
    parameters = _parameters(call.get("parameters"), "parameters")
    if parameters.get("sequence_id"):
        raise Unsupported("sequences are not supported: each request is answered by itself")
    binary = _flag(parameters, "binary_data_output", "parameters", default=False)
    return InferRequest(
        inputs=_inputs(call.get("inputs"), unpacked[length:]),
        outputs=_outputs(call.get("outputs"), binary),
        binary=binary,
        id=call_id,
        parameters=parameters,
        schedule=Schedule(_count(parameters, "priority"), _count(parameters, "timeout")),
    )


def read_raw(raw: memoryview, datatype: str, shape: Sequence[int | None], name: str) -> Tensor:
    """A whole body as the one row of a model's one input; `shape` is the model's, with its axis of rows.

    Raises: `BadRequest` where the shape cannot be told from the length, or does not fit it.
    """
    what = f"input '{name}'"
    inner = list(shape[1:])
    if datatype == BYTES:
        if any(length not in (1, None) for length in inner):
            raise BadRequest(f"{what}: a body without a JSON header holds one text, the model takes {inner} a row")
        array = np.empty(1, dtype=object)
        array[0] = to_text(raw, what)
        return Tensor(datatype, array.reshape([1] * len(shape)))
    if (free := inner.count(None)) > 1:
        raise BadRequest(f"{what}: its shape cannot be told from a body without a JSON header, {free} lengths are free")
    if free:
        row = elements([length for length in inner if length is not None])
        item = from_bytes(memoryview(b""), datatype, (0,), what).itemsize
        inner[inner.index(None)] = len(raw) // max(1, row * item)
    return Tensor(datatype, from_bytes(raw, datatype, (1, *(length or 0 for length in inner)), what))


def write_response(response: InferResponse, accepted: str = "") -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer; `accepted` is the request's `Accept-Encoding`."""
    described: list[dict[str, Any]] = []
    raw: list[bytes | memoryview] = []
    for output in response.outputs:
        item: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.values.shape)}
        if output.binary:
            data = to_bytes(output.values)
            item["parameters"] = {"binary_data_size": data.nbytes if isinstance(data, memoryview) else len(data)}
            raw.append(data)
        else:
            item["data"] = to_json(output.values)
        described.append(item)
    said = {"model_name": response.model, "model_version": response.version}
    said |= {} if response.id is None else {"id": response.id}
    head = orjson.dumps(
        {**said, "parameters": response.parameters, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    headers = {"content-type": "application/json"}
    if raw:
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    encoding, body = compress(b"".join([head, *raw]), accepted)
    if encoding is not None:
        headers |= {"content-encoding": encoding, "vary": "accept-encoding"}
    return headers, body


def _header_length(given: str | None, size: int) -> int:
    if given is None:
        return size
    if not _DIGITS.fullmatch(given) or int(given) > size:
        raise BadRequest(
            f"Inference-Header-Content-Length must be a whole number from 0 to the {size} bytes of the body, "
            f"got {given[:50]!r}"
        )
    return int(given)


def _read_json(head: memoryview) -> dict[str, Any]:
    try:
        call = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        if _NO_JSON.search(head):
            raise BadRequest(
                "the request is not JSON: it holds NaN or Infinity, which JSON has not; send the tensor as binary "
                "data, or null for a missing value"
            ) from None
        raise BadRequest(f"the request is not JSON: {error}") from None
    if not isinstance(call, dict):
        raise BadRequest("the request must be a JSON object")
    return call


def _inputs(value: Any, raw: memoryview) -> dict[str, Tensor]:
    if not isinstance(value, list):
        raise BadRequest("inputs must be a list of tensors" + (", it is missing" if value is None else ""))
    found: dict[str, Tensor] = {}
    at = 0
    for i, item in enumerate(value):
        name, what = _name(item, f"inputs[{i}]", "input")
        if name in found:
            raise BadRequest(f"{what} comes more than once")
        datatype, shape = read_datatype(item.get("datatype"), what), read_shape(item.get("shape"), what)
        parameters = _parameters(item.get("parameters"), f"{what}: parameters")
        size = parameters.get("binary_data_size")
        if size is None:
            if item.get("data") is None:
                raise BadRequest(f"{what} has neither data nor binary_data_size")
            found[name] = Tensor(datatype, from_json(item["data"], datatype, shape, what))
            continue
        if item.get("data") is not None:
            raise BadRequest(f"{what} has both data and binary_data_size")
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise BadRequest(
                f"{what}: binary_data_size must be a whole number of bytes, at most the {len(raw) - at} that are left "
                f"behind the JSON; got {str(size)[:50]}"
            )
        found[name] = Tensor(datatype, from_bytes(raw[at : at + size], datatype, shape, what))
        at += size
    if at != len(raw):
        raise BadRequest(f"{len(raw) - at} bytes are left behind the JSON and its {len(found)} inputs")
    return found


def _outputs(value: Any, binary: bool) -> tuple[WantedOutput, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadRequest("outputs must be a list")
    found: dict[str, WantedOutput] = {}
    for i, item in enumerate(value):
        name, what = _name(item, f"outputs[{i}]", "output")
        if name in found:
            raise BadRequest(f"{what} comes more than once")
        parameters = _parameters(item.get("parameters"), f"{what}: parameters")
        classes = _count(parameters, "classification", f"{what}: ")
        found[name] = WantedOutput(name, _flag(parameters, "binary_data", what, default=binary), classes)
    return tuple(found.values()) or None


def _name(item: Any, place: str, kind: str) -> tuple[str, str]:
    """The name of a tensor, and what messages call it."""
    if not isinstance(item, dict):
        raise BadRequest(f"{place} must be an object")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{place}: name must be a text that is not empty")
    return name, f"{kind} {name[:100]!r}"


def _parameters(value: Any, what: str) -> Parameters:
    if not value and isinstance(value, dict | None):
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must be an object")
    for name, item in value.items():
        if not isinstance(item, str | int | float | bool):
            raise BadRequest(f"{what}: {name[:100]!r} must be a text, a number, true or false")
        if name.startswith("shared_memory_"):
            raise Unsupported("shared memory is not supported: send tensors in the request")
    return value


def _flag(parameters: Parameters, name: str, what: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{what}: {name} must be true or false")
    return value


def _count(parameters: Parameters, name: str, what: str = "parameters: ") -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise BadRequest(f"{what}{name} must be a whole number from 0 up, got {str(value)[:50]!r}")
    return value
