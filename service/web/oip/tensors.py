"""Tensors between the wire and numpy: raw bytes, or JSON that is nested or flat.

Decided here: raw numbers are views of the body, copied only where they lie at an address that their type may not have;
BYTES are texts in UTF-8, because the models that take them take texts; JSON has no NaN, so `null` is a missing value of
FP32 and FP64, as in `POST /predict`; FP16 comes as raw bytes only, since the protocol calls its JSON form unsafe.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from service.errors import BadRequest
from service.web.oip.datatypes import BYTES, DTYPES, elements

_LENGTH = struct.Struct("<I")
_FEW_WORDS = 16
_MOST_PACKED = 2**18  # numbers, that are arguments of a call for a moment


class Texts(NamedTuple):
    """A BYTES tensor as codes into a few words, so that a word is encoded once however many rows have it."""

    codes: Int[np.ndarray, "..."]
    words: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the codes."""
        return self.codes.shape


class Flat(NamedTuple):
    """A tensor of a few elements row by row, as JSON has them."""

    shape: tuple[int, ...]
    items: list[Any]


def from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A tensor of raw bytes: little-endian, row by row, without gaps; texts each behind their length.

    Raises: `BadRequest` where the bytes are not exactly those of the shape, a BOOL is neither 0 nor 1, or a text is cut
    short or not UTF-8.
    """
    count = elements(shape)
    if datatype == BYTES:
        return _texts_from_bytes(data, count, what).reshape(shape)
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(data):
        raise BadRequest(
            f"{what}: {datatype} of shape {list(shape)} is {count * dtype.itemsize} bytes, got {len(data)}"
        )
    if count == 0:
        return np.empty(shape, dtype)
    if datatype == "BOOL" and (found := np.flatnonzero((bits := np.frombuffer(data, np.uint8)) > 1)).size:
        raise BadRequest(f"{what}: element {found[0]} of a BOOL must be 0 or 1, got {bits[found[0]]}")
    array: np.ndarray = np.ndarray(shape, dtype, data)
    return array if array.flags.aligned else array.copy()


def _texts_from_bytes(data: memoryview, count: int, what: str) -> np.ndarray:
    size, at = len(data), 0
    if count * _LENGTH.size > size:
        raise BadRequest(f"{what}: {count} texts need {count * _LENGTH.size} bytes for their lengths, got {size}")
    array = np.empty(count, dtype=object)
    for i in range(count):
        if at + _LENGTH.size > size:
            raise BadRequest(f"{what}: element {i} has no length, the {size} bytes end before it")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > size:
            raise BadRequest(f"{what}: element {i} is {length} bytes long, and {size - at} are left")
        array[i] = to_text(data[at : at + length], f"{what}: element {i}")
        at += length
    if at != size:
        raise BadRequest(f"{what}: {size - at} bytes are left behind its {count} elements")
    return array


def to_text(data: memoryview, what: str) -> str:
    """Bytes as a text. Raises: `BadRequest` where they are not UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{what} is not UTF-8") from None


