"""The rows of a Parquet or Arrow file as arrays, some at a time.

Decided here: names become Python strings once per different name, so a name that a few bytes repeat a billion times
takes no more room than a number; what is null is refused with its row.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from calibrate.errors import BadCache
from calibrate.io.table_claims import is_list, is_text
from calibrate.io.table_files import NAMED, arrow_stream, opened, parquet_file, readable

_MOST_NAMES = 100_000


def read_columns(
    source: Path | bytes, file_format: str, columns: Sequence[str], rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """The columns as arrays, at most `rows` rows at a time; every list of a column must have the same length."""
    done = 0
    widths: dict[str, int] = {}
    names: dict[str, dict[str, str]] = {"labels": {}, "group": {}}
    with readable(file_format, source):
        for batch in _record_batches(source, file_format, columns, rows):
            if batch.num_rows == 0:
                continue
            yield {
                name: _labels(batch.column(name), name, done, names[name])
                if name in NAMED
                else _numbers(batch.column(name), name, done, widths)
                for name in columns
            }
            done += batch.num_rows


def _record_batches(
    source: Path | bytes, file_format: str, columns: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    if file_format == "Parquet":
        with opened(source) as stream, parquet_file(stream, [name for name in NAMED if name in columns]) as file:
            yield from file.iter_batches(batch_size=rows, columns=list(columns))
        return
    stream = arrow_stream(source)
    with pa.ipc.open_stream(stream) as reader:
        indices = [reader.schema.get_field_index(name) for name in columns]
    with pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(included_fields=indices)) as reader:
        for batch in reader:
            # Nothing has yet looked at what the columns point to.
            batch.validate(full=True)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _numbers(column: pa.Array, name: str, first_row: int, widths: dict[str, int]) -> np.ndarray:
    """Numbers as (n,) and lists as (n, width), without a copy where the file has them in one piece."""
    _check_no_null(column, name, first_row)
    if not is_list(column.type):
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
    if is_text(column.type):
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
    if not is_text(column.type.value_type):
        return np.asarray(values)[places]
    kept = np.empty(len(values), dtype=object)
    kept[:] = [names.setdefault(value, value) for value in values]
    return np.asarray(kept[places])


def _check_no_null(column: pa.Array, name: str, first_row: int) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise BadCache(f"column '{name}', row {first_row + row} is null")


def in_batches(parts: Iterable[dict[str, np.ndarray]], rows: int) -> Iterator[dict[str, np.ndarray]]:
    """The same rows in batches of `rows`; the last one may be shorter."""
    held: list[dict[str, np.ndarray]] = []
    missing = rows
    for part in parts:
        left = part
        while len(left["labels"]) >= missing:
            held.append({name: values[:missing] for name, values in left.items()})
            left = {name: values[missing:] for name, values in left.items()}
            yield joined(held)
            held, missing = [], rows
        if len(left["labels"]):
            held.append(left)
            missing -= len(left["labels"])
    if held:
        yield joined(held)


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of all parts; they are let go one by one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
