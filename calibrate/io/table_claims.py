"""What a Parquet or Arrow file says of itself, read before its rows: columns, metadata, and what it unpacks to.

As for `.npz`, only known columns are read, and what the file claims to unpack to is added up before anything is
unpacked. An Arrow file is read as the stream that it holds, and its footer only counts as the sign that the file is
whole: the footer could point anywhere, and says nothing of what compressed columns unpack to, which each column's first
bytes do.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calibrate.errors import BadCache
from calibrate.io.table_files import COLUMNS, IN_METADATA, KEY, NAMED, arrow_stream, opened, parquet_file, readable

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
# A list within JSON takes this many times the bytes of its two brackets and its comma.
_JSON_UNPACKS = 20
# Thrift's compact types that a Parquet footer has, and Parquet's types of four bytes: INT32 and FLOAT.
_BOOLEANS, _INTEGERS, _BINARY, _LISTS, _STRUCT = (1, 2), (4, 5, 6), 8, (9, 10), 12
_FIXED = {3: 1, 7: 8}
_FOUR_BYTES = (1, 4)


@dataclass(frozen=True)
class Claims:
    """What a file says of itself before its rows are read."""

    schema: pa.Schema
    metadata: Mapping[str, Any]
    rows: int


def read_claims(source: Path | bytes, file_format: str, most_bytes: int | None = None) -> Claims:
    """What a file says of itself. Raises: `BadCache` for too many bytes and for columns that a cache does not have."""
    with readable(file_format, source):
        schema, rows, unpacked = (_parquet_claims if file_format == "Parquet" else _arrow_claims)(source)
        _check_schema(schema)
        text = (schema.metadata or {}).get(KEY.encode(), b"{}")
        if most_bytes is not None:
            check_size(unpacked + _JSON_UNPACKS * len(text), most_bytes)
        return Claims(schema, _from_metadata(text), rows)


def check_size(unpacked: int, most_bytes: int) -> None:
    """Raises `BadCache` where a cache would take too much memory."""
    if unpacked > most_bytes:
        raise BadCache(f"the cache unpacks to {unpacked} bytes, wanted at most {most_bytes}")


def _check_schema(schema: pa.Schema) -> None:
    names = schema.names
    for name in names:
        if name in IN_METADATA:
            raise BadCache(f"'{name}' is not a column; write it into the metadata entry '{KEY}'")
        if name not in COLUMNS and not _PANDAS_INDEX.fullmatch(name):
            raise BadCache(f"a cache has the columns {', '.join(COLUMNS)}; got {name[:100]!r}")
    if len(set(names)) != len(names):
        raise BadCache("the cache holds a column more than once")
    if "labels" not in names:
        raise BadCache(f"the cache has no labels, only {', '.join(names) or 'nothing'}")
    for field in schema:
        if field.name in NAMED:
            wanted, fits = "names or whole numbers", _is_label(field.type)
        elif field.name in ("features", "logits"):
            wanted, fits = "numbers or lists of numbers", _is_number(_element(field.type))
        else:
            wanted, fits = "numbers", _is_number(field.type)
        if field.name in COLUMNS and not fits:
            raise BadCache(f"column '{field.name}' must hold {wanted}, got type {str(field.type)[:100]}")


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def is_text(type_: pa.DataType) -> bool:
    """Whether a column holds names."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_label(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return is_text(type_) or _is_number(type_) or bool(pa.types.is_boolean(type_))


