"""What every decision log keeps, in one suite for all of them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from service.domain import Decision, DecisionPage
from service.errors import StorageFailed
from service.storage.database import Database
from service.storage.decisions import SqlDecisions
from tests.databases import KINDS, new_database

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    opened = Database(new_database(request.param, tmp_path))
    yield opened
    opened.close()


def decision(row: int, request_id: str = "r", model: str = "m", minutes: int = 0) -> Decision:
    """An entry with something in every field."""
    at = NOW + timedelta(minutes=minutes)
    label, margin = ("Betrug ü", 1 / 3) if row % 2 else ("klar", None)
    return Decision(request_id, row, at, model, 1, "a" * 64, "p@1", "b" * 64, label, margin, "triage", "c" * 64)


def test_what_was_kept_comes_back_by_request(database: Database) -> None:
    """Field for field, from a row on, at most so many, and of the models that one may see."""
    log = SqlDecisions(database)
    log.add([decision(i) for i in range(5)], 100)
    log.add([decision(0, "other"), decision(5, model="n")], 100)
    assert said(log, DecisionPage("r")) == [*(decision(i) for i in range(5)), decision(5, model="n")]
    assert said(log, DecisionPage("r", 3, limit=2)) == [decision(3), decision(4)]
    assert said(log, DecisionPage("r"), frozenset({"n"})) == [decision(5, model="n")]
    assert said(log, DecisionPage("r"), frozenset()) == []
    assert said(log, DecisionPage("nope")) == []


def test_every_entry_is_reached_page_by_page(database: Database) -> None:
    """Though several callers gave their requests the same name, and rows of theirs the same numbers."""
    log = SqlDecisions(database)
    callers = [[replace(decision(i), principal=name) for i in range(7)] for name in ("a", "b", "c")]
    for entries in callers:
        log.add(entries, 100)
    for limit in (1, 2, 4, 100):
        page, found = DecisionPage("r", limit=limit), []
        while got := log.of_request(page, None):
            found += [each for _, each in got]
            page = replace(page, first_row=got[-1][1].row, after=got[-1][0])
        assert found == [entries[i] for i in range(7) for entries in callers]
    assert said(log, DecisionPage("r", 5, principal="b")) == callers[1][5:]


def said(log: SqlDecisions, page: DecisionPage, models: frozenset[str] | None = None) -> list[Decision]:
    """The entries of a page, without their numbers."""
    return [each for _, each in log.of_request(page, models)]


def test_the_oldest_make_room(database: Database) -> None:
    """As many as are told stay."""
    log = SqlDecisions(database)
    for i in range(10):
        log.add([decision(i), replace(decision(i), request_id="s")], 6)
    assert [(each.request_id, each.row) for each in log.between(None, None)] == [
        (request, row) for row in (7, 8, 9) for request in ("r", "s")
    ]


def test_between_two_moments(database: Database) -> None:
    """From the first on, before the second, in any zone; longer than a page."""
    log = SqlDecisions(database)
    log.add([decision(i, minutes=i % 60) for i in range(12_000)], 10**6)
    assert sum(1 for _ in log.between(None, None)) == 12_000
    start, end = NOW + timedelta(minutes=10), NOW + timedelta(minutes=12)
    found = list(log.between(start, end.astimezone()))
    assert {each.at for each in found} == {start, start + timedelta(minutes=1)}
    assert len(found) == 400
    assert list(log.between(end, start)) == []


def test_a_store_that_fails_says_so(database: Database) -> None:
    """All of a batch or none of it."""
    log = SqlDecisions(database)
    with pytest.raises(StorageFailed):
        log.add([decision(0), replace(decision(1), request_id=None)], 100)  # type: ignore[arg-type]
    assert list(log.between(None, None)) == []
    with database.step() as step:
        step.execute(text("ALTER TABLE decisions RENAME TO gone"))
    for call in (lambda: log.add([decision(0)], 1), lambda: log.of_request(DecisionPage("r"), None)):
        with pytest.raises(StorageFailed):
            call()
