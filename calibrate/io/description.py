"""What a model says of itself in its ONNX metadata: classes, training prior, and how to write a row for it.

An ONNX input is a bare tensor; whoever sends rows must know which column is which, what its codes mean and what becomes
of a missing value. The trainer knows, so it writes that down beside the weights, under the metadata key `setpoint`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from calibrate.errors import BadModel

KEY = "setpoint"
_MALFORMED = (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError)


@dataclass(frozen=True)
class Column:
    """One column of the input: a number, or a category with its `codes`; `missing` says what null becomes."""

    name: str
    kind: Literal["number", "category"]
    missing: str
    codes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """Classes in the order of the logits, the training prior, the input's columns, and decisions worth knowing."""

    classes: tuple[str, ...] | None = None
    prior: tuple[float, ...] | None = None
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()

    def to_metadata(self) -> dict[str, str]:
        """The entry to put into a model's metadata."""
        return {KEY: json.dumps(asdict(self), ensure_ascii=False)}


def read_description(metadata: Mapping[str, str]) -> Description:
    """The description in a model's metadata, empty where there is none. Raises: `BadModel`."""
    if KEY not in metadata:
        return Description()
    try:
        value = json.loads(metadata[KEY])
        description = Description(
            classes=None if value.get("classes") is None else tuple(_text(name) for name in _list(value["classes"])),
            prior=None if value.get("prior") is None else tuple(_number(share) for share in _list(value["prior"])),
            columns=tuple(_column(column) for column in _list(value.get("columns", []))),
            notes=tuple(_text(note) for note in _list(value.get("notes", []))),
        )
    except _MALFORMED as error:
        raise BadModel(f"the model's metadata entry '{KEY}' is malformed: {error}") from None
    return description


def read_columns(value: Any) -> tuple[Column, ...]:
    """The columns of a JSON list: names alone, or objects with `name`, `kind`, `missing` and `codes`.

    Raises: `BadModel`.
    """
    try:
        return tuple(_column(column) for column in _list(value))
    except _MALFORMED as error:
        raise BadModel(f"columns must be a list of names, or of objects that describe columns: {error}") from None


def _column(value: Any) -> Column:
    if isinstance(value, str):
        return Column(_text(value), "number", "")
    codes = {_text(name): _number(code) for name, code in value.get("codes", {}).items()}
    kind = value.get("kind", "category" if codes else "number")
    if kind not in ("number", "category"):
        raise ValueError(f"kind of column {value['name']!r} must be number or category, got {kind!r}")
    return Column(_text(value["name"]), kind, _text(value.get("missing", "")), codes)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"wanted a list, got {value!r}"[:200])
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted a text, got {value!r}")
    value.encode()  # raises where half a surrogate pair is no text
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError(f"wanted a finite number, got {value!r}")
    return float(value)
