"""Labelled rows in batches, from the many forms in which people hold them.

A PyTorch DataLoader (or anything that gives batches when it is iterated), a Dataset, or arrays. A batch is a tensor, a
tuple `(x, ..., labels)` or a dict with the labels under one of its keys. Decided here: labels that are given apart go
with the rows in their order, so a loader that shuffles is refused with them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from calibrate.errors import BadCache, NoRows, WrongShape
from calibrate.extraction.model import Batch

LABEL_KEYS = ("labels", "label", "targets", "target")
COLUMNS = ("sample_weight", "cost_fp", "cost_fn", "group")


@dataclass(frozen=True, eq=False)
class Rows:
    """Data as it was given, with the labels and columns that were given apart; `rows` is how many where known."""

    data: Any
    labels: np.ndarray | None
    label_key: str | None
    columns: Mapping[str, np.ndarray]
    batch_rows: int

    @property
    def rows(self) -> int | None:
        """How many rows there are, None where only reading them tells."""
        if _are_arrays(self.data):
            return _length(_slots(self.data)[0])
        held = getattr(self.data, "dataset", self.data)
        return len(held) if hasattr(held, "__len__") and hasattr(held, "__getitem__") else None

    def batches(self) -> Iterator[Batch]:
        """The rows in their order. Raises: `BadCache`, `WrongShape`, `NoRows`, naming the batch."""
        first = 0
        numbers = count()
        for number, given in zip(numbers, self._given(), strict=False):
            try:
                batch = self._batch(number, first, given)
            except (BadCache, WrongShape) as error:
                raise type(error)(f"batch {number}: {error}") from None
            first += batch.rows
            yield batch
        if first == 0:
            raise NoRows("data: wanted at least one row, got none")
        for name, values in {"labels": self.labels, **self.columns}.items():
            if values is not None and len(values) != first:
                raise WrongShape(f"{name}: wanted {first} entries, one per row, got {len(values)}")

    def _given(self) -> Iterator[Any]:
        """The batches as the data gives them."""
        if _are_arrays(self.data):
            slots = _slots(self.data)
            lengths = [_length(slot) for slot in slots]
            if len(set(lengths)) > 1:
                raise WrongShape(f"data: wanted arrays of equal length, got {', '.join(map(str, lengths))} rows")
            for start in range(0, lengths[0], self.batch_rows):
                rows = slice(start, start + self.batch_rows)
                if isinstance(self.data, Mapping):
                    yield {key: _take(values, rows) for key, values in self.data.items()}
                else:
                    yield tuple(_take(slot, rows) for slot in slots)
            return
        data = self.data
        if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list | tuple):
            from torch.utils.data import DataLoader

            data = DataLoader(data, batch_size=self.batch_rows)
        if not hasattr(data, "__iter__"):
            raise BadCache(f"data: wanted arrays, a Dataset or an iterable of batches, got {type(self.data).__name__}")
        if (self.labels is not None or self.columns) and _shuffles(data):
            raise BadCache("data is shuffled, so labels and columns given apart would go with other rows")
        yield from data

    def _batch(self, number: int, first: int, given: Any) -> Batch:
        labels = self.labels
        named: dict[str, Any] = {}
        columns = dict[str, Any]()
        if isinstance(given, Mapping):
            named = dict(given)
            columns = {name: named.pop(name) for name in COLUMNS if name in named}
            key = self.label_key or next((name for name in LABEL_KEYS if name in named), None)
            found = named.pop(key, None) if key is not None else None
            args: tuple[Any, ...] = ()
            if labels is None and found is None:
                wanted = self.label_key or " or ".join(LABEL_KEYS)
                raise BadCache(f"wanted labels under {wanted}, got {', '.join(map(str, given))}")
        else:
            args = tuple(given) if isinstance(given, list | tuple) else (given,)
            found = None
            if labels is None:
                if len(args) < 2:
                    came = _shown(args[0]) if args else "an empty tuple"
                    raise BadCache(f"wanted (inputs, labels), got {came} alone; pass labels= for labels apart")
                *rest, found = args
                args = tuple(rest)
        inputs = [*args, *named.values()]
        rows = next((_length(value) for value in inputs if hasattr(value, "shape") or isinstance(value, list)), None)
        if rows is None:
            raise BadCache(f"wanted inputs that are arrays, got {_shown(given)}")
        here = slice(first, first + rows)
        labels_ = _column(found if labels is None else labels[here], "labels", rows)
        columns |= {name: values[here] for name, values in self.columns.items()}
        checked = {name: _column(values, name, rows) for name, values in columns.items()}
        return Batch(number, first, args, named, labels_, checked)


def to_rows(data: Any, labels: Any, label_key: str | None, columns: Mapping[str, Any], batch_rows: int) -> Rows:
    """Data with what was given beside it. Raises: `BadCache`, `WrongShape`."""
    if batch_rows < 1:
        raise WrongShape(f"batch_rows: wanted at least 1, got {batch_rows}")
    if isinstance(data, list) and data and not hasattr(data[0], "shape") and not isinstance(data[0], Mapping | tuple):
        data = np.asarray(data)
    given = {name: to_numpy(values) for name, values in columns.items() if values is not None}
    return Rows(data, None if labels is None else to_numpy(labels), label_key, given, batch_rows)


def to_numpy(values: Any) -> np.ndarray:
    """An array of what may be a tensor, on any device and of any type, or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) in ("torch.bfloat16", "torch.float16") else values
        return np.asarray(values.numpy())
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.reshape(-1).tolist()):
        array = array.astype(np.str_)
    return array


def _column(values: Any, name: str, rows: int) -> np.ndarray:
    array = to_numpy(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise WrongShape(f"{name}: wanted {rows} entries, one per row, got shape {array.shape}")
    if array.dtype.kind not in "biufU":
        raise BadCache(f"{name}: wanted numbers or names, got {array.dtype} such as {array[0]!r}")
    return array


def _are_arrays(data: Any) -> bool:
    """Whether data is arrays: one, a tuple, or a dict of them."""
    if isinstance(data, Mapping):
        return True
    if isinstance(data, list | tuple):
        return bool(data) and all(hasattr(item, "shape") for item in data) and isinstance(data, tuple)
    return hasattr(data, "shape")


def _slots(data: Any) -> list[Any]:
    if isinstance(data, Mapping):
        return [value if hasattr(value, "shape") else np.asarray(value) for value in data.values()] or [np.empty(0)]
    return list(data) if isinstance(data, tuple) else [data]


def _take(values: Any, rows: slice) -> Any:
    """Some rows of an array, a tensor, a sparse matrix or a data frame."""
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]


def _length(values: Any) -> int:
    return int(values.shape[0]) if hasattr(values, "shape") and len(values.shape) else len(values)


def _shuffles(data: Any) -> bool:
    return "Random" in type(getattr(data, "sampler", None)).__name__


def _shown(given: Any) -> str:
    shape = getattr(given, "shape", None)
    if shape is not None:
        return f"{type(given).__name__} of shape {tuple(shape)}"
    if isinstance(given, Sequence) and not isinstance(given, str):
        return f"{type(given).__name__} of {', '.join(type(item).__name__ for item in given)}"
    return type(given).__name__
