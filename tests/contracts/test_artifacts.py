"""What every place for artifacts keeps."""

import hashlib
from pathlib import Path

import pytest

from service.domain import StorageFailed
from service.ports import Artifacts
from service.storage.artifacts import FolderArtifacts

DATA = b"a model" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where they are kept."""
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(folder: Path) -> Artifacts:
    """An empty place."""
    return FolderArtifacts(folder)


def kept(folder: Path) -> list[Path]:
    """Every file there."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_is_got_by_its_digest(artifacts: Artifacts, folder: Path) -> None:
    """Twice is once."""
    assert artifacts.put(DATA) == artifacts.put(DATA) == DIGEST
    assert artifacts.get(DIGEST) == DATA
    assert len(kept(folder)) == 1


def test_a_changed_file_is_not_handed_out_and_putting_it_again_mends_it(artifacts: Artifacts, folder: Path) -> None:
    """One flipped bit."""
    artifacts.put(DATA)
    kept(folder)[0].write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    with pytest.raises(StorageFailed, match="has changed on disk"):
        artifacts.get(DIGEST)
    artifacts.put(DATA)
    assert artifacts.get(DIGEST) == DATA


def test_a_missing_file_is_named(artifacts: Artifacts) -> None:
    """By its digest."""
    with pytest.raises(StorageFailed, match=f"{DIGEST} could not be read"):
        artifacts.get(DIGEST)


def test_a_write_that_fails_leaves_nothing_behind(
    artifacts: Artifacts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when it is synced."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFailed, match="No space left on device"):
        artifacts.put(DATA)
    assert kept(folder) == []


def test_a_folder_that_cannot_be_written_says_so(artifacts: Artifacts, folder: Path) -> None:
    """And one that can is left as it was."""
    artifacts.check()
    assert kept(folder) == []
    folder.rmdir()
    folder.write_text("no folder")
    with pytest.raises(StorageFailed, match="cannot be kept"):
        artifacts.check()


def test_what_a_killed_server_left_half_written_is_swept(artifacts: Artifacts, folder: Path) -> None:
    """What is whole stays."""
    artifacts.put(DATA)
    (kept(folder)[0].parent / ".abc.tmp").write_bytes(DATA[:10])
    artifacts.sweep()
    assert [path.name for path in kept(folder)] == [DIGEST]
    artifacts.sweep()
    assert artifacts.get(DIGEST) == DATA
