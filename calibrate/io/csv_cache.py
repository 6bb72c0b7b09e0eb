"""Feature caches as CSV: what a spreadsheet or a database gives out.

Decided here: a line of names, then a row a line. `labels`, `group` and the numbers per row have their own names;
several columns side by side are `features_...` or `logits_...`, in the order of the file, whatever stands behind the
underscore, and one logit a row is `logits`. An empty cell is refused with its row, and nothing is guessed from the
content.
"""

from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, NoRows, shown

_NAMED = ("labels", "group")
_PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
_WIDE = ("features", "logits")
_START_BYTES = 2**16


def is_csv(path: Path) -> bool:
    """Whether a file begins with a line of names, `labels` among them."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    line = start.split(b"\n")[0].strip().removeprefix(b"\xef\xbb\xbf")
    return b"\0" not in line and b"labels" in line.replace(b'"', b"").split(b",")


def read_csv(path: Path, *, most_bytes: int) -> dict[str, Any]:
    """The arrays of a CSV file by key, not yet checked against each other. Raises: `BadCache`, `NoRows`."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        convert = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
        table = csv.read_csv(path, convert_options=convert, read_options=csv.ReadOptions(use_threads=False))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadCache(f"the cache is not a whole CSV file: {said.split('. Row')[0][:100]}") from None
    if table.nbytes > most_bytes:
        raise BadCache(f"the cache unpacks to {table.nbytes} bytes, wanted at most {most_bytes}")
    if table.num_rows == 0:
        raise NoRows("the cache has no rows")
    names = table.column_names
    if len(set(names)) != len(names):
        raise BadCache("the cache holds a column more than once")
    arrays: dict[str, Any] = {}
    wide: dict[str, list[np.ndarray]] = {}
    for name, column in zip(names, table.columns, strict=True):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise BadCache(f"column '{name[:100]}', row {row} is empty")
        if name in _NAMED and pa.types.is_string(column.type):
            arrays[name] = np.array(column.to_pylist(), dtype=object)
        elif name in (*_NAMED, *_PER_ROW, "logits"):
            arrays[name] = _numbers(column, name)
        elif (kind := name.partition("_")[0]) in _WIDE and name != kind:
            wide.setdefault(kind, []).append(_numbers(column, name))
        else:
            raise BadCache(f"a cache has the columns labels, group, {', '.join(_PER_ROW)}, logits, logits_... and "
                           f"features_...; got {shown(name)}")  # fmt: skip
    if "logits" in arrays and "logits" in wide:
        raise BadCache("the cache has a column 'logits' and others 'logits_...': one or the other")
    return {**arrays, **{kind: np.stack(columns, axis=1) for kind, columns in wide.items()}}


def _numbers(column: Any, name: str) -> np.ndarray:
    values = np.asarray(column.to_numpy())
    if values.dtype.kind not in "biuf":
        raise BadCache(f"column '{name[:100]}' must hold numbers")
    return values
