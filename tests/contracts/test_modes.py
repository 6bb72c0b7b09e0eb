"""Who may read what is made: the store is a secret, as a backup of it is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.storage.artifacts import FolderArtifacts
from service.storage.opening import open_database, warn_of_readers
from service.storage.sql import SqlStore
from tests.contracts.test_store import version


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """As most systems have it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """The bits of who may do what."""
    return path.stat().st_mode & 0o777


def test_what_is_made_is_its_owners_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder, the database with the files beside it, the artifacts and every one of them; nothing is warned of."""
    folder = tmp_path / "data"
    store, artifacts = SqlStore(open_database(None, folder)), FolderArtifacts(folder / "artifacts")
    store.add_version(version(), "ann")
    digest = artifacts.put(b"a model")
    assert {path.name: mode(path) for path in folder.glob("setpoint.db*")} == dict.fromkeys(
        ("setpoint.db", "setpoint.db-wal", "setpoint.db-shm"), 0o600
    )
    assert (mode(folder), mode(folder / "artifacts")) == (0o700, 0o700)
    assert mode(folder / "artifacts" / digest[:2] / digest) == 0o600
    warn_of_readers(folder)
    store.close()
    assert not caplog.records


def test_what_was_there_keeps_its_modes_and_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the command that closes it; nothing is told once it was run, nor where nobody can enter the folder."""
    caplog.set_level("WARNING", "service")  # whatever level a server in this process has set
    folder = tmp_path / "our data"
    folder.mkdir(mode=0o755)
    file = folder / "setpoint.db"
    file.touch(mode=0o644)
    open_database(None, folder).close()
    warn_of_readers(folder)
    assert (mode(folder), mode(file)) == (0o755, 0o644)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"this closes it: chmod -R go= '{folder}'" in caplog.text
    caplog.clear()
    folder.chmod(0o700)
    warn_of_readers(folder)
    folder.chmod(0o755)
    file.chmod(0o600)
    warn_of_readers(folder)
    warn_of_readers(tmp_path / "nowhere")
    assert not caplog.records