def from_json(data: Any, datatype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A tensor of a JSON list, flat or nested as the shape is.

    Raises: `BadRequest`, naming the element that is of another type or does not fit.
    """
    flat = _flat(data, shape, what)
    if datatype == BYTES:
        _refuse_others(flat, {str}, "a text", what)
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array.reshape(shape)
    if datatype == "FP16":
        raise BadRequest(f"{what}: FP16 is taken as binary data only, not as JSON")
    if datatype == "BOOL":
        _refuse_others(flat, {bool, int}, "true or false", what)
        if (at := next((i for i, item in enumerate(flat) if item not in (0, 1)), None)) is not None:
            raise BadRequest(f"{what}: element {at} must be true or false, got {flat[at]}")
        return np.array(flat, dtype=bool).reshape(shape)
    if datatype.startswith("FP"):
        return _floats(flat, DTYPES[datatype], what).reshape(shape)
    return _wholes(flat, DTYPES[datatype], what).reshape(shape)


def _flat(data: Any, shape: tuple[int, ...], what: str) -> list[Any]:
    """The elements row by row, as many as the shape has."""
    if not isinstance(data, list):
        raise BadRequest(f"{what}: data must be a list")
    if shape and data and isinstance(data[0], list):
        level: list[Any] = [data]
        for axis, length in enumerate(shape):
            for item in level:
                if not isinstance(item, list) or len(item) != length:
                    got = f"{len(item)}" if isinstance(item, list) else "no list"
                    raise BadRequest(f"{what}: nested data must have {length} items along axis {axis}, got {got}")
            level = list(chain.from_iterable(level))
        return level
    if len(data) != elements(shape):
        raise BadRequest(f"{what}: shape {list(shape)} holds {elements(shape)} elements, data has {len(data)}")
    return data


def _refuse_others(flat: list[Any], kinds: set[type], wanted: str, what: str) -> None:
    if not set(map(type, flat)) <= kinds:
        at = next(i for i, item in enumerate(flat) if type(item) not in kinds)
        shown = {str: "a text", bool: "a truth value", dict: "an object", list: "a list", type(None): "null"}
        raise BadRequest(f"{what}: element {at} must be {wanted}, got {shown.get(type(flat[at]), 'a number')}")


def _floats(flat: list[Any], dtype: np.dtype[Any], what: str) -> np.ndarray:
    if 0 < len(flat) <= _MOST_PACKED:  # in half the time that numpy takes, where every number is one and fits
        try:
            return np.frombuffer(_packer(len(flat), dtype.itemsize)(*flat), dtype)
        except (struct.error, OverflowError):
            pass
    _refuse_others(flat, {int, float, bool, type(None)}, "a number or null", what)
    wide = np.array(flat, dtype=np.float64)
    with np.errstate(over="ignore"):
        array = wide.astype(dtype)
    if (found := np.flatnonzero(np.isinf(array))).size:
        raise BadRequest(f"{what}: element {found[0]} has to fit {dtype.name}, got {wide[found[0]]}")
    return array


@lru_cache(maxsize=256)
def _packer(count: int, itemsize: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{'f' if itemsize == 4 else 'd'}").pack


def _wholes(flat: list[Any], dtype: np.dtype[Any], what: str) -> np.ndarray:
    _refuse_others(flat, {int, float}, "a whole number", what)
    limits = np.iinfo(dtype)
    for at, item in enumerate(flat):
        if item != item // 1 or not limits.min <= item <= limits.max:
            raise BadRequest(f"{what}: element {at} has to be a whole number that fits {dtype.name}, got {item}")
    return np.array([int(item) for item in flat], dtype=dtype)


def to_bytes(values: np.ndarray | Texts) -> bytes | memoryview:
    """The raw bytes of a tensor."""
    if isinstance(values, Texts):
        pieces = _few_pieces(values.words) if len(values.words) <= _FEW_WORDS else _pieces(values.words)
        return b"".join(pieces[values.codes.ravel()].tolist())
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data


def _pieces(words: Sequence[str]) -> np.ndarray:
    """Each word behind its length, in an array of objects, which numpy picks from faster than Python from a list."""
    pieces = np.empty(len(words), dtype=object)
    for i, word in enumerate(words):
        data = word.encode()
        pieces[i] = _LENGTH.pack(len(data)) + data
    return pieces


_few_pieces = lru_cache(maxsize=64)(_pieces)  # of classes and points, the same in every answer


def to_json(values: np.ndarray | Texts | Flat) -> list[Any] | np.ndarray:
    """The elements in one flat list, as orjson takes them."""
    if isinstance(values, Flat):
        return values.items
    if isinstance(values, Texts):
        return [values.words[code] for code in values.codes.ravel().tolist()]
    return np.ascontiguousarray(values).ravel()
