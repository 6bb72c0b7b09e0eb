"""Feature caches as Parquet and Arrow files: whole, or streamed where they are larger than memory.

Decided here: a row of data is a row of the file, so that any data tool can make one; what is not per row (`classes`,
`weight`, `bias`, `prior`) is JSON under the metadata key `setpoint`. As for `.npz`, only known columns are read, and
what the file claims to unpack to is added up before anything is unpacked. Names become Python strings once per
different name, so a name that a few bytes repeat a billion times takes no more room than a number.

An Arrow file is read as the stream that it holds, and its footer only counts as the sign that the file is whole: the
footer could point anywhere, and says nothing of what compressed columns unpack to, which each column's first bytes do.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calibrate.cache import CacheStream, FeatureCache, feature_cache
from calibrate.errors import BadCache, InputError, NoRows, UnknownLabel, WrongShape
from calibrate.io.files import TABLES, table_format

KEY = "setpoint"
PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
_NAMED = ("labels", "group")
COLUMNS = ("features", "logits", "labels", *PER_ROW, "group")
_IN_METADATA = ("classes", "weight", "bias", "prior")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
# How `feature_cache` says which row it means.
_ROW = re.compile(r"\b((?:features|logits|labels|sample_weight|cost_fp|cost_fn)\[|logits of row )(\d+)")
_MAGIC = b"ARROW1"
_MOST_NAMES = 100_000
# A list within JSON takes this many times the bytes of its two brackets and its comma.
_JSON_UNPACKS = 20
_BATCH_ROWS = 1_000_000
_READ_ROWS = 2**17
_BATCH_BYTES = 256 * 2**20
_GROUP_BYTES = 128 * 2**20
# Compressed pages are read through a buffer of this size, not a row group at a time.
_BUFFER_BYTES = 2**20
# Thrift's compact types that a Parquet footer has, and Parquet's types of four bytes: INT32 and FLOAT.
_BOOLEANS, _INTEGERS, _BINARY, _LISTS, _STRUCT = (1, 2), (4, 5, 6), 8, (9, 10), 12
_FIXED = {3: 1, 7: 8}
_FOUR_BYTES = (1, 4)
# What pyarrow and the few lines here that read bytes raise on damaged content.
_UNREADABLE = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    struct.error,
)


@dataclass(frozen=True)
class _Claims:
    """What a file says of itself before its rows are read."""

    schema: pa.Schema
    metadata: Mapping[str, Any]
    rows: int


@dataclass(frozen=True, eq=False)
class _Part:
    """One file of a stream."""

    path: Path
    format: str
    rows: int
    columns: tuple[str, ...]
    metadata: Mapping[str, Any]
    first: FeatureCache
    row_bytes: int


def read_table(source: str | Path | bytes, file_format: str, *, most_bytes: int) -> dict[str, Any]:
    """The arrays of a cache file by key, not yet checked against each other. Raises: `BadCache`, `NoRows`."""
    if not isinstance(source, bytes):
        source = Path(source)
    if file_format == "Arrow" and isinstance(source, Path):
        # Mapped arrays would change, or end the process, when the file is written over.
        with _readable(file_format, source):
            _check_size(source.stat().st_size, most_bytes)
            source = source.read_bytes()
    claims = _claims(source, file_format, most_bytes)
    columns = [name for name in COLUMNS if name in claims.schema.names]
    # A record batch is there already, in one piece; a row group is unpacked bit by bit.
    rows = _READ_ROWS if file_format == "Parquet" else max(1, claims.rows)
    parts = list(_arrays(source, file_format, columns, rows))
    if not parts:
        raise NoRows("the cache has no rows")
    if (held := sum(len(part["labels"]) for part in parts)) != claims.rows:
        raise BadCache(f"the cache claims {claims.rows} rows, but holds {held}")
    return {**claims.metadata, **_joined(parts)}


def write_table(path: str | Path, cache: FeatureCache, file_format: str) -> None:
    """Writes a cache as a Parquet or Arrow file; a file that is there is replaced when the new one is whole."""
    logits = cache.logits
    if logits.shape[1] == 2 and not np.ascontiguousarray(logits[:, 0]).view(np.uint8).any():
        logits = logits[:, 1]  # `(0, x)` is what the one logit x becomes
    numbers = {
        "features": cache.features,
        "logits": logits,
        "labels": cache.labels.astype(np.int32),
        **{name: getattr(cache, name) for name in PER_ROW},
        "group": cache.group,
    }
    columns = {name: _column(values) for name, values in numbers.items() if values is not None}
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in columns.items()],
        metadata={KEY: json.dumps(_to_metadata(cache), ensure_ascii=False)},
    )
    table = pa.Table.from_arrays(list(columns.values()), schema=schema)
    group_rows = max(1, min(2**20, _GROUP_BYTES * table.num_rows // max(1, table.nbytes)))
    named = [name for name in _NAMED if name in columns]
    part = Path(path).with_name(Path(path).name + ".part")
    try:
        if file_format == "Parquet":
            pq.write_table(table, part, row_group_size=group_rows, use_dictionary=named, write_page_checksum=True)
        else:
            with pa.ipc.new_file(str(part), schema) as writer:
                writer.write_table(table, max_chunksize=group_rows)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def open_cache(paths: str | Path | Sequence[str | Path], *, batch_rows: int = _BATCH_ROWS) -> CacheStream:
    """The rows of one or more Parquet or Arrow files, read a batch at a time; they may be larger than memory.

    `paths` are files, and patterns such as "val/*.parquet" (the files that fit, sorted). A batch is at most
    `batch_rows` rows of one file, fewer where they are wide; it holds logits, or features where there are none, and
    weights and costs. Every file names the same `classes` in its metadata, or none of them does and labels are indices.
    An Arrow file is mapped into memory and must not change meanwhile; a compressed one is unpacked a record batch at a
    time, however large its writer made them.

    Raises: `BadCache` for what is no such file or does not fit the others, `NoRows`, and whatever `feature_cache`
    raises; each iteration raises the same, with the file's name and the row as counted in that file.
    """
    if batch_rows < 1:
        raise WrongShape(f"batch_rows: wanted at least 1, got {batch_rows}")
    files = _files([paths] if isinstance(paths, str | Path) else paths)
    parts = [part for part in map(_part, files) if part is not None]
    if not parts:
        raise NoRows(f"{', '.join(map(str, files[:20]))}: wanted at least one row, got none")
    _check_alike(parts)
    classes = parts[0].first.classes
    with_prior = next((part for part in parts if part.first.prior is not None), None)
    shared = {"classes": classes, "prior": None if with_prior is None else with_prior.metadata["prior"]}

    def batches() -> Iterator[FeatureCache]:
        for part in parts:
            yield from _checked(part, shared, batch_rows)

    prior = None if with_prior is None else with_prior.first.prior
    return CacheStream(classes, prior, sum(part.rows for part in parts), batches)


def _files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that paths and patterns name, each once."""
    files: list[Path] = []
    for path in paths:
        found = [Path(path)]
        if isinstance(path, str) and re.search(r"[*?[]", path) and not found[0].exists():
            anchor = Path(found[0].anchor)
            found = sorted(anchor.glob(str(found[0].relative_to(anchor))))
            if not found:
                raise BadCache(f"no file fits {path}")
        files += found
    if not files:
        raise BadCache("wanted at least one file, got none")
    for file in files:
        if file.is_dir():
            raise BadCache(f"{file} is a folder; name its files, as in '{file}/*.parquet'")
    if repeated := [file for file, following in pairwise(sorted(files)) if file == following]:
        raise BadCache(f"{repeated[0]} is named more than once")
    return files


