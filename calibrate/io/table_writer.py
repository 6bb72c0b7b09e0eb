"""Writes feature caches as Parquet and Arrow files: from memory, or rows as they come where memory is too small."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calibrate.cache import FeatureCache
from calibrate.io.origin import ENTRY
from calibrate.io.table_files import KEY, NAMED, PER_ROW
from calibrate.labels import written_labels

_GROUP_BYTES = 128 * 2**20


def write_table(path: str | Path, cache: FeatureCache, file_format: str) -> None:
    """Writes a cache as a Parquet or Arrow file; a file that is there is replaced when the new one is whole."""
    logits = cache.logits
    if logits.shape[1] == 2 and not np.ascontiguousarray(logits[:, 0]).view(np.uint8).any():
        logits = logits[:, 1]  # `(0, x)` is what the one logit x becomes
    columns = {
        "features": cache.features,
        "logits": logits,
        "labels": written_labels(cache.labels.astype(np.int32), cache.classes),
        **{name: getattr(cache, name) for name in PER_ROW},
        "group": cache.group,
    }
    shared = {"classes": cache.classes, "weight": cache.weight, "bias": cache.bias, "prior": cache.prior}
    rows = [{name: values for name, values in columns.items() if values is not None}]
    entries = {} if cache.origin is None else {ENTRY: cache.origin.to_text()}
    write_rows(path, rows, shared, file_format, entries=entries)


def write_rows(
    path: str | Path,
    batches: Iterable[Mapping[str, np.ndarray]],
    shared: Mapping[str, Any],
    file_format: str,
    *,
    entries: Mapping[str, str] | None = None,
) -> None:
    """The same from columns, some rows at a time, all with the same columns and types; one batch is in memory.

    `shared` is what is not per row: classes, weight, bias, prior, those that are None left out. `entries` are further
    metadata of the file's schema.
    """
    metadata = {KEY: json.dumps(_to_metadata(shared), ensure_ascii=False), **(entries or {})}
    part = Path(path).with_name(Path(path).name + ".part")
    writer: pq.ParquetWriter | pa.ipc.RecordBatchFileWriter | None = None
    try:
        for batch in batches:
            columns = {name: _column(values) for name, values in batch.items()}
            schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
            table = pa.Table.from_arrays(list(columns.values()), schema=schema.with_metadata(metadata))
            rows = max(1, min(2**20, _GROUP_BYTES * table.num_rows // max(1, table.nbytes)))
            if file_format == "Parquet":
                writer = writer or pq.ParquetWriter(
                    part,
                    table.schema,
                    use_dictionary=[name for name in NAMED if name in columns],
                    write_page_checksum=True,
                )
            else:
                writer = writer or pa.ipc.new_file(str(part), table.schema)
            writer.write_table(table, rows)
        if writer is not None:
            writer.close()
            writer = None
            part.replace(path)
    finally:
        if writer is not None:
            writer.close()
        part.unlink(missing_ok=True)


def _to_metadata(shared: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: values for name, values in shared.items() if values is not None}
    return {
        **{name: values.tolist() if isinstance(values, np.ndarray) else list(values) for name, values in given.items()},
        # JSON has one kind of number; these were float32, and every float32 survives as a float64.
        "float32": [name for name, values in given.items() if getattr(values, "dtype", None) == np.float32],
    }


def _column(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1:
        return flat
    element = pa.field("element", flat.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(element, values.shape[1]))
