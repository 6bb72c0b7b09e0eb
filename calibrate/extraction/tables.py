"""Labelled rows in files, for the command line: `.npz`, CSV and Parquet.

Decided here: an `.npz` file holds arrays by the model's input names, or one under `inputs`, and `labels`. In a CSV or
Parquet file each column is one of the model's inputs where they have its name; otherwise the columns side by side are
its one input, matched by name with the model's own description, which also has the codes of categories, or in the
file's order where there is none. A column that the model does not know is refused. An empty cell is NaN.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, shown
from calibrate.extraction.batches import COLUMNS, LABEL_KEYS
from calibrate.extraction.named import side_by_side, to_inputs
from calibrate.io.description import Column
from calibrate.io.model import Port

_TABLES = (".csv", ".parquet")


def read_inputs(path: Path, label_key: str | None) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """The inputs of a file by name, the labels, and what else there is per row. Raises: `BadCache`."""
    if not path.exists():
        raise BadCache(f"there is no file {path}")
    columns = _columns(path) if path.suffix.lower() in _TABLES else _arrays(path)
    found = [name for name in ([label_key] if label_key else LABEL_KEYS) if name in columns]
    if not found:
        wanted = label_key or " or ".join(LABEL_KEYS)
        raise BadCache(f"{path}: wanted labels under {wanted}, got {', '.join(list(columns)[:20])}")
    labels = columns.pop(found[0])
    beside: dict[str, Any] = {name: columns.pop(name) for name in COLUMNS if name in columns}
    if not columns:
        raise BadCache(f"{path}: there is nothing beside {', '.join([found[0], *beside])} to run a model on")
    return columns, labels, beside


def arranged(
    columns: Mapping[str, np.ndarray], ports: Sequence[Port], described: Sequence[Column]
) -> dict[str, np.ndarray] | np.ndarray:
    """Return named columns as what a model takes: by input, or of its one input the rows (n, d).

    Without `ports` the columns go side by side. An empty text is a missing value.

    Raises: `WrongColumns`, `UnknownCategory`, `BadCache`, naming the column.
    """
    codes = {column.name: column.codes for column in described}
    texts = {port.name for port in ports if port.dtype == "str"}
    cells = {
        name: values if name in texts else _with_missing(values, codes.get(name, {}))
        for name, values in columns.items()
    }
    if not ports:
        return side_by_side(cells, (), "inputs")
    inputs = to_inputs(cells, ports, described)
    return inputs if len(ports) > 1 else inputs[ports[0].name]


def _with_missing(values: np.ndarray, codes: Mapping[str, float]) -> np.ndarray:
    if values.dtype.kind != "U" or "" in codes:
        return values
    return np.array([value or None for value in values.tolist()], dtype=object)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise BadCache(f"{path}: wanted an .npz, .csv or .parquet file: {error}") from None


def _columns(path: Path) -> dict[str, np.ndarray]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        table = csv.read_csv(path) if path.suffix.lower() == ".csv" else parquet.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadCache(f"{path}: {error}") from None
    if (
        repeated := next((name for name in table.column_names if table.column_names.count(name) > 1), None)
    ) is not None:
        raise BadCache(f"{path}: column {shown(repeated)} comes more than once")
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            found[name] = np.array(column.to_pylist())
            continue
        values = column.to_numpy()
        if values.dtype == object:
            values = np.array(["" if value is None else str(value) for value in values.tolist()])
        found[name] = values
    return found
