"""Arrays as they lie in `.npy` and Arrow bytes, without a copy where the bytes allow it.

Decided here: what bytes claim is compared with what is there before anything is made of them; objects, structures and
pickles are refused. A `.npy` header is Python text, which takes longer to read than all else: it is read once for each
different one. Arrow is a tensor, or record batches as a stream or a file; a list column of one width is an array (n,
width), other columns are (n,), texts are objects, and a null is NaN, among texts None.
"""

import ast
import io
import math
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy

from calibrate.errors import BadCache, shown

NPY_MAGIC, _FILE, _STREAM = b"\x93NUMPY", b"ARROW1", b"\xff\xff\xff\xff"
_KINDS = "fiub"


def is_packed(data: bytes) -> bool:
    """Whether bytes begin as `.npy` or Arrow does, and no text does."""
    return data.startswith((NPY_MAGIC, _FILE, _STREAM))


def read_packed(data: bytes, most_bytes: int) -> np.ndarray | dict[str, np.ndarray]:
    """One array, or the columns of record batches by name. Compressed columns may take `most_bytes`.

    Raises: `BadCache` where the bytes are not whole, or hold anything but numbers and texts.
    """
    return read_npy(data) if data.startswith(NPY_MAGIC) else _read_arrow(data, most_bytes)


def read_npy(data: bytes) -> np.ndarray:
    """The array in the bytes of a `.npy` file, which it stays part of. Raises: `BadCache`."""
    if len(data) < 12 or data[6] not in (1, 2, 3):
        raise BadCache("the array is not a whole .npy file: its header is cut off")
    wide = data[6] > 1
    start = 12 if wide else 10
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), 10_000):
        raise BadCache("the array is not a whole .npy file: its header is cut off, or too long")
    dtype, shape, is_fortran = _npy_header(data[start:end])
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - end:
        raise BadCache(f"the array has shape {shape} of {dtype}, which is not the {len(data) - end} bytes that came")
    array = np.frombuffer(data, dtype, count, end)
    return array.reshape(shape, order="F" if is_fortran else "C")


@lru_cache(maxsize=1024)
def _npy_header(text: bytes) -> tuple[np.dtype, tuple[int, ...], bool]:
    try:
        value = ast.literal_eval(text.decode("latin-1").strip())
        dtype, shape, is_fortran = np.dtype(value["descr"]), value["shape"], value["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise BadCache("the array is not a whole .npy file: its header cannot be read") from None
    if dtype.kind not in _KINDS or dtype.names is not None:
        raise BadCache(f"the array must hold numbers, got {str(dtype)[:100]}")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**40 for n in shape) or len(shape) > 8:
        raise BadCache(f"the array has no shape that can be: {str(shape)[:100]}")
    return dtype, shape, is_fortran is True


def _read_arrow(data: bytes, most_bytes: int) -> np.ndarray | dict[str, np.ndarray]:
    import pyarrow as pa  # takes long to import, and few calls bring Arrow

    from calibrate.io.table_claims import check_size, message_claims
    from calibrate.io.table_files import arrow_stream, readable

    with readable("Arrow", data):
        source = arrow_stream(data) if data.startswith(_FILE) else pa.py_buffer(data)
        first = pa.ipc.read_message(source)
        if first.type == "tensor":
            tensor = pa.ipc.read_tensor(pa.BufferReader(source)).to_numpy()
            return _checked("tensor", tensor)
        unpacked = 0
        for message in pa.ipc.MessageReader.open_stream(source):
            if message.type in ("record batch", "dictionary"):
                unpacked += message_claims(message)[1]
        check_size(unpacked, most_bytes)
        with pa.ipc.open_stream(source) as reader:
            names = reader.schema.names
            batches = list(reader)
        if len(set(names)) != len(names):
            name = next(name for name, times in Counter(names).items() if times > 1)
            raise BadCache(f"the record batches hold the column {shown(name)} more than once")
        if not batches:
            raise BadCache("there is no record batch")
        for batch in batches:
            batch.validate(full=True)  # nothing has yet looked at what the columns point to
        return {name: _joined([_column(name, batch.column(i)) for batch in batches]) for i, name in enumerate(names)}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _column(name: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    from calibrate.io.table_claims import is_list, is_text

    if pa.types.is_dictionary(column.type):
        return _categories(name, column)
    if is_text(column.type):
        return np.array(column.to_pylist(), dtype=object)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.int8())
    if not is_list(column.type):
        return _checked(name, column.to_numpy(zero_copy_only=False))
    if column.null_count:
        raise BadCache(f"column '{name}' has a row that is null")
    lengths = column.value_lengths() if not pa.types.is_fixed_size_list(column.type) else None
    width = column.type.list_size if lengths is None else (lengths[0].as_py() if len(lengths) else 0)
    values = column.flatten()
    if lengths is not None and (lengths.to_numpy(zero_copy_only=False) != width).any():
        raise BadCache(f"column '{name}' must have lists of one length")
    return _checked(name, values.to_numpy(zero_copy_only=False)).reshape(len(column), width)


def _categories(name: str, column: Any) -> np.ndarray:
    """A dictionary column, as pandas writes categories, without a copy of a text for each row that has it."""
    from calibrate.io.table_claims import is_text

    values = _column(name, column.dictionary)
    if values.ndim != 1:
        raise BadCache(f"'{name[:100]}' must hold numbers or texts, got {str(column.type)[:100]}")
    missing = column.indices.is_null().to_numpy(zero_copy_only=False)
    if missing.any() or not len(values):
        values = np.append(values, np.array([None] if is_text(column.dictionary.type) else [np.nan]))
    return values[np.where(missing, len(values) - 1, column.indices.fill_null(0).to_numpy(zero_copy_only=False))]


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in _KINDS:
        raise BadCache(f"'{name[:100]}' must hold numbers or texts, got {str(array.dtype)[:100]}")
    return array


def npy_header(dtype: np.dtype, rows: int) -> bytes:
    """What a `.npy` file of that many rows begins with."""
    made = io.BytesIO()
    npy.write_array_header_1_0(
        made, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows,)}
    )  # fmt: skip
    return made.getvalue()
