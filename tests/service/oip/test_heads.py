"""What is remembered of a request's JSON is what reading it again would give, and a caller's id is its own."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.errors import SetpointError
from service.errors import BadRequest
from service.web.oip.heads import MOST_REMEMBERED_BYTES, Head, ToldTensor, _remembered, read_head, recall_head
from tests.service.oip.test_codec import json_values, requests

X = {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
ids = st.text(alphabet='ab-.:_7é\\"', max_size=5)


def outcome(read: Any, head: bytes) -> Any:
    """What was read, or how it was refused."""
    try:
        return read(head)
    except SetpointError as error:
        return type(error), str(error)


@settings(max_examples=300)
@given(requests, ids | json_values, st.booleans(), st.booleans())
def test_what_is_remembered_is_what_was_read(call: dict[str, Any], own: Any, spaced: bool, twice: bool) -> None:
    """Whatever comes, its id in front or within, as either writer of JSON has it; also the second time."""
    call = {"id": own, **call} if twice else {"id": own, **{key: value for key, value in call.items() if key != "id"}}
    head = json.dumps(call).encode() if spaced else json.dumps(call, separators=(",", ":")).encode()
    if twice:  # the last of two counts
        head = head[:-1] + b', "\\u0069d": "z"}' if spaced else head[:-1] + b',"id":null}'
    expected = outcome(read_head, head)
    assert outcome(recall_head, head) == expected
    assert outcome(recall_head, head) == expected


@given(st.binary(max_size=30), st.sampled_from([b'{"id":"7",', b'{"id": "7", ', b"{", b""]))
def test_any_bytes_are_refused_alike(rest: bytes, start: bytes) -> None:
    """Word for word, also where the place of the fault is told."""
    for head in (start + rest, start + b'"inputs":[]' + rest, start + b'"inputs":[]}' + rest):
        assert outcome(recall_head, head) == outcome(read_head, head)


@pytest.mark.parametrize("write", [orjson.dumps, lambda call: json.dumps(call).encode()])
def test_calls_that_differ_in_their_id_are_read_once(write: Any) -> None:
    """As clients number them; each is answered under its own."""
    _remembered.cache_clear()
    call = {"inputs": [X], "outputs": [{"name": "label"}], "parameters": {"priority": 3}}
    for i in range(5):
        head = recall_head(write({"id": f"call-{i}", **call}))
        assert head.id == f"call-{i}"
        assert head.schedule.priority == 3
        assert head.inputs == (ToldTensor("x", "input 'x'", "FP32", (2, 3), 24, None),)
    assert recall_head(write(call)).id is None
    assert _remembered.cache_info().misses == 1


def test_what_is_remembered_is_bounded() -> None:
    """Long ones and refused ones are not."""
    _remembered.cache_clear()
    for i in range(600):
        recall_head(orjson.dumps({"inputs": [X], "parameters": {"n": i}}))
    kept = _remembered.cache_info()
    assert kept.currsize == kept.maxsize == 256
    long = orjson.dumps({"inputs": [X], "parameters": {"n": "x" * MOST_REMEMBERED_BYTES}})
    assert isinstance(recall_head(long), Head)
    with pytest.raises(BadRequest, match="inputs must be a list of tensors, it is missing"):
        recall_head(b"{}")
    assert _remembered.cache_info().misses == kept.misses + 1
