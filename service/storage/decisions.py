"""The decision log in the store: added in batches, read in the order it was made, bounded by its length."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select

from service.domain import Decision, DecisionPage
from service.storage.database import Database
from service.storage.tables import decisions
from service.storage.times import utc

_PAGE = 5000
_FIELDS = [column for column in decisions.c if column.name != "id"]


class SqlDecisions:
    """The decision log of a database. Raises: `StorageFailed` from every method."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entries: Iterable[Decision], most_rows: int) -> None:
        """Keeps entries, all or none, and asks for them once it has begun; the oldest beyond `most_rows` go."""
        with self._database.step() as step:
            waiting = iter(entries)
            while part := [vars(entry) for entry in islice(waiting, _PAGE)]:
                step.execute(insert(decisions), part)
            last = step.scalar(select(func.max(decisions.c.id))) or 0
            step.execute(delete(decisions).where(decisions.c.id <= last - most_rows))

    def of_request(self, page: DecisionPage, models: frozenset[str] | None) -> list[tuple[int, Decision]]:
        """Entries of a request with their numbers, row by row, of these models alone where they are told.

        Callers choose the names of their requests, so several may have entries for the same row of the same name.
        """
        row, number = decisions.c.row, decisions.c.id
        begins = or_(row > page.first_row, and_(row == page.first_row, number > page.after))
        wanted = (
            select(decisions)
            .where(decisions.c.request_id == page.request_id, begins)
            .order_by(row, number)
            .limit(page.limit)
        )
        if page.principal is not None:
            wanted = wanted.where(decisions.c.principal == page.principal)
        if models is not None:
            wanted = wanted.where(decisions.c.model.in_(models))
        with self._database.look() as look:
            return [(found.id, _decision(found)) for found in look.execute(wanted)]

    def between(self, start: datetime | None, end: datetime | None) -> Iterator[Decision]:
        """Every entry from a time to before another, in the order they were kept; what is added meanwhile may be in."""
        bounds: list[ColumnElement[bool]] = []
        if start is not None:
            bounds.append(decisions.c.at >= start)
        if end is not None:
            bounds.append(decisions.c.at < end)
        after = 0
        while True:
            with self._database.look() as look:
                page = look.execute(
                    select(decisions).where(decisions.c.id > after, *bounds).order_by(decisions.c.id).limit(_PAGE)
                ).all()
            yield from map(_decision, page)
            if len(page) < _PAGE:
                return
            after = page[-1].id


def _decision(row: Any) -> Decision:
    fields = {column.name: getattr(row, column.name) for column in _FIELDS}
    return Decision(**{**fields, "at": utc(row.at)})