def _part(path: Path) -> _Part | None:
    """What one file of a stream holds, with its first row; None where it has no rows."""
    with _named(path):
        file_format = table_format(path)
        if file_format is None:
            raise BadCache(f"wanted a Parquet or Arrow file ({', '.join(TABLES)})")
        claims = _claims(path, file_format)
        names = claims.schema.names
        if "logits" not in names and "features" not in names:
            raise BadCache("a cache must have features or logits, it has neither")
        needed = ("logits" if "logits" in names else "features", "labels", *PER_ROW)
        columns = tuple(name for name in needed if name in names)
        if "group" in names:
            raise BadCache("a stream cannot keep groups together: read_cache it whole, or leave column 'group' out")
        if claims.rows == 0:
            return None
        row = next(_arrays(path, file_format, columns, 1), None)
        if row is None:
            raise BadCache(f"the cache claims {claims.rows} rows, but holds none")
        if "classes" not in claims.metadata and row["labels"].dtype.kind == "O":
            raise UnknownLabel(
                f"labels are names, which no batch has all of: write classes into the metadata entry '{KEY}'"
            )
        first = feature_cache(**{**claims.metadata, **row})
        row_bytes = first.logits.nbytes + sum(values.nbytes for values in row.values())
        return _Part(path, file_format, claims.rows, columns, claims.metadata, first, row_bytes)


