"""Rows that one damaged row does not hide.

A database holds what its owner writes into it: text that is no JSON, a time that is none. Decoding stops at the first
such row and takes the whole query along. So a query that fails is asked again row by row, and what cannot be decoded
comes as the database has it, to be told of. Where every row is whole that costs nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, String, Table, type_coerce

CANNOT_BE_DECODED = (ValueError, TypeError)  # JSON, and times


@dataclass(frozen=True)
class Undecoded:
    """A row as it lies in the database, with its columns' names, and what is wrong with it."""

    raw: Row[Any]
    why: str


def read_rows(step: Connection, table: Table, wanted: Select[Any]) -> Iterator[Row[Any] | Undecoded]:
    """The rows of a query for whole rows of one table, in its order."""
    try:
        found = step.execute(wanted).all()
    except CANNOT_BE_DECODED:
        yield from _one_by_one(step, table, wanted)
    else:
        yield from found


def _one_by_one(step: Connection, table: Table, wanted: Select[Any]) -> Iterator[Row[Any] | Undecoded]:
    keys = table.primary_key.columns
    plain: list[Any] = [type_coerce(column, String).label(column.name) for column in table.columns]
    for key in step.execute(wanted.with_only_columns(*keys)).all():
        this = [column == value for column, value in zip(keys, key, strict=True)]
        try:
            yield step.execute(wanted.where(*this)).one()
        except CANNOT_BE_DECODED as error:
            raw = step.execute(wanted.with_only_columns(*plain).where(*this)).one()
            yield Undecoded(raw, str(error))
