"""What every place for artifacts keeps: a folder, and object stores through fsspec, a real S3 server among them."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.errors import StorageFailed
from service.ports import Artifacts
from service.storage.artifacts import FolderArtifacts
from service.storage.objects import ObjectArtifacts
from service.storage.opening import open_artifacts

DATA = b"a model" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
KINDS = ("folder", "memory", "file", "s3")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server, named by the variables that every tool of S3 reads."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s"}
    for name, value in (given | {"DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Where an empty place is."""
    name = f"b{uuid.uuid4().hex[:8]}"
    if request.param == "s3":
        request.getfixturevalue("s3")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    addresses = {"memory": f"memory://{name}", "file": f"file://{tmp_path}/objects", "s3": f"s3://{name}/some/prefix"}
    if request.param == "file":
        (tmp_path / "objects" / DIGEST[:2]).mkdir(parents=True)  # what an object store needs none of
    return addresses.get(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the server."""
    return tmp_path / "data"


@pytest.fixture
def artifacts(address: str | None, folder: Path) -> Artifacts:
    """An empty place."""
    return open_artifacts(address, folder)


def kept(artifacts: Artifacts) -> list[str]:
    """Every model file there."""
    if isinstance(artifacts, FolderArtifacts):
        return [str(path) for path in artifacts._folder.rglob("*") if path.is_file()]
    assert isinstance(artifacts, ObjectArtifacts)
    try:
        found = artifacts._store.find(artifacts._root)
    except FileNotFoundError:
        return []
    return [path for path in found if not path.endswith("/check")]


def damage(artifacts: Artifacts) -> None:
    """Flips a bit of the one file there."""
    (path,) = kept(artifacts)
    changed = bytes([DATA[0] ^ 1]) + DATA[1:]
    if isinstance(artifacts, ObjectArtifacts):
        artifacts._store.pipe_file(path, changed)
    else:
        Path(path).write_bytes(changed)


def test_what_is_put_is_got_by_its_digest(artifacts: Artifacts) -> None:
    """Twice is once."""
    assert artifacts.put(DATA) == artifacts.put(DATA) == DIGEST
    assert artifacts.get(DIGEST) == DATA
    assert len(kept(artifacts)) == 1


def test_another_server_gets_it_too(artifacts: Artifacts, address: str | None, folder: Path, tmp_path: Path) -> None:
    """From a machine of its own where the place is no folder."""
    artifacts.put(DATA)
    other = open_artifacts(address, folder if address is None else tmp_path / "other")
    assert other.get(DIGEST) == DATA


def test_a_changed_file_is_not_handed_out_and_putting_it_again_mends_it(
    artifacts: Artifacts, address: str | None, folder: Path, tmp_path: Path
) -> None:
    """One flipped bit."""
    artifacts.put(DATA)
    damage(artifacts)
    other = open_artifacts(address, folder if address is None else tmp_path / "other")
    with pytest.raises(StorageFailed, match=f"{DIGEST} has changed"):
        other.get(DIGEST)
    other.put(DATA)
    assert open_artifacts(address, folder if address is None else tmp_path / "third").get(DIGEST) == DATA


def test_a_missing_file_is_named(artifacts: Artifacts) -> None:
    """By its digest."""
    with pytest.raises(StorageFailed, match=f"{DIGEST} could not be read"):
        artifacts.get(DIGEST)


def test_a_place_that_can_be_written_is_left_as_it_was(artifacts: Artifacts) -> None:
    """However often it is looked at, and so is what it holds when it is swept."""
    artifacts.check()
    artifacts.check()
    assert kept(artifacts) == []
    artifacts.put(DATA)
    artifacts.sweep()
    assert artifacts.get(DIGEST) == DATA


def test_a_write_that_fails_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when it is synced."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    artifacts = FolderArtifacts(folder)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFailed, match="No space left on device"):
        artifacts.put(DATA)
    assert kept(artifacts) == []


def test_a_folder_that_cannot_be_written_says_so(folder: Path) -> None:
    """Before a model comes."""
    folder.write_text("no folder")
    with pytest.raises(StorageFailed, match="cannot be kept"):
        FolderArtifacts(folder).check()


def test_what_a_killed_server_left_half_written_is_swept(folder: Path) -> None:
    """What is whole stays, and what another server is writing."""
    artifacts = FolderArtifacts(folder)
    artifacts.put(DATA)
    old, new = (Path(kept(artifacts)[0]).parent / name for name in (".old.tmp", ".new.tmp"))
    for path in (old, new):
        path.write_bytes(DATA[:10])
    os.utime(old, (time.time() - 4000,) * 2)
    artifacts.sweep()
    assert {Path(path).name for path in kept(artifacts)} == {DIGEST, ".new.tmp"}


@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_what_a_server_has_read_once_it_has_while_the_object_store_is_away(
    artifacts: Artifacts, s3: Any, address: str, folder: Path
) -> None:
    """A restart serves; all else fails, and soon; a copy that rotted is no copy."""
    artifacts.put(DATA)
    artifacts.check()
    again = open_artifacts(address, folder)
    s3.stop()
    started = time.monotonic()
    assert again.get(DIGEST) == DATA
    for call in (lambda: again.put(b"new"), again.check, lambda: again.get("0" * 64), artifacts.check):
        with pytest.raises(StorageFailed):
            call()
    assert time.monotonic() - started < 40
    damage(FolderArtifacts(folder / "artifacts"))
    with pytest.raises(StorageFailed, match=f"{DIGEST} could not be read"):
        again.get(DIGEST)


@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_a_copy_that_rotted_is_fetched_again(artifacts: Artifacts, folder: Path) -> None:
    """And mended by that."""
    artifacts.put(DATA)
    copies = FolderArtifacts(folder / "artifacts")
    damage(copies)
    assert artifacts.get(DIGEST) == DATA
    assert copies.get(DIGEST) == DATA


@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_told(address: str, tmp_path: Path) -> None:
    """Without a traceback, in one line."""
    elsewhere = open_artifacts(address.replace("s3://b", "s3://c"), tmp_path / "other")
    for call in (elsewhere.check, lambda: elsewhere.put(DATA)):
        with pytest.raises(StorageFailed, match=r"^[^\n]*could not be kept|cannot be kept[^\n]*$"):
            call()


def test_an_address_of_no_store_is_refused(tmp_path: Path) -> None:
    """And a folder may be given as it is."""
    with pytest.raises(StorageFailed, match="nosuch"):
        open_artifacts("nosuch://bucket", tmp_path)
    open_artifacts(str(tmp_path / "shared"), tmp_path).put(DATA)
    assert (tmp_path / "shared" / DIGEST[:2] / DIGEST).read_bytes() == DATA
