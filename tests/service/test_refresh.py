"""What other servers changed is taken in, and what cannot be loaded is told of until it can."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibrate.operating_point import OperatingPoint
from service.engine.onnx import OnnxEngine
from service.errors import StorageFailed, UnknownModel
from service.points import Asked, to_default
from service.registry import Registry
from service.storage.artifacts import FolderArtifacts
from service.storage.database import Database, sqlite_address
from service.storage.sql import SqlStore
from service.watcher import Watcher
from tests.models import network


class Node:
    """A registry on a folder, as a server has one."""

    def __init__(self, folder: Path) -> None:
        self.store = SqlStore(Database(sqlite_address(folder / "setpoint.db")))
        self.registry = Registry(self.store, FolderArtifacts(folder / "artifacts"), OnnxEngine(1, 30))
        self.registry.start()

    def register(self, seed: int = 0) -> int:
        """Registers the next version of the model `m`."""
        data = network(2, seed=seed)
        return self.registry.register(data, name="m", classes=("a", "b"), actor="ann").version

    def publish(self, bias: float) -> str:
        """Publishes the point `p`."""
        point = OperatingPoint(("a", "b"), np.ones(2), np.array([0.0, bias]))
        said = {"name": "p", "point": point, "details": {}, "model_version": None}
        return self.registry.publish("m", actor="ann", **said).label  # type: ignore[arg-type]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two of them on one folder."""
    made = Node(tmp_path), Node(tmp_path)
    yield made
    for node in made:
        node.store.close()


def test_a_refresh_shows_what_another_server_did(nodes: tuple[Node, Node]) -> None:
    """A model, a point, a default; without it nothing is seen, and a second one changes nothing."""
    one, other = nodes
    one.register()
    with pytest.raises(UnknownModel):
        other.registry.model("m")
    other.registry.refresh()
    one.publish(0.5)
    one.register(seed=1)
    one.registry.change("m", to_default("argmax@2", Asked("ann", "why"), model_version=2), "ann")
    other.registry.refresh()
    assert other.registry.model("m") == one.registry.model("m")
    assert other.registry.missing() == []
    shown = other.registry.model("m")
    other.registry.refresh()
    assert other.registry.model("m") is shown


def test_a_new_default_that_cannot_be_loaded_leaves_the_old_one_answering(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    """Ready says so; once the file is whole again it is taken in."""
    one, other = nodes
    one.register()
    other.registry.refresh()
    before = other.registry.model("m")
    one.register(seed=1)
    version = one.registry.model("m").version(2)
    digest = version.check_runs().digest
    path = tmp_path / "artifacts" / digest[:2] / digest
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    one.registry._loaded._sessions.clear()
    with pytest.raises(StorageFailed, match="has changed on disk"):
        one.registry.session(version)
    path.write_bytes(whole)
    one.registry.change("m", to_default("argmax@2", Asked("ann", "why"), model_version=2), "ann")
    path.write_bytes(whole[:-1])
    other.registry.refresh()
    assert other.registry.model("m").default == before.default
    assert other.registry.session(before.version(1)) is not None
    assert other.registry.missing() == ["model 'm' is served as it was: its new default version cannot be loaded"]
    path.write_bytes(whole)
    other.registry._failed["m"] = ("", 0.0)  # the time to try again has come
    other.registry.refresh()
    assert other.registry.model("m").default.model_version == 2
    assert other.registry.missing() == []


def test_a_store_that_fails_in_between_loses_no_change(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was heard of and could not be read is read the next time."""
    one, other = nodes
    one.register()

    def fail(_: str) -> None:
        raise StorageFailed("gone")

    monkeypatch.setattr(other.store, "model", fail)
    with pytest.raises(StorageFailed):
        other.registry.refresh()
    monkeypatch.undo()
    other.registry.refresh()
    assert other.registry.model("m") == one.registry.model("m")


def test_a_watcher_goes_on_whatever_happens_and_stops() -> None:
    """It is slower while the store is away, and says so once."""
    calls: list[int] = []

    def refresh() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise StorageFailed("gone")
        if len(calls) == 3:
            raise RuntimeError("a fault of ours")
        if len(calls) >= 4:
            watcher._stopped.set()

    watcher = Watcher(refresh, every_s=0.001)
    watcher.start()
    watcher._thread.join(10)
    assert len(calls) == 4
    watcher.stop()
    assert not watcher._thread.is_alive()