def is_list(type_: pa.DataType) -> bool:
    """Whether a column holds lists, of one length or not."""
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _element(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if is_list(type_) else type_


def _from_metadata(text: bytes) -> dict[str, Any]:
    """What is not per row: arrays, or whatever stands in their place for `feature_cache` to refuse."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCache(f"the metadata entry '{KEY}' is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise BadCache(f"the metadata entry '{KEY}' must be an object with {', '.join(IN_METADATA)}")
    narrow = value.pop("float32", [])
    for name in value:
        if name not in IN_METADATA:
            raise BadCache(f"the metadata entry '{KEY}' has the keys {', '.join(IN_METADATA)}; got {name[:100]!r}")
    given = {name: item for name, item in value.items() if item is not None}
    classes = given.get("classes")
    for name in classes if isinstance(classes, list) else ():
        # JSON can write half a surrogate pair.
        if isinstance(name, str) and any("\ud800" <= character <= "\udfff" for character in name):
            raise BadCache(f"classes in the metadata entry '{KEY}' hold what is not text")
    for name in given.keys() & {"weight", "bias"}:
        if not isinstance(given[name], list) or not isinstance(narrow, list):
            raise BadCache(f"{name} in the metadata entry '{KEY}' must be a list of numbers")
        if name in narrow:
            given[name] = _to_float32(given[name])
    return given


def _to_float32(values: list[Any]) -> Any:
    """The numbers as float32, or unchanged where they are none."""
    try:
        array = np.asarray(values)
    except ValueError:
        return values
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype.kind in "if" else values


def _parquet_claims(source: Path | bytes) -> tuple[pa.Schema, int, int]:
    """Schema, rows and the bytes that the columns unpack to.

    The sizes are read from the footer here, though pyarrow shows them: where they are damaged, it ends the process.
    """
    with opened(source) as stream, parquet_file(stream) as file:
        # Of a file with Arrow's own schema, the schema's metadata lacks what was added to the file later.
        schema, rows = file.schema_arrow.with_metadata(file.metadata.metadata), file.metadata.num_rows
        end = stream.size() - 8
        stream.seek(end)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(end - length)
        footer, _ = _thrift(stream.read(length), 0, _STRUCT)
    unpacked = 0
    for group in footer[4]:
        for chunk in group[1]:
            about = chunk[3]
            # A few bytes can repeat a number, or the index of a name, any number of times.
            item = 4 if about[1] in _FOUR_BYTES else 8
            unpacked += max(0, about[6]) + item * max(0, about[5], group[3])
    return schema, rows, unpacked


def _thrift(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A value in Thrift's compact protocol, a structure as a dict by field number; and where it ends."""
    if kind in _INTEGERS:
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == _BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind in _LISTS:
        size, of = data[at] >> 4, data[at] & 15
        at += 1
        if size == 15:
            size, at = _varint(data, at)
        items = []
        for _ in range(size):
            if of in _BOOLEANS:
                item, at = data[at], at + 1
            else:
                item, at = _thrift(data, at, of)
            items.append(item)
        return items, at
    if kind == _STRUCT:
        fields: dict[int, Any] = {}
        field = 0
        while data[at]:
            step, of = data[at] >> 4, data[at] & 15
            at += 1
            if step:
                field += step
            else:
                field, at = _thrift(data, at, _INTEGERS[0])
            fields[field], at = (of, at) if of in _BOOLEANS else _thrift(data, at, of)
        return fields, at + 1
    if kind in _FIXED and at + _FIXED[kind] <= len(data):
        return None, at + _FIXED[kind]
    raise ValueError("the footer is damaged")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if shift > 63:
            raise ValueError("the footer is damaged")
    return number | data[at] << shift, at + 1


def _arrow_claims(source: Path | bytes) -> tuple[pa.Schema, int, int]:
    stream = arrow_stream(source)
    with pa.ipc.open_stream(stream) as reader:
        schema = reader.schema
    rows = unpacked = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type in ("record batch", "dictionary"):
            length, size = message_claims(message)
            rows += length if message.type == "record batch" else 0
            unpacked += size
    return schema, rows, unpacked


def message_claims(message: pa.Message) -> tuple[int, int]:
    """The rows of a record batch or dictionary, and the bytes that its columns unpack to.

    Read from the message's flatbuffer, which pyarrow has verified but does not show.
    """
    data, body = memoryview(message.metadata), memoryview(message.body)

    def number(kind: str, at: int) -> int:
        return int(struct.unpack_from(kind, data, at)[0])

    def follow(at: int) -> int:
        return at + number("<I", at)

    def field(table: int, slot: int) -> int | None:
        offsets = table - number("<i", table)
        known = 4 + 2 * slot < number("<H", offsets)
        offset = number("<H", offsets + 4 + 2 * slot) if known else 0
        return table + offset if offset else None

    header = field(follow(0), 2)
    batch = None if header is None else follow(header)
    if batch is not None and message.type == "dictionary":
        values = field(batch, 1)
        batch = None if values is None else follow(values)
    if batch is None:
        raise BadCache("the cache is not a whole Arrow file: a message has no content")
    length, buffers, compression = field(batch, 0), field(batch, 2), field(batch, 3)
    rows = 0 if length is None else number("<q", length)
    if compression is None or buffers is None:
        return rows, len(body)
    first, unpacked = follow(buffers), 0
    for i in range(number("<I", first)):
        at, size = struct.unpack_from("<qq", data, first + 4 + 16 * i)
        if size:
            claimed = struct.unpack_from("<q", body, at)[0]
            unpacked += max(size, claimed)
    return rows, unpacked
