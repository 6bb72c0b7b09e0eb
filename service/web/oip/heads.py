"""The JSON of an infer request, checked as far as it can be without tensors and without a model.

Decided here: fields that are not known are passed over, because clients send more than the protocol names; what is
known must be right, and a message names the tensor. Clients with raw tensors send the same JSON call after call but for
its id, so what short ones say is remembered by their bytes, without an id in front: nothing of a model, a caller or a
tensor is in it. Whatever goes wrong on that way is told by the other one.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from service.errors import BadRequest, Unsupported
from service.web.oip.datatypes import read_datatype, read_shape

Parameter = str | int | float | bool
Parameters = Mapping[str, Parameter]
MOST_REMEMBERED, MOST_REMEMBERED_BYTES = 256, 4096
_NO_JSON = re.compile(rb"\b(NaN|Infinity)\b")
_ID = re.compile(rb'\{"id": ?"([\w.:-]{1,128})", ?(?=")')


class WantedOutput(NamedTuple):
    """An output that is asked for: raw or as JSON, and of how many classes if as a classification (0 where not)."""

    name: str
    binary: bool
    classes: int = 0


class Schedule(NamedTuple):
    """When a request should run: `priority` 1 is the highest, 0 the default; `timeout_us` is 0 where it has none."""

    priority: int = 0
    timeout_us: int = 0


class ToldTensor(NamedTuple):
    """An input as the JSON tells of it: its `data`, or else how many bytes behind the JSON it says that it has; `what`
    messages call it.
    """

    name: str
    what: str
    datatype: str
    shape: tuple[int, ...]
    size: Parameter | None
    data: Any


class Head(NamedTuple):
    """What the JSON says. `outputs` is None where all are wanted, and `binary` says how they are then answered."""

    inputs: tuple[ToldTensor, ...]
    outputs: tuple[WantedOutput, ...] | None
    binary: bool
    id: str | None
    parameters: Parameters
    schedule: Schedule


def read_head(head: bytes | memoryview) -> Head:
    """The JSON, checked. Raises: `BadRequest`, `Unsupported` for shared memory and sequences."""
    call = _read_json(head)
    call_id = call.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise BadRequest("id must be a text")
    parameters = _parameters(call.get("parameters"), "parameters")
    if parameters.get("sequence_id"):
        raise Unsupported("sequences are not supported: each request is answered by itself")
    binary = _flag(parameters, "binary_data_output", "parameters", default=False)
    inputs, outputs = _inputs(call.get("inputs")), _outputs(call.get("outputs"), binary)
    schedule = Schedule(_count(parameters, "priority"), _count(parameters, "timeout"))
    return Head(inputs, outputs, binary, call_id, parameters, schedule)


def recall_head(head: bytes) -> Head:
    """The same of JSON that has its tensors behind it: where it came before, it is not read again.

    Raises: what `read_head` raises.
    """
    if len(head) > MOST_REMEMBERED_BYTES:
        return read_head(head)
    with_id = _ID.match(head)
    if with_id is None:
        return _remembered(head)
    rest = b"{" + head[with_id.end() :]
    if b'"id"' in rest or b"\\" in rest:  # the last of several counts, and may be written with escapes
        return read_head(head)
    try:
        inputs, outputs, binary, _, parameters, schedule = _remembered(rest)
    except (BadRequest, Unsupported):
        return read_head(head)  # whose message is of what came
    return Head(inputs, outputs, binary, with_id[1].decode(), parameters, schedule)


_remembered = lru_cache(MOST_REMEMBERED)(read_head)


def _read_json(head: bytes | memoryview) -> dict[str, Any]:
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


def _inputs(value: Any) -> tuple[ToldTensor, ...]:
    if not isinstance(value, list):
        raise BadRequest("inputs must be a list of tensors" + (", it is missing" if value is None else ""))
    found: dict[str, ToldTensor] = {}
    for i, item in enumerate(value):
        name, what = _name(item, f"inputs[{i}]", "input")
        if name in found:
            raise BadRequest(f"{what} comes more than once")
        datatype, shape = read_datatype(item.get("datatype"), what), read_shape(item.get("shape"), what)
        size = _parameters(item.get("parameters"), f"{what}: parameters").get("binary_data_size")
        data = item.get("data")
        if size is None and data is None:
            raise BadRequest(f"{what} has neither data nor binary_data_size")
        if size is not None and data is not None:
            raise BadRequest(f"{what} has both data and binary_data_size")
        found[name] = ToldTensor(name, what, datatype, shape, size, data)
    return tuple(found.values())


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
