"""A store of every release is brought up to date, on every database, and nothing of it is lost."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, MetaData, create_engine, insert, select

from service.domain import Default
from service.storage import trail
from service.storage.database import LATEST_MIGRATION, Database, migrate
from service.storage.neutral import as_table, from_lines, kinds, to_line
from service.storage.sql import SqlStore
from tests.contracts.releases.make import dump
from tests.contracts.test_store import record, version
from tests.databases import KINDS, new_database

FOLDER = Path(__file__).parent / "releases"
RELEASES = sorted(FOLDER.glob("*.sql"))
MIGRATIONS = sorted(Path(migrate.__code__.co_filename).parent.glob("migrations/versions/[0-9]*.py"))


def old_store(kind: str, said: str, migration: str, folder: Path) -> URL:
    """A database with the tables of a migration, and in them what an old store held."""
    path = folder / "old.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(said)
    old_address = URL.create("sqlite", database=str(path))
    if kind == "sqlite":
        return old_address
    address = new_database(kind, folder)
    found, engine = MetaData(), create_engine(old_address)
    found.reflect(engine)
    database = Database(address, migrates=False)
    with engine.connect() as source, database.step() as step:
        migrate(step, migration)
        for table in found.sorted_tables:
            columns = kinds(table)
            rows = list(from_lines((to_line(row, columns) for row in source.execute(select(table))), columns))
            if rows and table.name != "alembic_version":
                step.execute(insert(as_table(table.name, columns)), rows)
    database.close()
    engine.dispose()
    return address


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release", [*RELEASES, None], ids=lambda path: path.stem if path else "this")
def test_a_store_of_every_release_is_brought_up_to_date(release: Path | None, kind: str, tmp_path: Path) -> None:
    """Models, points and default answer as before, and the trail is whole and as it stood; so is this release's own."""
    said = release.read_text(encoding="utf-8") if release else dump()
    address = old_store(kind, said, release.stem if release else LATEST_MIGRATION, tmp_path)
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript(said)
        told = old.execute("SELECT actor, action, model FROM audit ORDER BY id DESC").fetchall()
    database = Database(address)
    store = SqlStore(database)
    found = store.model("m")
    assert sorted(found.versions) == [1, 2]
    assert [point.label for point in found.points] == ["argmax@1", "argmax@2", "p@1", "p@2"]
    assert {point.state for point in found.points} == {"approved"}
    assert {point.model_digest for point in found.points} == {version().digest}
    assert found.point(found.versions[2], "p").point == record().point
    assert found.default == Default(1, "argmax", 1)
    assert [(entry.actor, entry.action, entry.model) for entry in store.audit(100)] == told
    assert [entry.number for entry in store.audit(100)] == list(range(len(told), 0, -1))
    store.add_point(record(), "ann")
    with database.look() as step:
        assert list(trail.faults(step)) == []
    database.close()
    Database(address).close()


def test_a_migration_that_others_stand_on_has_its_store_written_down() -> None:
    """So that a migration is never added on one that was not kept: run `python -m tests.contracts.releases.make`
    before a release is made, and before the next migration is written.
    """
    numbers = [path.name[:4] for path in MIGRATIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert numbers[-1] == LATEST_MIGRATION
    assert {path.stem for path in RELEASES} >= set(numbers[:-1])
