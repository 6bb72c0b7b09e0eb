"""SHA-256 digests: of a model's weights, and of rows in their order, so that a cache says what it was made from.

Decided here: the digest of rows goes by their values, types and order and does not depend on how they are batched, as
far as batches are not padded to lengths of their own.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from calibrate.extraction.batches import to_numpy
from calibrate.extraction.model import Batch


class RowsDigest:
    """The digest of the rows so far."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[Any, tuple[object, ...]]] = {}

    def add(self, batch: Batch) -> str:
        """Takes in a batch, and gives the digest of all rows up to its end."""
        for place, values in enumerate(batch.args):
            self._add(f"input {place}", values)
        for name, values in {**batch.named, **batch.columns, "labels": batch.labels}.items():
            self._add(name, values)
        return digest_of(f"{name}:{slot.hexdigest()}".encode() for name, (slot, _) in sorted(self._slots.items()))

    def _add(self, name: str, values: Any) -> None:
        slot, before = self._slots.get(name, (hashlib.sha256(), ()))
        array = _plain(values)
        kind = "U" if array.dtype.kind == "U" else array.dtype.str
        if before != (kind, array.shape[1:]):
            slot.update(repr((kind, array.shape[1:])).encode())
        if array.dtype.kind in "UO":
            for value in array.reshape(-1).tolist():
                slot.update(repr(value).encode() + b"\0")
        else:
            slot.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._slots[name] = (slot, (kind, array.shape[1:]))


def digest_of(parts: Iterable[Any]) -> str:
    """Of bytes, one after the other, each with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def _plain(values: Any) -> np.ndarray:
    """The array that a value is; a sparse matrix as its numbers with their places."""
    if hasattr(values, "tocoo"):
        sparse = values.tocoo()
        return np.stack([sparse.row, sparse.col, sparse.data]).T.astype(np.float64)
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    return np.atleast_1d(to_numpy(values))