def _check_alike(parts: Sequence[_Part]) -> None:
    """Raises `BadCache` where rows of two files cannot stand in one cache."""
    one = parts[0]
    for part in parts[1:]:
        if part.first.classes != one.first.classes:
            shown = [", ".join(classes[:20]) for classes in (part.first.classes, one.first.classes)]
            raise BadCache(f"{part.path}: classes are {shown[0]}, in {one.path} {shown[1]}")
        for name in PER_ROW:
            if (name in part.columns) != (name in one.columns):
                has, lacks = (part, one) if name in part.columns else (one, part)
                raise BadCache(f"{lacks.path}: there is no column '{name}', but {has.path} has one")
    for name in ("prior", "weight", "bias"):
        given = [(part.path, values) for part in parts if (values := getattr(part.first, name)) is not None]
        for path, values in given[1:]:
            if values.shape != given[0][1].shape or not np.allclose(values, given[0][1]):
                raise BadCache(f"{path}: {name} in the metadata is not as in {given[0][0]}")


def _checked(part: _Part, shared: Mapping[str, Any], batch_rows: int) -> Iterator[FeatureCache]:
    """The batches of one file, each checked as `feature_cache` does."""
    rows = max(1, min(batch_rows, _BATCH_BYTES // part.row_bytes))
    done = 0
    with _named(part.path):
        for arrays in _batched(_arrays(part.path, part.format, part.columns, rows), rows):
            try:
                cache = feature_cache(**{**part.metadata, **shared, **arrays})
            except InputError as error:
                raise _moved(error, done) from None
            yield cache
            done += cache.rows
        if done != part.rows:
            raise BadCache(f"the cache claims {part.rows} rows, but holds {done}")


def _moved(error: InputError, rows: int) -> InputError:
    """The error with its row counted from the start of the file."""
    return type(error)(_ROW.sub(lambda found: f"{found[1]}{int(found[2]) + rows}", str(error), count=1))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Input errors begin with the file's name."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


@contextmanager
def _readable(file_format: str, source: Path | bytes) -> Iterator[None]:
    """What is raised on damaged content is `BadCache`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise BadCache(f"there is no file {source!s}") from None
    except _UNREADABLE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadCache(f"the cache is not a whole {file_format} file: {said}") from None


def _check_size(unpacked: int, most_bytes: int) -> None:
    if unpacked > most_bytes:
        raise BadCache(f"the cache unpacks to {unpacked} bytes, wanted at most {most_bytes}")


def _claims(source: Path | bytes, file_format: str, most_bytes: int | None = None) -> _Claims:
    """What a file says of itself. Raises: `BadCache` for too many bytes and for columns that a cache does not have."""
    with _readable(file_format, source):
        schema, rows, unpacked = (_parquet_claims if file_format == "Parquet" else _arrow_claims)(source)
        _check_schema(schema)
        text = (schema.metadata or {}).get(KEY.encode(), b"{}")
        if most_bytes is not None:
            _check_size(unpacked + _JSON_UNPACKS * len(text), most_bytes)
        return _Claims(schema, _from_metadata(text), rows)


def _check_schema(schema: pa.Schema) -> None:
    names = schema.names
    for name in names:
        if name in _IN_METADATA:
            raise BadCache(f"'{name}' is not a column; write it into the metadata entry '{KEY}'")
        if name not in COLUMNS and not _PANDAS_INDEX.fullmatch(name):
            raise BadCache(f"a cache has the columns {', '.join(COLUMNS)}; got {name[:100]!r}")
    if len(set(names)) != len(names):
        raise BadCache("the cache holds a column more than once")
    if "labels" not in names:
        raise BadCache(f"the cache has no labels, only {', '.join(names) or 'nothing'}")
    for field in schema:
        if field.name in _NAMED:
            wanted, fits = "names or whole numbers", _is_label(field.type)
        elif field.name in ("features", "logits"):
            wanted, fits = "numbers or lists of numbers", _is_number(_element(field.type))
        else:
            wanted, fits = "numbers", _is_number(field.type)
        if field.name in COLUMNS and not fits:
            raise BadCache(f"column '{field.name}' must hold {wanted}, got type {str(field.type)[:100]}")


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_label(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return _is_text(type_) or _is_number(type_) or bool(pa.types.is_boolean(type_))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _element(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if _is_list(type_) else type_


def _from_metadata(text: bytes) -> dict[str, Any]:
    """What is not per row: arrays, or whatever stands in their place for `feature_cache` to refuse."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCache(f"the metadata entry '{KEY}' is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise BadCache(f"the metadata entry '{KEY}' must be an object with {', '.join(_IN_METADATA)}")
    narrow = value.pop("float32", [])
    for name in value:
        if name not in _IN_METADATA:
            raise BadCache(f"the metadata entry '{KEY}' has the keys {', '.join(_IN_METADATA)}; got {name[:100]!r}")
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


def _to_metadata(cache: FeatureCache) -> dict[str, Any]:
    heads = {"weight": cache.weight, "bias": cache.bias, "prior": cache.prior}
    return {
        "classes": list(cache.classes),
        **{name: values.tolist() for name, values in heads.items() if values is not None},
        # JSON has one kind of number; these were float32, and every float32 survives as a float64.
        "float32": [name for name, values in heads.items() if values is not None and values.dtype == np.float32],
    }


def _column(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1:
        return flat
    element = pa.field("element", flat.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(element, values.shape[1]))


def _parquet_claims(source: Path | bytes) -> tuple[pa.Schema, int, int]:
    """Schema, rows and the bytes that the columns unpack to.

    The sizes are read from the footer here, though pyarrow shows them: where they are damaged, it ends the process.
    """
    with _opened(source) as stream, _parquet_file(stream) as file:
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
    stream = _arrow_stream(source)
    with pa.ipc.open_stream(stream) as reader:
        schema = reader.schema
    rows = unpacked = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type in ("record batch", "dictionary"):
            length, size = _message_claims(message)
            rows += length if message.type == "record batch" else 0
            unpacked += size
    return schema, rows, unpacked


def _message_claims(message: pa.Message) -> tuple[int, int]:
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


def _opened(source: Path | bytes) -> pa.NativeFile:
    return pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(str(source))


def _parquet_file(stream: pa.NativeFile, names: Sequence[str] = ()) -> pq.ParquetFile:
    """The file, opened to be read page by page; texts in the columns `names` are kept once for each different one."""
    return pq.ParquetFile(
        stream,
        read_dictionary=list(names),
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
        # A head of many numbers is long, and the footer is no longer than the file.
        thrift_string_size_limit=2**31 - 1,
    )


def _arrow_stream(source: Path | bytes) -> pa.Buffer:
    """The stream within an Arrow file; a file on disk is mapped, so what is not looked at is not read."""
    data = pa.py_buffer(source) if isinstance(source, bytes) else pa.memory_map(str(source)).read_buffer()
    if data.size < 24 or data[:6] != _MAGIC or data[data.size - 6 :] != _MAGIC:
        raise BadCache("the cache is not a whole Arrow file: it does not begin and end as one")
    return data.slice(8)


def _record_batches(
    source: Path | bytes, file_format: str, columns: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    if file_format == "Parquet":
        with _opened(source) as stream, _parquet_file(stream, [name for name in _NAMED if name in columns]) as file:
            yield from file.iter_batches(batch_size=rows, columns=list(columns))
        return
    stream = _arrow_stream(source)
    with pa.ipc.open_stream(stream) as reader:
        indices = [reader.schema.get_field_index(name) for name in columns]
    with pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(included_fields=indices)) as reader:
        for batch in reader:
            # Nothing has yet looked at what the columns point to.
            batch.validate(full=True)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _arrays(
    source: Path | bytes, file_format: str, columns: Sequence[str], rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """The columns as arrays, at most `rows` rows at a time; every list of a column must have the same length."""
    done = 0
    widths: dict[str, int] = {}
    names: dict[str, dict[str, str]] = {"labels": {}, "group": {}}
    with _readable(file_format, source):
        for batch in _record_batches(source, file_format, columns, rows):
            if batch.num_rows == 0:
                continue
            yield {
                name: _labels(batch.column(name), name, done, names[name])
                if name in _NAMED
                else _numbers(batch.column(name), name, done, widths)
                for name in columns
            }
            done += batch.num_rows


def _numbers(column: pa.Array, name: str, first_row: int, widths: dict[str, int]) -> np.ndarray:
    """Numbers as (n,) and lists as (n, width), without a copy where the file has them in one piece."""
    _check_no_null(column, name, first_row)
    if not _is_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.array([column.type.list_size])
    else:
        lengths = np.diff(column.offsets.to_numpy())
    width = widths.setdefault(name, int(lengths[0]))
    if (lengths != width).any():
        row = int(np.flatnonzero(lengths != width)[0])
        raise BadCache(
            f"column '{name}', row {first_row + row}: wanted {width} numbers, as in the rows before, got {lengths[row]}"
        )
    flat = column.flatten()
    if flat.null_count:
        row, place = divmod(int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0]), width)
        raise BadCache(f"column '{name}', row {first_row + row}: number {place} is null")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), width)


