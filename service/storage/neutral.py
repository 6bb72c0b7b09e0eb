"""Rows as lines of JSON that say nothing of the database they came from, so that any other one can take them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Float, Integer, String, Table, TableClause, column, table
from sqlalchemy.types import TypeEngine

Kind = Literal["text", "integer", "float", "boolean", "time", "json"]

_TYPES: dict[Kind, TypeEngine[Any]] = {
    "time": DateTime(timezone=True),
    "json": JSON(none_as_null=True),
    "boolean": Boolean(),
    "float": Float(),
    "integer": Integer(),
    "text": String(),
}
_PLAIN: dict[Kind, type] = {"text": str, "integer": int, "boolean": bool, "float": float}


def kinds(of: Table) -> dict[str, Kind]:
    """What the columns of a table hold, in their order."""
    return {str(each.name): _kind(each.type) for each in of.columns}


def as_table(name: str, columns: Mapping[str, Kind]) -> TableClause:
    """A table to insert into, made of what its columns hold."""
    wide = {**_TYPES, "integer": BigInteger()}  # a driver that is told INTEGER takes no larger number
    return table(name, *(column(each, wide[kind]) for each, kind in columns.items()))


def to_line(row: Sequence[Any], columns: Mapping[str, Kind]) -> bytes:
    """A row as one line: a JSON list in the order of the columns; times in UTC, to the microsecond."""
    return orjson.dumps([_to_json(value, kind) for value, kind in zip(row, columns.values(), strict=True)]) + b"\n"


def raw_line(row: Sequence[Any], columns: Mapping[str, Kind]) -> bytes:
    """A row of SQLite that could not be decoded as one line: what cannot be is the text that lies there."""
    values = (_decoded(value, kind) for value, kind in zip(row, columns.values(), strict=True))
    return orjson.dumps(list(values), default=repr) + b"\n"


def from_lines(lines: Iterator[bytes], columns: Mapping[str, Kind]) -> Iterator[dict[str, Any]]:
    """Rows by column. Raises: `ValueError` naming the line where one is not what `to_line` writes."""
    for number, line in enumerate(lines, start=1):
        try:
            values = orjson.loads(line)
            if not isinstance(values, list) or len(values) != len(columns):
                raise ValueError(f"wanted a list of {len(columns)} values")
            yield {name: _from_json(value, kind) for (name, kind), value in zip(columns.items(), values, strict=True)}
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from None


def _kind(of: TypeEngine[Any]) -> Kind:
    return next(name for name, kind in _TYPES.items() if isinstance(of, type(kind)))


def _decoded(value: Any, kind: Kind) -> Any:
    try:
        if kind == "json" and value is not None:
            return orjson.loads(value)
        if kind == "time" and value is not None:
            return _to_json(datetime.fromisoformat(value), kind)
    except (ValueError, TypeError):
        return value
    return bool(value) if kind == "boolean" and value in (0, 1) else value


def _to_json(value: Any, kind: Kind) -> Any:
    if kind == "time" and value is not None:
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if kind == "float" and value is not None and not math.isfinite(value):
        return str(value)
    return value


def _from_json(value: Any, kind: Kind) -> Any:
    if value is None or kind == "json":
        return value
    if kind == "time":
        return datetime.fromisoformat(value).astimezone(UTC)
    if kind == "float":
        return float(value)
    if not isinstance(value, _PLAIN[kind]):
        raise ValueError(f"wanted {kind}, got {type(value).__name__}")
    return value
