"""What a model made of a batch, checked and put beside its labels: the columns of a cache.

Decided here: what is wrong is said at once, with the batch and the row, not after hours at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from calibrate.errors import BadCache, BadModel, InputError, NotFinite, UnknownLabel, WrongShape, shown
from calibrate.extraction.model import Batch, Extractor
from calibrate.labels import label_indices


@contextmanager
def numbered(batch: int) -> Iterator[None]:
    """Errors begin with the batch that they are about."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"batch {batch}: {error}") from error.__cause__


def to_columns_of(
    batch: Batch, made: np.ndarray, extractor: Extractor, names: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Features or logits, labels, and the other columns of a batch.

    Raises: `BadModel`, `NotFinite`, `UnknownLabel`, `WrongShape`.
    """
    what = "logits" if extractor.head is None else "features"
    if made.ndim == 2 and made.shape[1] == 1 and extractor.head is None:
        made = made[:, 0]
    if made.ndim not in ((2,) if extractor.head is not None else (1, 2)) or len(made) != batch.rows:
        raise BadModel(f"{what} have shape {made.shape}, wanted one line for each of {batch.rows} rows")
    if made.dtype.kind != "f" or made.dtype.itemsize < 4:
        made = made.astype(np.float32 if made.dtype.itemsize < 4 else np.float64)
    if not np.isfinite(made).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(made))[0]]
        raise NotFinite(f"{what}{where} must be finite, got {made[tuple(where)]}")
    k = max(2, len(extractor.head.weight) if extractor.head is not None else made.shape[1] if made.ndim == 2 else 1)
    if names is not None and len(names) != k:
        raise WrongShape(f"{len(names)} classes ({', '.join(names[:20])}) but the model gives {k} logits a row")
    columns = {what: made, "labels": to_indices(batch.labels, names, extractor.values, k)}
    for name, values in batch.columns.items():
        if name == "group":
            columns[name] = values.astype(np.int64) if values.dtype.kind in "biu" else values
        elif values.dtype.kind not in "biuf" or not np.isfinite(values).all() or (values < 0).any():
            raise BadCache(f"{name} must hold numbers of at least 0")
        else:
            columns[name] = values.astype(np.float64)
    return columns


def to_indices(
    labels: np.ndarray,
    names: Sequence[str] | None,
    values: np.ndarray | None,
    k: int,
) -> np.ndarray:
    """Labels as indices of `k` classes: by the numeric `values` that the model was trained with, else as
    `label_indices` reads them. Raises: `UnknownLabel`.
    """
    if labels.dtype.kind == "U" and names is None:
        counted = [str(i) for i in range(k)]
        unknown = next((label for label in labels.tolist() if label not in counted), None)
        if unknown is not None:
            raise UnknownLabel(
                f"labels are named ({shown(unknown)}), and the model does not name its classes: pass classes= in the "
                f"order of its {k} logits"
            )
        return label_indices(labels.tolist(), counted)
    if labels.dtype.kind == "U" and values is not None:
        known = {str(value): name for value, name in zip(values.tolist(), names or (), strict=True)}
        labels = np.array([known.get(label, label) for label in labels.tolist()])
    if values is None or labels.dtype.kind == "U" or values.dtype.kind not in "biuf":
        return label_indices(labels, [str(i) for i in range(k)] if names is None else names)
    order = np.argsort(values)
    places = order[np.minimum(np.searchsorted(values[order], labels), len(values) - 1)]
    outside, wanted = values[places] != labels, ", ".join(map(str, values[:20].tolist()))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise UnknownLabel(f"labels[{row}] must be {wanted}; got {labels[row]}")
    return places.astype(np.int64)


def check_alike(
    columns: Mapping[str, np.ndarray], before: Mapping[str, tuple[object, ...]]
) -> dict[str, tuple[object, ...]]:
    """What each column is, which must be as it was in the batches before. Raises: `WrongShape`."""
    found: dict[str, tuple[object, ...]] = {
        name: ("names" if values.dtype.kind == "U" else values.dtype.name, values.shape[1:])
        for name, values in columns.items()
    }
    for name in found.keys() | before.keys() if before else ():
        if found.get(name) != before.get(name):
            said = [f"{kinds[name][0]} {kinds[name][1]}" if name in kinds else "none" for kinds in (found, before)]
            raise WrongShape(f"{name} are of type and width {said[0]}, in the batches before {said[1]}")
    return found
