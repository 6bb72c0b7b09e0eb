"""What every store keeps, in one suite for all of them."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, text

from calibrate.io.description import Column, Description
from calibrate.io.model import Port
from calibrate.operating_point import OperatingPoint
from service.domain import Default, HeadInfo, Model, ModelVersion, PointRecord, classes_digest
from service.errors import StorageFailed, UnknownModel
from service.points import Asked, promote, to_alias, to_default
from service.ports import Change, Store
from service.registry import LAST
from service.storage.database import LATEST_MIGRATION, Database, sqlite_address
from service.storage.sql import SqlStore
from service.storage.tables import metadata
from tests.databases import raw

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CLASSES = ("clear", "Betrug ü")


def version(model: str = "m") -> ModelVersion:
    """A version with something in every field."""
    return ModelVersion(
        model=model,
        version=0,
        digest="a" * 64,
        graph_digest="b" * 64,
        size_bytes=5,
        inputs=(Port("x", "float32", (None, 3)), Port("s", "str", (None,))),
        classes=CLASSES,
        output="logits",
        output_kind="logits",
        head=HeadInfo("features", "logits", 7),
        prior=(0.9, 0.1),
        description=Description(CLASSES, (0.9, 0.1), (Column("age", "category", "gone", {"F": 0.0}),), ("note",)),
        created_at=NOW,
    )


def scores_version(model: str = "m") -> ModelVersion:
    """A version that is registered by its classes alone."""
    nothing: dict[str, Any] = dict.fromkeys(("graph_digest", "output", "output_kind", "head"))
    alone = replace(version(model), size_bytes=0, inputs=(), description=Description(), **nothing)
    return replace(alone, digest=classes_digest(CLASSES))


def record(name: str = "p", model_version: int = 1, bias: float = 1 / 3) -> PointRecord:
    """A point with details."""
    point = OperatingPoint(CLASSES, np.ones(2), np.array([0.0, bias]))
    return PointRecord("m", model_version, name, 0, point, {"method": "x", "evidence": {"f1": {"low": None}}}, NOW)


def promoted(reason: str) -> Callable[[Model, PointRecord], Change]:
    """What makes a point the default in the step that publishes it."""
    return lambda model, record: promote(model, record, Asked("ann", reason))


def move(store: Store, default: Default, actor: str, reason: str) -> Model:
    """Moves the default past every rule."""
    said = {"to": default.said, "reason": reason}
    return store.change("m", lambda _: Change("set default", said, default=default), actor)


@pytest.fixture
def store(address: URL) -> Iterator[SqlStore]:
    """An empty store."""
    opened = SqlStore(Database(address))
    yield opened
    opened.close()


def test_the_first_version_serves_argmax_and_a_later_one_is_staged(store: Store) -> None:
    """Versions are numbered; the default stays where it was."""
    first, second = store.add_version(version(), "ann"), store.add_version(version(), "ben")
    assert list(first.versions) == [1]
    assert list(second.versions) == [1, 2]
    assert first.default == second.default == Default(1, "argmax", 1)
    assert [point.label for point in second.points] == ["argmax@1", "argmax@2"]
    assert [point.model_version for point in second.points] == [1, 2]
    assert second.points[0].point == OperatingPoint.argmax(CLASSES)


def test_everything_comes_back_as_it_went_in(store: Store, address: URL) -> None:
    """Exactly, and also after the store was closed and opened."""
    store.add_version(version(), "ann")
    after = store.add_point(record(), "ann")
    again = SqlStore(Database(address))
    for found in (after, store.model("m"), again.model("m"), again.models()[0]):
        kept = found.versions[1]
        assert replace(kept, version=0, created_at=NOW) == version()
        point = found.point(kept, "p")
        assert (point.point, point.details, point.label) == (record().point, record().details, "p@1")
        assert point.created_at.tzinfo is not None
    again.close()


def test_points_are_numbered_by_name_across_versions(store: Store) -> None:
    """So that `name@version` means one point of the model; a bare name is the latest of its model version."""
    store.add_version(version(), "ann")
    store.add_version(version(), "ann")
    for model_version in (1, 1, 2):
        model = store.add_point(record(model_version=model_version, bias=float(model_version)), "ann")
    one, two = model.versions[1], model.versions[2]
    assert model.point(one, "p").label == "p@2"
    assert model.point(two, "p").label == "p@3"
    assert model.point(one, "p@1").label == "p@1"


def test_the_default_moves_in_one_step_and_back(store: Store) -> None:
    """Version and point together; publishing can move it too."""
    store.add_version(version(), "ann")
    store.add_version(version(), "ann")
    moved = store.add_point(record(model_version=2), "ann", then=promoted("better"))
    assert moved.default == Default(2, "p", 1)
    assert move(store, Default(1, "argmax", 1), "ben", "worse").default == Default(1, "argmax", 1)


def test_every_change_is_in_the_audit_trail(store: Store) -> None:
    """Who, what, from what, to what and why; the newest first, no more than asked for."""
    store.add_version(version(), "ann")
    store.add_point(record(), "ben", then=promoted("better"))
    entries = store.audit(10)
    assert [(entry.actor, entry.action, entry.model) for entry in entries] == [
        ("ben", "set default", "m"),
        ("ben", "publish", "m"),
        ("ann", "register", "m"),
    ]
    assert entries[0].details == {
        "operating_point": "p@1",
        "from": {"model_version": 1, "operating_point": "argmax@1"},
        "to": {"model_version": 1, "operating_point": "p@1"},
        "reason": "better",
        "evidence_digest": store.model("m").exact("p@1").evidence_digest,
        "author": "ben",
        "approved_by": None,
    }
    assert entries[1].details["digest"] == record().point.digest
    assert entries[0].at >= entries[2].at
    assert len(store.audit(1)) == 1


def test_an_unknown_model_is_named_and_nothing_changes(store: Store) -> None:
    """In every call that takes one."""
    calls: list[Callable[[], object]] = [
        lambda: store.model("m"),
        lambda: store.add_point(record(), "ann"),
        lambda: move(store, Default(1, "argmax", 1), "ann", "why"),
    ]
    for call in calls:
        with pytest.raises(UnknownModel, match="there is no model 'm'"):
            call()
    assert store.models() == []
    assert store.audit(10) == []


def test_a_default_that_does_not_exist_is_refused_and_undone(store: Store) -> None:
    """The last line of defence is the store itself; the audit entry goes with the change."""
    store.add_version(version(), "ann")
    for default in (Default(1, "nope", 1), Default(7, "argmax", 1)):
        with pytest.raises(StorageFailed):
            move(store, default, "ann", "why")
    assert store.model("m").default == Default(1, "argmax", 1)
    assert len(store.audit(10)) == 1


def test_writers_at_once_never_number_alike(store: Store) -> None:
    """Eight threads publish under one name."""
    store.add_version(version(), "ann")
    threads = [threading.Thread(target=lambda: [store.add_point(record(), "t") for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    published = [point.version for point in store.model("m").points if point.name == "p"]
    assert sorted(published) == list(range(1, 41))


def test_a_writer_that_takes_long_holds_up_no_reader(store: SqlStore, address: URL) -> None:
    """Everything can be looked up while another server is in the middle of a change, as it was before that."""
    store.add_version(version(), "ann")
    other = Database(address)
    with other.step() as step:
        step.execute(text("UPDATE models SET created_at = created_at"))
        started = time.monotonic()
        assert store.model("m") == store.models()[0]
        assert len(store.audit(10)) == 1
        store.check()
        assert time.monotonic() - started < 2
    other.close()


def test_changes_of_other_servers_are_told(store: SqlStore, address: URL) -> None:
    """By the number of the newest audit entry, and the models that changed after another one."""
    assert store.changed_since(0) == (0, set())
    other = SqlStore(Database(address))
    other.add_version(version(), "ann")
    other.add_version(version("n"), "ann")
    assert store.changed_since(0) == (2, {"m", "n"})
    assert store.changed_since(1) == (2, {"n"})
    assert store.changed_since(2) == store.changed_since(LAST) == (2, set())
    other.close()


def test_what_goes_wrong_is_told_without_the_words_of_the_library(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go to the log."""
    from sqlalchemy.exc import TimeoutError as NoConnection

    def none_left(_: object) -> None:
        raise NoConnection("QueuePool limit of size 5 overflow 10 reached")

    monkeypatch.setattr("service.storage.sql._require", lambda *_: none_left(None))
    with pytest.raises(StorageFailed, match=r"^the store did not do it; the server's log says why$"):
        store.model("m")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a change is asked for."""
    store = SqlStore(Database(sqlite_address(tmp_path / "setpoint.db")))
    store.check()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StorageFailed, match="cannot be written"):
        store.check()
    store.close()


def set_point(address: URL, what: str) -> None:
    """Changes `p@2` past the store, as somebody who owns the database may."""
    change = text(f"UPDATE operating_points SET {what} WHERE name = 'p' AND version = 2")  # noqa: S608 - of this file
    raw(address, lambda connection: connection.execute(change))


DAMAGED = {
    "other numbers": ("""point = '{"classes": ["clear", "Betrug ü"], "scale": [1, 1], "bias": [0, 9]}'""", "digest"),
    "another digest": (f"digest = '{'f' * 64}'", "digest"),
    "no point": ("point = '[]'", "must be an object, got list"),
    "another state": ("state = 'weird'", "its state must be one of draft, shadow, approved, retired, got 'weird'"),
    "details that are none": ("details = '[]'", "its details must be an object, got list"),
    "a point that is no JSON": ("point = '{broken'", "its row is damaged"),
    "details that are no JSON": ("details = ''", "its row is damaged"),
    "a time that is none": ("created_at = 'yesterday'", "its row is damaged"),
    "a version that is not there": ("model_version = 7", "there is no version 7 of its model"),
}  # fmt: skip
_SQLITE_ALONE = (
    "a point that is no JSON",
    "details that are no JSON",
    "a time that is none",
    "a version that is not there",
)


@pytest.mark.parametrize("case", DAMAGED)
def test_a_point_that_was_changed_past_the_store_does_not_answer_and_hides_no_other(
    store: SqlStore, address: URL, case: str
) -> None:
    """Neither under its label, nor under its name, its alias or as the default: nor does another in its stead."""
    change, why = DAMAGED[case]
    if case in _SQLITE_ALONE and address.get_backend_name() != "sqlite":
        pytest.skip("PostgreSQL refuses to keep it")
    store.add_version(version(), "ann")
    store.add_version(version("n"), "ann")
    for bias in (0.1 + 0.2, 5e-324, 1e-7):
        store.add_point(record(bias=bias), "ann")
    move(store, Default(1, "p", 2), "ann", "because")
    store.change("m", to_alias("live", "p@2", Asked("ann", "why")), "ann")
    whole = store.model("m")
    set_point(address, change)
    assert [model.name for model in store.models()] == ["m", "n"]
    found = store.model("m")
    first = found.versions[1]
    (broken,) = found.broken
    assert why in broken.why
    assert (broken.model, broken.label, broken.place) == ("m", "p@2", 2)
    assert [point.label for point in found.points] == ["argmax@1", "p@1", "p@3"]
    for reference in (None, "p@2", "live"):
        with pytest.raises(StorageFailed, match="stored point p@2 of model 'm' cannot be read"):
            found.point(first, reference)
    for look in (found.exact, found.find):
        with pytest.raises(StorageFailed, match="cannot be read"):
            look("p@2")
    assert found.point(first, "p").label == "p@3"
    assert found.point(first, "p@1") == whole.point(first, "p@1")
    if broken.model_version == 1:
        assert found.labels(first) == whole.labels(first) == ("argmax@1", "p@1", "p@2", "p@3")
    moved = store.change("m", to_default("p@1", Asked("ann", "the other one is broken")), "ann")
    assert moved.default.label == "p@1"
    assert store.add_point(record(), "ann").points[-1].label == "p@4"


def test_a_name_whose_latest_point_is_broken_does_not_fall_back_to_an_older_one(store: SqlStore, address: URL) -> None:
    """Unless that one would not have answered either."""
    store.add_version(version(), "ann")
    for bias in (1.0, 2.0):
        store.add_point(record(bias=bias), "ann")
    first = store.model("m").versions[1]
    set_point(address, "digest = ''")
    found = store.model("m")
    with pytest.raises(StorageFailed, match="p@2 of model 'm' cannot be read"):
        found.point(first, "p")
    with pytest.raises(StorageFailed, match="p@2 of model 'm' cannot be read"):
        found.find("p")
    set_point(address, "state = 'retired'")
    assert store.model("m").point(first, "p").label == store.model("m").find("p").label == "p@1"


@pytest.mark.parametrize("loss", ["the folder is deleted", "the file is moved", "another file is in its place"])
def test_nothing_is_written_into_a_file_that_nobody_will_read_again(tmp_path: Path, loss: str) -> None:
    """SQLite itself would acknowledge it; what is there can still be looked at, and nothing is put in its place."""
    folder = tmp_path / "data"
    file = folder / "setpoint.db"
    store = SqlStore(Database(sqlite_address(file)))
    before = store.add_version(version(), "ann")
    if loss == "the folder is deleted":
        shutil.rmtree(folder)
    else:
        file.rename(folder / "old.db")
    if loss == "another file is in its place":
        file.write_bytes((folder / "old.db").read_bytes())
    left = sorted(tmp_path.rglob("*.db"))
    for call in (lambda: store.add_point(record(), "ann"), lambda: store.add_version(version("n"), "ann"), store.check):
        with pytest.raises(StorageFailed, match="deleted, or another one put in its place"):
            call()
    assert sorted(tmp_path.rglob("*.db")) == left
    assert store.model("m") == before
    store.close()


def test_a_file_that_goes_while_a_change_is_made_undoes_it(tmp_path: Path) -> None:
    """Before it is acknowledged; when the file comes back, the next change succeeds."""
    file = tmp_path / "setpoint.db"
    store = SqlStore(Database(sqlite_address(file)))
    before = store.add_version(version(), "ann")

    def lose(_: Model) -> Change:
        file.rename(tmp_path / "old.db")
        return Change("set default", {}, default=Default(1, "argmax", 1))

    with pytest.raises(StorageFailed, match="deleted"):
        store.change("m", lose, "ann")
    (tmp_path / "old.db").rename(file)
    assert [entry.action for entry in store.audit(10)] == ["register"]
    assert store.model("m") == before
    store.add_point(record(), "ann")
    store.close()


def test_the_migrations_make_the_tables_that_the_code_uses(address: URL) -> None:
    """No difference is left for another migration, and the newest is the one that the store asks for."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    Database(address).close()
    engine = create_engine(address)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == LATEST_MIGRATION
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_servers_that_start_at_once_bring_the_tables_up_to_date_once(address: URL) -> None:
    """Under the lock of all writers; the others wait and find it done."""
    failed: list[Exception] = []

    def start() -> None:
        try:
            Database(address).close()
        except Exception as error:  # told by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_store_of_a_newer_release_is_refused_and_left_alone(address: URL) -> None:
    """An older server must not write into tables that it does not know."""
    Database(address).close()
    raw(address, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StorageFailed, match=r"newer release \(its tables are at 9999\)"):
        Database(address)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Also a folder that cannot be made."""
    (tmp_path / "setpoint.db").write_bytes(b"hello" * 1000)
    with pytest.raises(StorageFailed, match="not a database"):
        Database(sqlite_address(tmp_path / "setpoint.db"))
    assert (tmp_path / "setpoint.db").read_bytes() == b"hello" * 1000
    with pytest.raises(StorageFailed, match="cannot be made"):
        Database(sqlite_address(tmp_path / "setpoint.db" / "sub" / "setpoint.db"))


def test_a_version_without_a_file_is_kept_as_it_is(store: Store) -> None:
    """By its classes alone, beside one of a file."""
    alone, digest = scores_version(), classes_digest(CLASSES)
    store.add_version(version(), "ann")
    kept = store.add_version(alone, "ann").versions[2]
    assert kept == replace(alone, version=2, created_at=kept.created_at)
    assert (kept.kind, store.model("m").versions[1].kind) == ("scores", "onnx")
    assert [point.model_digest for point in store.model("m").points] == ["a" * 64, digest]
