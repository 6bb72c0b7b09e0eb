"""A backup holds everything and is restored whole, into either database, or is refused."""

import io
import json
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, insert, select, text

from calibrate.operating_point import OperatingPoint
from service.domain import Default
from service.errors import StorageFailed
from service.registry import LAST
from service.storage import trail
from service.storage.artifacts import FolderArtifacts
from service.storage.backup import write_backup
from service.storage.database import Database
from service.storage.opening import open_empty
from service.storage.restore import read_manifest, restore_backup
from service.storage.sql import SqlStore
from service.storage.tables import aliases, decisions, jobs, keys, metadata, shadow_counts
from tests.contracts.test_store import NOW, promoted, record, scores_version, version
from tests.databases import KINDS, new_database, raw

FILES = [b"a model", b"its graph", b"rows of a job"]


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    """Where the files of the store are."""
    return FolderArtifacts(tmp_path / "artifacts")


@pytest.fixture
def database(address: URL, artifacts: FolderArtifacts) -> Iterator[Database]:
    """A store with rows in every table."""
    opened = Database(address)
    fill(opened, artifacts)
    yield opened
    opened.close()


def fill(database: Database, artifacts: FolderArtifacts) -> None:
    """Puts something into every table, with awkward values."""
    digest, graph, rows = (artifacts.put(data) for data in FILES)
    store = SqlStore(database)
    store.add_version(replace(version(), digest=digest, graph_digest=graph), "ann ü")
    store.add_point(record(bias=0.1 + 0.2), "ben")
    store.add_point(record(bias=5e-324), "ben", then=promoted('better "so"\n'))
    with database.step() as step:
        step.execute(insert(aliases).values(model="m", alias="live", point="p", point_version=2))
        counted = {"hour": NOW, "answered_by": "p@2", "answered": 0, "would": 1, "rows": 2**40}
        step.execute(insert(shadow_counts).values(model="m", shadow="p@1", **counted))
        step.execute(
            insert(keys).values(
                id="k1", name="ward", hash="f" * 64, scopes=["predict"], models=None, created_at=NOW, created_by="ann"
            )
        )
        done: dict[str, Any] = {
            "kind": "calibrate",
            "state": "done",
            "model": "m",
            "principal": "ann",
            "request_digest": "1" * 64,
        }
        done |= {"spec": {"metric": "f1"}, "created_at": NOW, "attempts": 1, "cancel_asked": False}
        step.execute(insert(jobs).values(id="j1", data_digest=rows, result={"low": 1 / 3, "n": None}, **done))
        step.execute(insert(jobs).values(id="j2", data_digest="9" * 64, error={"why": "\u2028"}, **done))
        said: dict[str, Any] = {
            "request_id": "r",
            "row": 0,
            "at": NOW,
            "model": "m",
            "model_version": 1,
            "model_digest": digest,
        }
        said |= {"point": "p@2", "point_digest": "2" * 64, "label": "Betrug ü", "principal": "a", "input_digest": "3"}
        for margin in (1 / 3, None, -1e-300):
            step.execute(insert(decisions).values(margin=margin, **said))


