"""Labelled rows in files, for the command line: `.npz`, CSV and Parquet.

Decided here: an `.npz` file holds arrays by the model's input names, or one under `inputs`, and `labels`. In a CSV or
Parquet file each column is one of the model's inputs where they have its name; otherwise the columns side by side are
its one input, in the order that the model's own description gives them, which also has the codes of categories, or in
the file's. An empty cell is NaN.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, shown
from calibrate.extraction.batches import COLUMNS, LABEL_KEYS
from calibrate.io.description import Column

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
    columns: Mapping[str, np.ndarray], inputs: Sequence[str], described: Sequence[Column]
) -> dict[str, np.ndarray] | np.ndarray:
    """The columns of a table as what a model takes: by name, or side by side (n, d). Raises: `BadCache`."""
    if set(inputs) <= columns.keys():
        return {name: v[:, np.newaxis] if v.ndim == 1 else v for name, v in columns.items() if name in inputs}
    if len(columns) == 1 and next(iter(columns.values())).ndim > 1:
        return next(iter(columns.values()))
    codes = {column.name: column.codes for column in described}
    if missing := [name for name in codes if name not in columns]:
        raise BadCache(f"the model takes a column {missing[0]!r}, which is not in {', '.join(list(columns)[:20])}")
    return np.stack([_numbers(columns[name], name, codes.get(name, {})) for name in codes or columns], axis=1)


def _numbers(values: np.ndarray, name: str, codes: Mapping[str, float]) -> np.ndarray:
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    unknown = next((row for row, value in enumerate(values.tolist()) if value and value not in codes), None)
    if unknown is not None:
        wanted = f"one of {', '.join(codes)}" if codes else "numbers"
        raise BadCache(f"column {name!r}, row {unknown}: wanted {wanted}, got {shown(values[unknown])}")
    return np.array([codes[value] if value else np.nan for value in values.tolist()])


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
