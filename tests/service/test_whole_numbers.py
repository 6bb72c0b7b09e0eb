"""Inputs of integers take each number to its last digit, or refuse it by its place: Python's own integers say which."""

import json
from collections.abc import Iterable

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.io.model import Port
from calibrate.io.packed import read_packed
from service.errors import BadRequest
from service.web.packed import to_inputs
from service.web.tensors import fit_inputs, read_inputs
from tests.service.test_packed import arrow, npy

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
EDGES = [sign * 2**power + more for power in (7, 8, 15, 31, 32, 53, 63) for sign in (-1, 1) for more in (-1, 0, 1)]
WHOLE = st.one_of(st.integers(-(2**63), 2**64 - 1), st.sampled_from(EDGES).filter(lambda edge: edge >= -(2**63)))
FRACTIONS = st.one_of(st.integers(-300, 300).map(float), st.sampled_from(EDGES).map(float), st.floats(-1e20, 1e20))
NUMBERS = st.one_of(WHOLE, FRACTIONS, st.booleans())


def from_json(row: Iterable[object], dtype: str) -> np.ndarray:
    """What comes of a row in a JSON body."""
    port = Port("x", dtype, (None, None))
    return read_inputs(orjson.loads(json.dumps([list(row)])), [port])["x"]


def from_packed(body: bytes, dtype: str) -> np.ndarray:
    """What comes of a packed body."""
    ports = [Port("x", dtype, (None, None))]
    return fit_inputs(to_inputs(read_packed(body, 2**20), ports), ports)["x"]


def misfit(row: Iterable[float], dtype: str) -> int | None:
    """The place of the first number that the type has not, None where it has all."""
    limits = np.iinfo(dtype)
    return next((i for i, x in enumerate(row) if x != int(x) or not limits.min <= int(x) <= limits.max), None)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=5), st.sampled_from(TYPES))
def test_json_is_taken_exactly_or_refused(row: list[float], dtype: str) -> None:
    """Whatever stands beside a number."""
    if any(type(x) is float and x == -(2.0**63) for x in row):  # of which nobody can tell what it was
        at = misfit([2**70 if type(x) is float and x == -(2.0**63) else x for x in row], dtype)
    else:
        at = misfit(row, dtype)
    if at is None:
        assert from_json(row, dtype).tolist() == [[int(x) for x in row]]
    else:
        with pytest.raises(BadRequest, match=r"input 'x'\[0, \d\] has to (be a whole number|fit)"):
            from_json(row, dtype)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9223372036854775808.0", "1e19"])
@pytest.mark.parametrize("beside", ["0", "0.0", "true"])
def test_numbers_just_past_the_ends_are_refused(text: str, beside: str) -> None:
    """By the second row's place."""
    rows = orjson.loads(f"[[{beside}], [{text}]]")
    with pytest.raises(BadRequest, match=r"input 'x'\[1, 0\] has to fit int64"):
        read_inputs(rows, [Port("x", "int64", (None, 1))])
    ends = orjson.loads(f"[[{beside}], [-9223372036854775808], [9223372036854775807]]")
    assert read_inputs(ends, [Port("x", "int64", (None, 1))])["x"].tolist()[1:] == [[-(2**63)], [2**63 - 1]]


@settings(deadline=None)
@given(st.data(), st.sampled_from(["float16", "float32", "float64", "int64", "uint64", "bool"]), st.sampled_from(TYPES))
def test_packed_rows_are_taken_exactly_or_refused(data: st.DataObject, came: str, dtype: str) -> None:
    """Each of what a `.npy` array may hold, for each input."""
    kind = np.dtype(came)
    if kind.kind == "f":
        bits = kind.itemsize * 8
        items = st.one_of(st.integers(-300, 300).map(float), st.floats(-(2.0**15), 2.0**15, width=bits))  # type: ignore[arg-type]
        if bits > 16:
            items = st.one_of(items, st.sampled_from([s * 2.0**p for s in (-1, 1) for p in (31, 32, 53, 63, 64)]))
    elif kind.kind == "b":
        items = st.booleans()
    else:
        limits = np.iinfo(came)
        items = WHOLE.filter(lambda x: limits.min <= x <= limits.max)
    array = np.array([data.draw(st.lists(items, min_size=1, max_size=4))], came)
    row = array[0].tolist()
    at = misfit(row, dtype)
    if at is None:
        assert from_packed(npy(array), dtype).tolist() == [[int(x) for x in row]]
    else:
        with pytest.raises(BadRequest, match=r"input 'x'\[0, \d\] has to (be a whole number|fit)"):
            from_packed(npy(array), dtype)


@settings(deadline=None)
@given(
    WHOLE.filter(lambda x: x < 2**63), WHOLE.filter(lambda x: x >= 0), FRACTIONS, st.sampled_from(["int64", "uint64"])
)
def test_columns_of_several_types_keep_their_own(left: int, middle: int, right: float, dtype: str) -> None:
    """Arrow's int64, uint64 and double side by side."""
    table = pa.table({
        "a": pa.array([left], pa.int64()), "b": pa.array([middle], pa.uint64()), "c": pa.array([right], pa.float64())
    })  # fmt: skip
    at = misfit([left, middle, right], dtype)
    if at is None:
        assert from_packed(arrow(table), dtype).tolist() == [[left, middle, int(right)]]
    else:
        with pytest.raises(BadRequest, match=rf"input 'x', column '{'abc'[at]}'\[0\] has to"):
            from_packed(arrow(table), dtype)