def content(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, as the code reads it."""
    with database.look() as step:
        return {
            table.name: [
                tuple(trail._utc(value) if hasattr(value, "tzinfo") else value for value in row)
                for row in step.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


@pytest.mark.parametrize("into", KINDS)
def test_what_was_backed_up_is_restored_into_either_database(
    database: Database, artifacts: FolderArtifacts, tmp_path: Path, into: str
) -> None:
    """Every row of every table, every file, the trail; and the restored store works on."""
    out = tmp_path / "a.tar"
    made = write_backup(database, artifacts, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert all(content(database).values()), "a table without rows shows nothing"
    (tmp_path / "there").mkdir()
    there = open_empty_at(new_database(into, tmp_path / "there"))
    files = FolderArtifacts(tmp_path / "there" / "artifacts")
    assert restore_backup(out, there, files) == read_manifest(out) == made
    assert content(there) == content(database)
    assert [files.get(digest) for digest in made.artifacts] == [artifacts.get(digest) for digest in made.artifacts]
    assert len(made.artifacts) == 2, "the rows of a job are none of it"
    store = SqlStore(there)
    assert store.models() == SqlStore(database).models()
    store.add_point(record(), "ann")
    with there.step() as step:
        row = dict(step.execute(select(decisions).limit(1)).mappings().one())
        del row["id"]
        step.execute(insert(decisions).values(**row))
    with there.look() as step:
        assert list(trail.faults(step, made.audit_head)) == []
    there.close()


def open_empty_at(address: URL) -> Database:
    """A database as `setpoint restore` opens it."""
    if address.get_backend_name() == "sqlite":
        return open_empty(None, Path(str(address.database)).parent)
    return open_empty(address.render_as_string(hide_password=False), Path())


def test_a_backup_while_others_write_is_of_one_moment(
    database: Database, artifacts: FolderArtifacts, address: URL, tmp_path: Path
) -> None:
    """Points, default and trail agree in it, however the writers go on meanwhile."""
    stop = threading.Event()

    def write() -> None:
        store = SqlStore(Database(address))
        while not stop.is_set():
            store.add_point(record(), "busy", then=promoted("again"))
        store.close()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        made = []
        for number in range(3):
            made.append(write_backup(database, artifacts, tmp_path / f"{number}.tar"))
            while SqlStore(database).changed_since(LAST)[0] == made[-1].audit_head.number:
                time.sleep(0.01)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert made[0].audit_head.number < made[2].audit_head.number
    for number in range(3):
        (tmp_path / f"to{number}").mkdir()
        there = open_empty(None, tmp_path / f"to{number}")
        restore_backup(tmp_path / f"{number}.tar", there, FolderArtifacts(tmp_path / f"to{number}" / "artifacts"))
        model = SqlStore(there).model("m")
        newest = max(point.version for point in model.points if point.name == "p")
        assert model.default == Default(1, "p", newest)
        assert SqlStore(there).audit(1)[0].details["to"]["operating_point"] == f"p@{newest}"
        there.close()


def test_a_backup_that_cannot_be_made_leaves_nothing(
    database: Database, artifacts: FolderArtifacts, tmp_path: Path
) -> None:
    """A model file that is gone, a name that is taken, a folder that is not there."""
    out = tmp_path / "out" / "a.tar"
    with pytest.raises(StorageFailed, match="could not be written"):
        write_backup(database, artifacts, out)
    out.parent.mkdir()
    with pytest.raises(StorageFailed, match="could not be read"):
        write_backup(database, FolderArtifacts(tmp_path / "empty"), out)
    assert list(out.parent.iterdir()) == []
    out.write_text("mine")
    with pytest.raises(StorageFailed, match="is there already"):
        write_backup(database, artifacts, out)
    assert out.read_text() == "mine"


def test_a_store_that_holds_something_is_not_restored_into(
    database: Database, artifacts: FolderArtifacts, address: URL, tmp_path: Path
) -> None:
    """Also not where it was opened before it was filled."""
    write_backup(database, artifacts, tmp_path / "a.tar")
    before = content(database)
    with pytest.raises(StorageFailed, match="is not empty"):
        open_empty_at(address)
    with pytest.raises(StorageFailed, match="is not empty"):
        restore_backup(tmp_path / "a.tar", database, artifacts)
    assert content(database) == before


def test_a_trail_that_was_tampered_with_is_backed_up_as_it_is_and_says_so(
    database: Database, artifacts: FolderArtifacts, address: URL, tmp_path: Path
) -> None:
    """A backup must not become impossible by it, nor hide it."""

    def tamper(connection: Any) -> None:
        name = "audit_no_update" if connection.dialect.name == "sqlite" else "audit_append_only ON audit"
        connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE audit SET actor = 'eve' WHERE id = 2"))

    raw(address, tamper)
    made = write_backup(database, artifacts, tmp_path / "a.tar")
    assert made.audit_faults == ["entry 2 was changed: its content does not have its hash"]
    (tmp_path / "there").mkdir()
    there = open_empty(None, tmp_path / "there")
    assert restore_backup(tmp_path / "a.tar", there, artifacts).audit_faults == made.audit_faults
    there.close()


def test_a_store_with_a_damaged_point_and_entry_is_backed_up_as_it_is_and_restored_saying_so(
    database: Database, artifacts: FolderArtifacts, address: URL, tmp_path: Path
) -> None:
    """What cannot be read there cannot be here either; all else is as it was."""
    is_sqlite = address.get_backend_name() == "sqlite"

    def damage(connection: Any) -> None:
        name = "audit_no_update" if is_sqlite else "audit_append_only ON audit"
        connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE audit SET details = :it WHERE id = 2"), {"it": "{broken" if is_sqlite else "5"})
        connection.execute(text("UPDATE operating_points SET digest = 'x' WHERE version = 2 AND name = 'p'"))
        if is_sqlite:
            connection.execute(text("UPDATE operating_points SET point = '{broken' WHERE version = 1 AND name = 'p'"))
            connection.execute(text("UPDATE jobs SET spec = '{broken'"))

    raw(address, damage)
    made = write_backup(database, artifacts, tmp_path / "a.tar")
    assert [fault.split(":")[0] for fault in made.audit_faults] == ["entry 2 cannot be read"]
    assert [fault.split(":")[0] for fault in made.point_faults] == [
        f"the point p@{number} of model 'm'" for number in ((1, 2) if is_sqlite else (2,))
    ]
    assert made.unrestorable == []
    (tmp_path / "there").mkdir()
    there = open_empty(None, tmp_path / "there")
    assert restore_backup(tmp_path / "a.tar", there, artifacts) == made
    before, after = SqlStore(database).model("m"), SqlStore(there).model("m")
    assert [broken.label for broken in after.broken] == [broken.label for broken in before.broken]
    assert after.points == before.points
    there.close()


def test_a_row_that_no_database_could_hold_is_in_the_backup_which_says_that_it_is_not_restored(
    artifacts: FolderArtifacts, tmp_path: Path
) -> None:
    """SQLite alone keeps such a thing; the restore says the same, and leaves nothing."""
    address = new_database("sqlite", tmp_path)
    database = Database(address)
    fill(database, artifacts)
    raw(address, lambda connection: connection.execute(text("UPDATE keys SET created_at = 'yesterday'")))
    (said,) = write_backup(database, artifacts, tmp_path / "a.tar").unrestorable
    database.close()
    assert said == "table 'keys', row 1: Invalid isoformat string: 'yesterday'"
    there = open_empty(None, tmp_path / "there")
    with pytest.raises(StorageFailed, match="table 'keys', line 1: Invalid isoformat string: 'yesterday'"):
        restore_backup(tmp_path / "a.tar", there, artifacts)
    there.close()
    open_empty(None, tmp_path / "there").close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of a small store."""
    folder = tmp_path_factory.mktemp("whole")
    database, artifacts = Database(new_database("sqlite", folder)), FolderArtifacts(folder / "artifacts")
    fill(database, artifacts)
    write_backup(database, artifacts, folder / "a.tar")
    database.close()
    return (folder / "a.tar").read_bytes()


Members = list[tuple[tarfile.TarInfo, bytes]]


def remade(data: bytes, change: Callable[[Members], object]) -> bytes:
    """The backup with its members changed."""
    members: Members = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            members.append((member, content.read()))
    change(members)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for member, inside in members:
            member.size = len(inside) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(inside))
    return made.getvalue()


