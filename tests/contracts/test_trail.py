"""The audit trail is whole, or says where it is not, on every database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Connection, text

from service.domain import Default
from service.errors import StorageFailed
from service.storage import trail
from service.storage.database import Database
from service.storage.sql import SqlStore
from service.storage.trail import Head
from tests.contracts.test_store import move, promoted, record, version
from tests.databases import raw


@pytest.fixture
def database(address: URL) -> Iterator[Database]:
    """A database with a trail of five entries."""
    opened = Database(address)
    store = SqlStore(opened)
    store.add_version(version(), "ann")
    store.add_point(record(bias=0.1 + 0.2), "ben ü")
    store.add_point(record(bias=1e-7), "ben", then=promoted("better"))
    move(store, Default(1, "argmax", 1), "ann", 'back "again"')
    yield opened
    opened.close()


def faults(database: Database, kept: Head | None = None) -> list[str]:
    """What is wrong with the trail."""
    with database.look() as step:
        return list(trail.faults(step, kept))


def head(database: Database) -> Head:
    """The newest entry."""
    with database.look() as step:
        return trail.head(step)


def unlocked(address: URL, *changes: str) -> None:
    """Changes the trail as somebody would who owns the database, past its triggers."""

    def run(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER audit_no_update"))
            connection.execute(text("DROP TRIGGER audit_no_delete"))
        else:
            connection.execute(text("DROP TRIGGER audit_append_only ON audit"))
        for change in changes:
            connection.execute(text(change))

    raw(address, run)


def test_a_trail_is_whole_and_leads_through_every_head_that_was_kept(database: Database) -> None:
    """Also after more was written."""
    kept = head(database)
    assert kept.number == 5
    assert faults(database) == faults(database, kept) == faults(database, Head(0, trail.START)) == []
    SqlStore(database).add_version(version("n"), "ann")
    assert head(database).number == 6
    assert faults(database, kept) == []


@pytest.mark.parametrize(
    "change", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "DELETE FROM audit WHERE id = 5"]
)
def test_the_database_itself_refuses_to_change_the_trail(database: Database, change: str) -> None:
    """Through the service's own connection."""
    with pytest.raises(StorageFailed), database.step() as step:
        step.execute(text(change))
    assert faults(database) == []
    assert head(database).number == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE id = 2", "entry 2 was changed"),
        ("UPDATE audit SET details = '{}' WHERE id = 5", "entry 5 was changed"),
        ("UPDATE audit SET at = '2020-01-01 00:00:00.000000' WHERE id = 1", "entry 1 was changed"),
        ("DELETE FROM audit WHERE id = 3", "entry 3 is missing"),
        ("DELETE FROM audit WHERE id = 1", "entry 1 is missing"),
        ("UPDATE audit SET id = 9 WHERE id = 5", "entry 5 is missing"),
    ],
)
def test_what_was_done_past_the_database_is_told_with_its_entry(
    database: Database, address: URL, change: str, said: str
) -> None:
    """A changed entry, one taken away, one put elsewhere."""
    unlocked(address, change)
    assert said in "; ".join(faults(database))


def test_a_trail_that_was_cut_off_or_written_anew_is_told_by_a_head_that_was_kept(
    database: Database, address: URL
) -> None:
    """Such a trail is whole in itself: nothing in the database can give it away."""
    kept = head(database)
    unlocked(address, "DELETE FROM audit WHERE id = 5")
    assert faults(database) == []
    assert faults(database, kept) == ["the trail was cut off: it had 5 entries, and has 4"]
    move(SqlStore(database), Default(1, "p", 1), "eve", "another story")
    assert faults(database) == []
    assert "entry 5 was rewritten" in faults(database, kept)[0]


UNREADABLE = {
    "details that are no JSON": ("details = '{broken'", "unexpected character"),
    "a time that is none": ("at = 'yesterday'", "Invalid isoformat string: 'yesterday'"),
    "details that are no object": ("details = '[]'", "its details must be an object, got list"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_entry_that_cannot_be_read_is_told_and_hides_none_beside_it(
    database: Database, address: URL, case: str
) -> None:
    """By the check, the export and the pages alike; what is wrong elsewhere is told too."""
    change, why = UNREADABLE[case]
    if address.get_backend_name() != "sqlite" and "no object" not in case:
        pytest.skip("PostgreSQL refuses to keep it")
    kept = head(database)
    unlocked(
        address,
        f"UPDATE audit SET {change} WHERE id = 3",  # noqa: S608 - of this file
        "UPDATE audit SET actor = 'eve' WHERE id = 5",
    )
    first, second = faults(database, kept)
    assert first.startswith("entry 3 cannot be read: ")
    assert why in first
    assert second.startswith("entry 5 was changed")
    with database.look() as step:
        lines = list(trail.exported(step))
        pages = trail.newest(step, 10)
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert why in lines[2]["unreadable"]
    assert lines[2]["raw"]["hash"] == lines[3]["previous"]
    assert [(entry.number, trail.UNREADABLE in entry.details) for entry in pages] == [
        (5, False), (4, False), (3, True), (2, False), (1, False),
    ]  # fmt: skip
    assert (pages[2].actor, pages[2].action) == ("ben", "publish")
    SqlStore(database).add_version(version("n"), "ann")
    assert faults(database) == [first, second]
