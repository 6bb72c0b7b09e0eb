"""Writes feature caches as `.npz` files from rows as they come, where memory is too small for all of them."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy


def write_npz_rows(
    path: str | Path,
    batches: Callable[[], Iterator[Mapping[str, np.ndarray]]],
    shared: Mapping[str, Any],
    *,
    comment: str = "",
) -> None:
    """Rows in batches with the same columns and types, read once for each column; one batch is in memory.

    `shared` is what is not per row: classes, weight, bias, prior, those that are None left out. `comment` becomes that
    of the archive. A file that is there is replaced when the new one is whole.
    """
    rows, first = 0, dict[str, np.ndarray]()
    for batch in batches():
        first = first or {name: values[:0] for name, values in batch.items()}
        rows += len(batch["labels"])
    part = Path(path).with_name(Path(path).name + ".part")
    try:
        with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
            archive.comment = comment.encode()
            for name, values in shared.items():
                if values is not None:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        npy.write_array(member, np.asarray(values), allow_pickle=False)
            for name, empty in first.items():
                header = {
                    "descr": npy.dtype_to_descr(empty.dtype),
                    "fortran_order": False,
                    "shape": (rows, *empty.shape[1:]),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array_header_1_0(member, header)
                    for batch in batches():
                        member.write(np.ascontiguousarray(batch[name], dtype=empty.dtype).tobytes())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