def put_first(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", inside: bytes = b"x"
) -> Callable[[Members], None]:
    """Adds a member in front."""

    def change(members: Members) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        members.insert(0, (member, inside))

    return change


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Members], None]:
    """Changes what the manifest says."""

    def run(members: Members) -> None:
        said = json.loads(members[-1][1])
        change(said)
        members[-1] = (members[-1][0], json.dumps(said).encode())

    return run


def rewritten(table: str, change: Callable[[bytes], bytes]) -> Callable[[Members], None]:
    """Changes the lines of a table, and the manifest with it, as one would who means harm."""
    import hashlib

    def run(members: Members) -> None:
        for index, (member, inside) in enumerate(members):
            if member.name == f"tables/{table}.jsonl":
                members[index] = (member, change(inside))
                digest = hashlib.sha256(change(inside)).hexdigest()
        with_manifest(lambda said: [each.update(sha256=digest) for each in said["tables"] if each["name"] == table])(
            members
        )

    return run


HARMFUL: dict[str, tuple[Callable[[Members], object], str]] = {
    "a path upwards": (put_first("../../etc/passwd"), "has no place"),
    "an absolute path": (put_first("/etc/passwd"), "has no place"),
    "a path within": (put_first("artifacts/../../x"), "has no place"),
    "a link": (put_first("tables/a.jsonl", tarfile.SYMTYPE, "/etc/passwd"), "no plain file"),
    "a hard link": (put_first("tables/a.jsonl", tarfile.LNKTYPE, "tables/keys.jsonl"), "no plain file"),
    "a device": (put_first("tables/a.jsonl", tarfile.CHRTYPE), "no plain file"),
    "a pipe": (put_first("tables/a.jsonl", tarfile.FIFOTYPE), "no plain file"),
    "a folder": (put_first("artifacts", tarfile.DIRTYPE), "has no place"),
    "something that is twice": (lambda members: members.insert(0, members[0]), "there twice"),
    "something unknown": (put_first("tables/more.jsonl"), "do not agree on tables/more.jsonl"),
    "a file that is gone": (lambda members: members.pop(0), "do not agree on tables/"),
    "no manifest": (lambda members: members.pop(), "no manifest"),
    "something behind the manifest": (lambda members: members.append(members.pop(0)), "after the manifest"),
    "a changed row": (
        lambda members: members.__setitem__(0, (members[0][0], members[0][1].replace(b"1", b"2"))),
        "does not have its digest",
    ),
    "a manifest of nothing": (with_manifest(dict.clear), "manifest cannot be read"),
    "a manifest that is deep": (
        lambda members: members.__setitem__(-1, (members[-1][0], b"[" * 10**6)),
        "manifest cannot be read",
    ),
    "a newer release": (with_manifest(lambda said: said.update(migration="9999")), "newer release"),
    "another format": (with_manifest(lambda said: said.update(format_version=2)), "newer release"),
    "a migration of no release": (with_manifest(lambda said: said.update(migration="0001x")), "no migration '0001x'"),
    "another head": (with_manifest(lambda said: said["audit_head"].update(number=2)), "does not end where"),
    "another column": (
        with_manifest(lambda said: said["tables"][0]["columns"].update({"x; DROP TABLE keys": "text"})),
        "has not the columns",
    ),
    "an entry that was rewritten": (
        rewritten("audit", lambda lines: lines.replace(b"ben", b"eve")),
        "the audit trail is not whole",
    ),
    "a point that was rewritten": (
        rewritten("operating_points", lambda lines: lines.replace(b"0.30000000000000004", b"0.3")),
        "p@1 of model 'm': it does not have its digest",
    ),
    "a line that is no row": (rewritten("keys", lambda _: b"[1,2]\n"), "table 'keys', line 1: wanted a list of 9"),
    "a value of another kind": (
        rewritten("keys", lambda lines: lines.replace(b'"ward"', b"7")),
        "line 1: wanted text, got int",
    ),
    "a row that is left out": (rewritten("decisions", lambda lines: lines.split(b"\n", 1)[1]), "has 2 rows"),
    "rows of nothing": (rewritten("models", lambda lines: lines.replace(b'"m"', b'"n"')), "the store did not do it"),
}  # fmt: skip


