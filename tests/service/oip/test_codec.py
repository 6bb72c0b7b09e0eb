"""The codec alone: what comes out is what went in, without a copy where none is needed, and nothing breaks it."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import service.web.oip as package
from calibrate.errors import SetpointError
from service.errors import BadRequest
from service.web.oip.codec import Output, read_raw, read_request, write_response
from service.web.oip.datatypes import DATATYPES, DTYPES, MOST_ELEMENTS, datatype_of
from service.web.oip.tensors import Texts, from_bytes, from_json, to_bytes, to_json
from tests.service.oip.ask import raw

LENGTH = "inference-header-content-length"
JSON_TYPES = sorted(set(DTYPES) - {"FP16"})
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def arrays(datatype: str, shape: tuple[int, ...], data: st.DataObject) -> np.ndarray:
    """Any tensor of that datatype and shape, finite where it has floats."""
    count, dtype = int(np.prod(shape)), DTYPES[datatype]
    bits = data.draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(bits, dtype) if count else np.empty(0, dtype)
    if datatype == "BOOL":
        return (array.view(np.uint8) % 2).astype(bool).reshape(shape)
    return (np.where(np.isfinite(array), array, 1.5) if array.dtype.kind == "f" else array).astype(dtype).reshape(shape)


@given(st.data(), st.sampled_from(sorted(DTYPES)), shapes)
def test_numbers_survive_both_forms(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    """Bit for bit, raw and as JSON, nested or flat."""
    array = arrays(datatype, shape, data)
    back = from_bytes(memoryview(bytes(to_bytes(array))), datatype, shape, "x")
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()
    if datatype in JSON_TYPES:
        flat = orjson.loads(orjson.dumps(to_json(array), option=orjson.OPT_SERIALIZE_NUMPY))
        for form in (flat, array.tolist()) if shape else (flat,):
            assert from_json(form, datatype, shape, "x").tobytes() == array.tobytes()


@given(st.lists(st.text(), max_size=6))
def test_texts_survive_both_forms(words: list[str]) -> None:
    """Of any length, in any script."""
    told = Texts(np.arange(len(words)), tuple(words))
    assert from_json(to_json(told), "BYTES", (len(words),), "x").tolist() == words
    assert from_bytes(memoryview(bytes(to_bytes(told))), "BYTES", (len(words),), "x").tolist() == words


def test_raw_numbers_are_not_copied_where_they_lie_right() -> None:
    """A view of the body; copied only where their type may not begin at that address."""
    body = memoryview(bytearray(16 + 64))
    start = -np.frombuffer(body, np.uint8).ctypes.data % 8
    for offset, shared in ((0, True), (3, False)):
        array = from_bytes(body[start + offset : start + offset + 32], "FP64", (4,), "x")
        assert np.shares_memory(array, np.frombuffer(body, np.uint8)) is shared
        assert array.flags.aligned


def test_a_request_is_read_whole() -> None:
    """Fields, parameters, raw and other tensors, in the order of the inputs."""
    call = {
        "id": "1",
        "parameters": {"priority": 2, "timeout": 9, "a": "b"},
        "inputs": [
            {"name": "r", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
            {"name": "j", "shape": [1, 2], "datatype": "BOOL", "data": [[True, False]]},
            {"name": "t", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
        ],
        "outputs": [{"name": "label", "parameters": {"binary_data": True, "classification": 2}}, {"name": "margin"}],
    }
    head = orjson.dumps(call)
    request = read_request(head + raw([7, -1], "INT64") + raw(["é"], "BYTES"), {LENGTH: str(len(head))}, 1000)
    assert {name: tensor.array.tolist() for name, tensor in request.inputs.items()} == {
        "r": [7, -1],
        "j": [[True, False]],
        "t": ["é"],
    }
    assert (request.schedule.priority, request.schedule.timeout_us, request.id) == (2, 9, "1")
    assert request.outputs is not None
    assert [(item.name, item.binary, item.classes) for item in request.outputs] == [
        ("label", True, 2),
        ("margin", False, 0),
    ]
    assert request.parameters["a"] == "b"


@pytest.mark.parametrize(
    ("data", "count", "said"),
    [
        (b"", 1, "1 texts need 4 bytes for their lengths, got 0"),
        (b"\x05\0\0\0abc", 1, "element 0 is 5 bytes long, and 3 are left"),
        (b"\xff\xff\xff\xff", 1, "element 0 is 4294967295 bytes long, and 0 are left"),
        (b"\x01\0\0\0a\x01\0\0", 2, "element 1 has no length, the 8 bytes end before it"),
        (b"\0\0\0\0" * 2, 1, "4 bytes are left behind its 1 elements"),
        (b"\x01\0\0\0\xff", 1, "element 0 is not UTF-8"),
        (b"\0\0\0\0", 2**30, "1073741824 texts need 4294967296 bytes"),
    ],
)
def test_texts_that_do_not_add_up(data: bytes, count: int, said: str) -> None:
    """Before anything of the size that is claimed is made."""
    with pytest.raises(BadRequest, match=said):
        from_bytes(memoryview(data), "BYTES", (count,), "x")


def test_a_truth_value_is_zero_or_one() -> None:
    """Any other byte is none."""
    with pytest.raises(BadRequest, match="element 1 of a BOOL must be 0 or 1, got 2"):
        from_bytes(memoryview(b"\x01\x02"), "BOOL", (2,), "x")
    with pytest.raises(BadRequest, match="element 1 must be true or false, got 2"):
        from_json([1, 2], "BOOL", (2,), "x")


@pytest.mark.parametrize(
    ("item", "datatype"),
    [(300, "UINT8"), (-1, "UINT64"), (2**64, "UINT64"), (1.5, "INT32"), (-129, "INT8"), (float("inf"), "INT64")],
)
def test_whole_numbers_fit_their_type(item: Any, datatype: str) -> None:
    """Nothing wraps around."""
    with pytest.raises(BadRequest, match="element 1 has to be a whole number that fits"):
        from_json([0, item], datatype, (2,), "x")
    assert from_json([3.0], datatype, (1,), "x").tolist() == [3]


def test_null_is_a_missing_number() -> None:
    """Of floats alone."""
    assert np.isnan(from_json([None], "FP32", (1,), "x")).all()
    assert np.isnan(from_json([1, None, True], "FP64", (3,), "x")).tolist() == [False, True, False]
    with pytest.raises(BadRequest, match="element 0 must be a whole number, got null"):
        from_json([None], "INT32", (1,), "x")


def test_a_whole_body_is_one_row() -> None:
    """With one free length at most, which its size tells; of texts one."""
    data = memoryview(np.arange(6, dtype="<f4").tobytes())
    assert read_raw(data, "FP32", (None, 6), "x").array.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert read_raw(data, "FP32", (None, 2, None), "x").array.shape == (1, 2, 3)
    assert read_raw(memoryview(b"a b"), "BYTES", (None, 1), "x").array.tolist() == [["a b"]]
    for datatype, shape, said in [
        ("FP32", (None, 5), r"FP32 of shape \[1, 5\] is 20 bytes, got 24"),
        ("FP32", (None, None, None), "2 lengths are free"),
        ("FP32", (None, 4, None), r"FP32 of shape \[1, 4, 1\] is 16 bytes, got 24"),
        ("BYTES", (None, 2), "holds one text"),
    ]:
        with pytest.raises(BadRequest, match=said):
            read_raw(data, datatype, shape, "x")


def test_an_answer_is_written_as_it_says() -> None:
    """Raw and JSON outputs in one answer; the id only where there is one."""
    outputs = [
        Output("a", "FP64", np.array([[1.0, 2.5]]), True),
        Output("b", "BYTES", Texts(np.array([1, 0, 1]), ("x", "yé")), False),
        Output("c", "BYTES", Texts(np.array([1, 0]), ("x", "yé")), True),
    ]
    media_type, headers, content = write_response("m", "1", None, {"p": "q"}, outputs)
    length = int(dict(headers)[LENGTH.encode()])
    assert orjson.loads(content[:length]) == {
        "model_name": "m", "model_version": "1", "parameters": {"p": "q"},
        "outputs": [
            {"name": "a", "datatype": "FP64", "shape": [1, 2], "parameters": {"binary_data_size": 16}},
            {"name": "b", "datatype": "BYTES", "shape": [3], "data": ["yé", "x", "yé"]},
            {"name": "c", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}},
        ],
    }  # fmt: skip
    assert content[length:] == raw([1.0, 2.5], "FP64") + raw(["yé", "x"], "BYTES")
    assert media_type == b"application/octet-stream"
    assert write_response("m", "1", "", {}, outputs[1:2])[:2] == (b"application/json", ())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
inputs = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 3) | st.sampled_from([2**31, 2**40, 2**63, 2**64 - 1]), max_size=4)
        | json_values,
        "datatype": st.sampled_from([*DATATYPES, "BF16"]) | json_values,
        "data": json_values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 70) | json_values})
        | json_values,
    },
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=3) | json_values,
        "inputs": st.lists(inputs, max_size=3) | json_values,
        "outputs": st.lists(st.fixed_dictionaries({}, optional={"name": st.text(max_size=2)}), max_size=2)
        | json_values,
        "parameters": json_values,
    },
)


@settings(max_examples=300)
@given(requests, st.binary(max_size=70), st.integers(-3, 3) | st.sampled_from(["", "-1", "x", "9" * 30, None]))
def test_any_request_is_read_or_refused(call: Any, behind: bytes, length: Any) -> None:
    """Nothing but a fact comes out, and what is read holds as many numbers as its shape."""
    try:
        head = orjson.dumps(call)
    except TypeError:
        return  # an integer beyond 64 bits
    told = str(len(head) + length) if isinstance(length, int) else length
    try:
        request = read_request(head + behind, {} if told is None else {LENGTH: told}, 10_000)
    except SetpointError:
        return
    for tensor in request.inputs.values():
        assert tensor.array.size <= MOST_ELEMENTS


@settings(max_examples=200)
@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate", "br", "identity"]), st.text(max_size=4))
def test_any_bytes_are_read_or_refused(body: bytes, encoding: str, length: str) -> None:
    """Without any structure."""
    for headers in ({"content-encoding": encoding}, {LENGTH: length}, {LENGTH: "0"}):
        try:
            request = read_request(body, headers, 10_000)
        except SetpointError:
            continue
        assert request.raw is not None


@given(st.binary(max_size=40), st.sampled_from(DATATYPES), shapes)
def test_any_bytes_are_a_tensor_or_refused(data: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    """Of exactly that shape."""
    try:
        array = from_bytes(memoryview(data), datatype, shape, "x")
    except BadRequest:
        return
    assert array.shape == shape


def test_every_input_type_of_a_model_has_a_name() -> None:
    """As the engine tells them."""
    assert [datatype_of(dtype) for dtype in ("float32", "float64", "float16", "int64", "uint8", "bool", "str")] == [
        "FP32", "FP64", "FP16", "INT64", "UINT8", "BOOL", "BYTES",
    ]  # fmt: skip


def test_codec_and_metadata_know_no_transport() -> None:
    """Nothing of HTTP frameworks, nor of types that check tensors."""
    folder = Path(package.__file__).parent
    for path in sorted(folder.glob("*.py")):
        if path.stem in ("handlers", "schemas"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {module for module in found if module.startswith(("starlette", "fastapi", "pydantic"))}, path.name
