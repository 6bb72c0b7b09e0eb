"""An infer request from bytes and headers, and its answer as bytes and headers: pure, without a model or a transport.

Decided here: whether a body holds raw tensors is told by `Inference-Header-Content-Length` alone, because clients send
any content type or none; a message names the tensor and the element. What the JSON says is read by `heads`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from service.errors import BadRequest
from service.web.oip.compression import compress, decompress
from service.web.oip.datatypes import BYTES, elements
from service.web.oip.heads import Parameters, Schedule, ToldTensor, WantedOutput, read_head, recall_head
from service.web.oip.tensors import Flat, Texts, from_bytes, from_json, to_bytes, to_json, to_text

HEADER_LENGTH = "inference-header-content-length"
_HEADER_LENGTH = HEADER_LENGTH.encode()
_MOST_DIGITS = 18
Headers = tuple[tuple[bytes, bytes], ...]
_NO_BYTES, _NO_HEADERS = memoryview(b""), Headers()


class Tensor(NamedTuple):
    """An input as it came: a view of the body where its bytes were raw; texts are an array of `str`."""

    datatype: str
    array: np.ndarray


class InferRequest(NamedTuple):
    """What a client asked. `raw` is a whole body that is the model's one input, `outputs` is None where all are wanted,
    and `binary` says how they are then answered.
    """

    inputs: Mapping[str, Tensor]
    outputs: tuple[WantedOutput, ...] | None
    binary: bool
    id: str | None
    parameters: Parameters
    schedule: Schedule
    raw: memoryview | None = None


class Output(NamedTuple):
    """A tensor of the answer; where it is `Flat` it is not told raw."""

    name: str
    datatype: str
    values: np.ndarray | Texts | Flat
    binary: bool


def read_request(body: bytes, headers: Mapping[str, str], most_bytes: int) -> InferRequest:
    """A request from its body; `headers` are looked up in lower case.

    Raises: `BadRequest`, `TooLarge` where it unpacks to more than `most_bytes`, `Unsupported` for shared memory and
    sequences.
    """
    encoding, told = headers.get("content-encoding"), headers.get(HEADER_LENGTH)
    if encoding is not None:
        body = decompress(body, encoding, most_bytes)
    if told is None:
        head, raw = read_head(body), _NO_BYTES
    else:
        length = _header_length(told, len(body))
        raw = memoryview(body)[length:]
        if length == 0:
            return InferRequest({}, None, True, None, {}, Schedule(), raw)
        head = recall_head(body[:length]) if len(raw) else read_head(body)
    told_inputs, outputs, binary, call_id, parameters, schedule = head
    return InferRequest(_tensors(told_inputs, raw), outputs, binary, call_id, parameters, schedule)


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


def write_response(
    model: str, version: str, call_id: str | None, parameters: Parameters, outputs: Sequence[Output], accepted: str = ""
) -> tuple[bytes, Headers, bytes]:
    """Media type, further headers and body of an answer; `accepted` is the request's `Accept-Encoding`."""
    described: list[dict[str, Any]] = []
    pieces: list[bytes | memoryview] = [b""]
    for name, datatype, values, binary in outputs:
        said: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
        if binary and not isinstance(values, Flat):
            data = to_bytes(values)
            said["parameters"] = {"binary_data_size": memoryview(data).nbytes}
            pieces.append(data)
        else:
            said["data"] = to_json(values)
        described.append(said)
    answer: dict[str, Any] = {"model_name": model, "model_version": version}
    if call_id is not None:
        answer["id"] = call_id
    answer["parameters"], answer["outputs"] = parameters, described
    pieces[0] = head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    media_type, headers = b"application/json", _NO_HEADERS
    if len(pieces) > 1:
        media_type, headers = b"application/octet-stream", ((_HEADER_LENGTH, b"%d" % len(head)),)
    encoding, body = compress(b"".join(pieces), accepted)
    if encoding is not None:
        headers = (*headers, (b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding"))
    return media_type, headers, body


def _header_length(given: str, size: int) -> int:
    if not (given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS) or int(given) > size:
        raise BadRequest(
            f"Inference-Header-Content-Length must be a whole number from 0 to the {size} bytes of the body, "
            f"got {given[:50]!r}"
        )
    return int(given)


def _tensors(told: Sequence[ToldTensor], raw: memoryview) -> dict[str, Tensor]:
    """The inputs, those without data from the bytes behind the JSON. Raises: `BadRequest`."""
    found: dict[str, Tensor] = {}
    at = 0
    for name, what, datatype, shape, size, data in told:
        if data is not None:
            found[name] = Tensor(datatype, from_json(data, datatype, shape, what))
            continue
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
