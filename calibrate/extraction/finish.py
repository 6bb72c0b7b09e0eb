"""The last step: parts become one cache, in memory or in a file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calibrate.cache import FeatureCache, check_prior, feature_cache
from calibrate.errors import BadPrior
from calibrate.extraction.batches import to_numpy
from calibrate.extraction.columns import to_indices
from calibrate.extraction.model import Extractor
from calibrate.io.files import TABLES
from calibrate.io.npz_writer import write_npz_rows
from calibrate.io.origin import ENTRY
from calibrate.labels import written_labels
from calibrate.origin import Origin

Chunks = Callable[[], Iterator[dict[str, np.ndarray]]]


def shared_of(
    extractor: Extractor, names: Sequence[str] | None, chunks: Chunks, prior: ArrayLike | None, train_labels: Any
) -> dict[str, Any]:
    """What is not per row: classes, head and prior. Raises: `BadPrior`, `BadPoint`."""
    classes = None if names is None else tuple(names)
    head = extractor.head
    if classes is None:
        first = next(chunks())
        k = len(head.weight) if head is not None else first["logits"].shape[1] if first["logits"].ndim == 2 else 1
        classes = tuple(str(i) for i in range(max(2, k)))
    if train_labels is not None:
        indices = to_indices(to_numpy(train_labels), classes, extractor.values, len(classes))
        if indices.ndim != 1 or not indices.size:
            raise BadPrior(f"train_labels: wanted one axis of labels, got shape {indices.shape}")
        prior = np.bincount(indices, minlength=len(classes)) / indices.size
    elif prior is None:
        prior = extractor.prior
    return {
        "classes": classes,
        "weight": None if head is None else head.weight,
        "bias": None if head is None else head.bias,
        "prior": None if prior is None else check_prior(prior, classes),
    }


def in_memory_cache(chunks: Chunks, shared: dict[str, Any]) -> FeatureCache:
    """All rows as one checked cache."""
    held = list(_named_rows(chunks)())
    rows: dict[str, Any] = {name: np.concatenate([chunk[name] for chunk in held]) for name in held[0]}
    return feature_cache(**shared, **{**rows, "labels": written_labels(rows["labels"], shared["classes"])})


def write_parts(path: str | Path, chunks: Chunks, shared: dict[str, Any], origin: Origin) -> None:
    """All rows as one file, read part by part, that says where they came from."""
    file_format = TABLES.get(Path(path).suffix.lower())
    rows = _named_rows(chunks)
    names = shared["classes"]
    first: dict[str, Any] = next(rows())
    # What does not fit is reported before anything is written.
    feature_cache(**shared, **{**first, "labels": written_labels(first["labels"], names)})
    if file_format is None:
        arrays = {**shared, "classes": np.array(shared["classes"])}
        named = lambda: ({**chunk, "labels": written_labels(chunk["labels"], names)} for chunk in rows())  # noqa: E731
        write_npz_rows(path, named, arrays, comment=origin.to_text())
        return
    from calibrate.io.table_writer import write_rows

    narrow = ({**chunk, "labels": written_labels(chunk["labels"].astype(np.int32), names)} for chunk in rows())
    write_rows(path, narrow, shared, file_format, entries={ENTRY: origin.to_text()})


def _named_rows(chunks: Chunks) -> Chunks:
    """The chunks with groups as numbers from 0 on."""
    groups: set[Any] = set()
    for chunk in chunks():
        if "group" not in chunk:
            break
        groups |= set(np.unique(chunk["group"]).tolist())
    known = np.array(sorted(groups))

    def rows() -> Iterator[dict[str, np.ndarray]]:
        for chunk in chunks():
            columns = dict(chunk)
            if "group" in chunk:
                columns["group"] = np.searchsorted(known, chunk["group"]).astype(np.int64)
            yield columns

    return rows
