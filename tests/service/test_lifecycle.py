"""Readiness that cannot be held up, and a start that others wait for."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from starlette.testclient import TestClient

from calibrate.errors import SetpointError
from service.engine.onnx import OnnxEngine
from service.errors import Starting, StorageFailed
from service.lifecycle import FRESH_S, LOOK_S, Lifecycle
from service.registry import Registry
from service.storage.artifacts import FolderArtifacts
from service.storage.database import Database, sqlite_address
from service.storage.sql import SqlStore
from tests.service.conftest import Start


class Slow(FolderArtifacts):
    """A folder on a disk that may hang, or fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.fails: Exception | None = None
        self.looks = 0

    def check(self) -> None:
        """Waits until the disk goes on."""
        self.looks += 1
        self.goes_on.wait(30)
        if self.fails:
            raise self.fails
        super().check()


@pytest.fixture
def disk(tmp_path: Path) -> Slow:
    """The folder of artifacts."""
    return Slow(tmp_path / "artifacts")


@pytest.fixture
def lifecycle(tmp_path: Path, disk: Slow) -> Lifecycle:
    """A service on that disk, without models."""
    store = SqlStore(Database(sqlite_address(tmp_path / "setpoint.db")))
    return Lifecycle(Registry(store, disk, OnnxEngine()))


def test_a_store_that_hangs_holds_nobody_up(lifecycle: Lifecycle, disk: Slow) -> None:
    """The first waits its time, the others ask no further; when it answers again the server is ready again."""

    async def ask() -> list[str]:
        return (await lifecycle.ready()).reasons

    async def run() -> None:
        lifecycle.start()
        assert await ask() == []
        await anyio.sleep(FRESH_S)
        disk.goes_on.clear()
        looks = disk.looks
        began = time.monotonic()
        reasons: list[list[str]] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(lambda: _into(reasons, ask))
        assert LOOK_S - 0.1 < time.monotonic() - began < LOOK_S + 1
        assert [said[0] for said in reasons] == ["the store has not answered for 2 s"] * 50
        began = time.monotonic()
        assert await ask() == ["the store has not answered for 2 s"]
        assert time.monotonic() - began < 0.2
        assert disk.looks == looks + 1
        disk.goes_on.set()
        await anyio.sleep(0.1)
        assert await ask() == []

    anyio.run(run)


async def _into(found: list[list[str]], ask: object) -> None:
    found.append(await ask())  # type: ignore[operator]


def test_a_look_at_the_storage_is_shared(lifecycle: Lifecycle, disk: Slow) -> None:
    """However many ask, it is looked at twice a second at most."""

    async def run() -> None:
        lifecycle.start()
        for _ in range(200):
            assert (await lifecycle.ready()).reasons == []
        assert disk.looks <= 3

    anyio.run(run)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageFailed("the disk is full"), "the disk is full"),
        (RuntimeError("secret"), "the store could not be checked; the server's log says why"),
    ],
)
def test_what_is_wrong_with_the_storage_is_the_reason(
    lifecycle: Lifecycle, disk: Slow, error: Exception, said: str
) -> None:
    """A fault of ours is told without its words."""

    async def run() -> list[str]:
        lifecycle.start()
        disk.fails = error
        return (await lifecycle.ready()).reasons

    assert anyio.run(run) == [said]


def test_a_server_that_stops_is_not_ready(start: Start) -> None:
    """At once, while it still answers."""
    client: TestClient = start()
    assert client.get("/health/ready").status_code == 200
    client.app.lifecycle.drain()  # type: ignore[attr-defined]
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["reasons"]) == (503, ["the server is stopping"])
    assert client.get("/health/live").status_code == 200
    assert client.get("/models").status_code == 200


def test_what_needs_models_is_refused_until_they_are_there(lifecycle: Lifecycle) -> None:
    """Health is told all the while."""
    with pytest.raises(Starting):
        lifecycle.check("/predict")
    lifecycle.check("/health/live")
    assert anyio.run(lifecycle.ready).reasons == ["the server is still starting"]
    lifecycle.start()
    lifecycle.check("/predict")


def test_a_start_that_fails_is_kept_for_the_server(lifecycle: Lifecycle, tmp_path: Path) -> None:
    """It runs in a thread, and the process must end with it."""
    with closing(sqlite3.connect(tmp_path / "setpoint.db")) as other:
        other.execute("DROP TABLE models")
    lifecycle.start_or_tell()
    assert isinstance(lifecycle.failure, SetpointError)
    assert not lifecycle.is_started