@pytest.mark.parametrize("case", HARMFUL)
def test_a_file_that_is_no_whole_backup_restores_nothing(case: str, whole: bytes, tmp_path: Path) -> None:
    """It says what is wrong in one line; nothing is written beside the store, and that stays empty."""
    change, said = HARMFUL[case]
    file = tmp_path / "a.tar"
    file.write_bytes(remade(whole, change))
    there = open_empty(None, tmp_path / "there")
    with pytest.raises(StorageFailed, match=said) as failure:
        restore_backup(file, there, FolderArtifacts(tmp_path / "there" / "artifacts"))
    assert "\n" not in str(failure.value)
    there.close()
    open_empty(None, tmp_path / "there").close()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "there"}


def test_a_backup_that_was_cut_off_or_is_something_else_is_refused(whole: bytes, tmp_path: Path) -> None:
    """Anywhere; compressed ones too, which could grow without bounds."""
    import gzip

    file = tmp_path / "a.tar"
    end = len(whole.rstrip(b"\0"))
    for data in (
        *(whole[: end * part // 7] for part in range(7)),
        whole[: end - 1],
        gzip.compress(whole),
        b"hello" * 1000,
    ):
        file.write_bytes(data)
        with pytest.raises(StorageFailed, match="is no whole backup"):
            read_manifest(file)
    with pytest.raises(StorageFailed, match="could not be read"):
        read_manifest(tmp_path / "none.tar")


def test_points_come_back_bit_for_bit(whole: bytes, tmp_path: Path) -> None:
    """So that they decide alike."""
    (tmp_path / "a.tar").write_bytes(whole)
    there = open_empty(None, tmp_path / "there")
    restore_backup(tmp_path / "a.tar", there, FolderArtifacts(tmp_path / "artifacts"))
    points = [point.point for point in SqlStore(there).model("m").points]
    expected = [OperatingPoint.argmax(version().classes), record(bias=0.1 + 0.2).point, record(bias=5e-324).point]
    assert [point.digest for point in points] == [point.digest for point in expected]
    there.close()


def test_a_model_without_a_file_is_restored(database: Database, artifacts: FolderArtifacts, tmp_path: Path) -> None:
    """One that is registered by its classes alone needs no file in the backup."""
    SqlStore(database).add_version(scores_version("s"), "ann")
    made = write_backup(database, artifacts, tmp_path / "a.tar")
    assert len(made.artifacts) == 2
    (tmp_path / "there").mkdir()
    there = open_empty(None, tmp_path / "there")
    restore_backup(tmp_path / "a.tar", there, FolderArtifacts(tmp_path / "there" / "artifacts"))
    found = SqlStore(there).models()
    assert found == SqlStore(database).models()
    assert [model.versions[1].kind for model in found] == ["onnx", "scores"]
    there.close()