def _labels(column: pa.Array, what: str, first_row: int, names: dict[str, str]) -> np.ndarray:
    """Indices as numbers; names as objects, one for each different name in `names`, whatever the number of rows."""
    _check_no_null(column, what, first_row)
    if _is_text(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    codes = column.indices.to_numpy()
    used, first, places = np.unique(codes, return_index=True, return_inverse=True)
    if what == "labels" and max(used.size, len(names)) > _MOST_NAMES:
        raise BadCache(f"labels hold more than {_MOST_NAMES} different names")
    dictionary = column.dictionary
    if pa.types.is_string_view(dictionary.type):  # which pyarrow cannot take from
        dictionary = dictionary.cast(pa.large_string())
    values = dictionary.take(pa.array(used)).to_pylist()
    for value, row in zip(values, first.tolist(), strict=True):
        if value is None:
            raise BadCache(f"column '{what}', row {first_row + row} is null")
    if not _is_text(column.type.value_type):
        return np.asarray(values)[places]
    kept = np.empty(len(values), dtype=object)
    kept[:] = [names.setdefault(value, value) for value in values]
    return np.asarray(kept[places])


def _check_no_null(column: pa.Array, name: str, first_row: int) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise BadCache(f"column '{name}', row {first_row + row} is null")


def _batched(parts: Iterable[dict[str, np.ndarray]], rows: int) -> Iterator[dict[str, np.ndarray]]:
    """The same rows in batches of `rows`; the last one may be shorter."""
    held: list[dict[str, np.ndarray]] = []
    missing = rows
    for part in parts:
        left = part
        while len(left["labels"]) >= missing:
            held.append({name: values[:missing] for name, values in left.items()})
            left = {name: values[missing:] for name, values in left.items()}
            yield _joined(held)
            held, missing = [], rows
        if len(left["labels"]):
            held.append(left)
            missing -= len(left["labels"])
    if held:
        yield _joined(held)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
