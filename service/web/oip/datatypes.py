"""The protocol's datatypes beside numpy's, and shapes as they are told on the wire.

Decided here: BF16 is left out, numpy has no such type and no model here takes it; a shape is bounded before anything is
made of it, because numpy refuses some shapes of no elements and a product may be of any size.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from service.errors import BadRequest

BYTES = "BYTES"
# Little-endian, as the protocol has them on the wire.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES = (*DTYPES, BYTES)
_KNOWN = frozenset(DATATYPES)
MOST_AXES = 16
MOST_ELEMENTS = 2**31


@lru_cache(maxsize=64)
def datatype_of(dtype: str) -> str:
    """The protocol's name of a model input's numpy type; "str" is BYTES."""
    if dtype == "str":
        return BYTES
    return next(name for name, known in DTYPES.items() if known == np.dtype(dtype))


def read_datatype(value: Any, what: str) -> str:
    """A datatype's name. Raises: `BadRequest`."""
    if not isinstance(value, str) or value not in _KNOWN:
        shown = repr(value[:50]) if isinstance(value, str) else "none that is a text"
        raise BadRequest(f"{what}: datatype must be one of {', '.join(DATATYPES)}; got {shown}")
    return value


def read_shape(value: Any, what: str) -> tuple[int, ...]:
    """A shape, each length at least 0. Raises: `BadRequest`, naming the axis."""
    if not isinstance(value, list) or len(value) > MOST_AXES:
        raise BadRequest(f"{what}: shape must be a list of at most {MOST_AXES} whole numbers")
    for axis, length in enumerate(value):
        if type(length) is not int or length < 0:
            raise BadRequest(f"{what}: shape[{axis}] must be a whole number from 0 up, got {_shown(length)}")
    if prod([length or 1 for length in value]) > MOST_ELEMENTS:
        raise BadRequest(f"{what}: a tensor may have at most {MOST_ELEMENTS} elements, shape tells of more")
    return tuple(value)


def _shown(value: Any) -> str:
    return str(value) if type(value) in (int, float) else type(value).__name__


def elements(shape: Sequence[int]) -> int:
    """How many elements a shape holds; 1 for a scalar."""
    return prod(shape)
