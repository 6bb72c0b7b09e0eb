"""Several server processes on one store: what one publishes, the others serve within a second."""

import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from tests.databases import KINDS, new_database, start_postgres
from tests.models import network
from tests.servers import Server, running

ASK = {"model": "m", "inputs": [[0.5, -1.0, 2.0, 0.0]]}
POINT = {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0.1]}


def environment(kind: str, folder: Path) -> dict[str, str]:
    """What makes a server keep its state in a database of a kind."""
    if kind == "sqlite":
        return {}
    return {"SETPOINT_DATABASE": new_database(kind, folder).render_as_string(hide_password=False)}


def register(server: Server, folder: Path, seed: int = 0) -> None:
    """Registers the model `m`, its next version."""
    (folder / "net.onnx").write_bytes(network(2, seed=seed))
    with Client(server.address) as client:
        client.register(folder / "net.onnx", "m", classes='["a", "b"]')


def publish(server: Server, name: str = "p", bias: float = 0.1) -> str:
    """Publishes a point of the default version, and gives its label."""
    said = server.post("/models/m/operating-points", {"name": name, "point": {**POINT, "bias": [0, bias]}})
    return str(said["operating_point"])


def within_a_second(look: Callable[[], Any], wanted: object) -> None:
    """Looks until it sees what is wanted, or a second is over."""
    until = time.monotonic() + 1
    found: object = None
    while time.monotonic() < until:
        try:
            found = look()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
            found = 404
        if found == wanted:
            return
        time.sleep(0.02)
    raise AssertionError(f"wanted {wanted}, after a second there was {found}")


def status(call: Callable[[], Any]) -> int:
    """The status of an answer."""
    try:
        call()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


@pytest.fixture(params=KINDS)
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers on one store, and one folder of model files."""
    settings: dict[str, Any] = environment(request.param, tmp_path)
    with running(tmp_path, **settings) as one, running(tmp_path, **settings) as other:
        yield one, other


def test_what_one_changes_the_other_serves_within_a_second(two: tuple[Server, Server], tmp_path: Path) -> None:
    """A model, a point, the default, and a new version; and the one that did it at once."""
    one, other = two
    register(one, tmp_path)
    within_a_second(lambda: other.post("/predict", ASK)["operating_point"], "argmax@1")
    for number in range(1, 6):
        label = publish(one, bias=number / 10)
        asked = {**ASK, "operating_point": label}
        assert one.post("/predict", asked)["operating_point"] == label
        within_a_second(lambda: other.post("/predict", asked)["operating_point"], label)  # noqa: B023
        one, other = other, one
    register(other, tmp_path, seed=1)
    with Client(other.address) as client:
        client.set_default("m", model_version=2, point="argmax@2", reason="test")
    expected = other.post("/predict", ASK)
    assert expected["model_version"] == 2
    within_a_second(lambda: one.post("/predict", ASK)["predictions"], expected["predictions"])
    assert one.get("/audit") == other.get("/audit")


def test_both_publish_at_once_and_no_number_is_lost_or_given_twice(two: tuple[Server, Server], tmp_path: Path) -> None:
    """Under one name, from several callers each; meanwhile neither server goes back to something older."""
    one, other = two
    register(one, tmp_path)
    within_a_second(lambda: other.get("/models/m")["name"], "m")
    labels: list[str] = []
    stale: list[str] = []

    def work(server: Server) -> None:
        for _ in range(8):
            label = publish(server)
            labels.append(label)
            if label not in server.get("/models/m")["operating_points"]:
                stale.append(label)

    threads = [threading.Thread(target=work, args=[server]) for server in (one, other) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(labels, key=lambda label: int(label[2:])) == [f"p@{number}" for number in range(1, 33)]
    assert stale == []
    for server in two:
        within_a_second(lambda: len(server.get("/models/m")["operating_points"]), 33)  # noqa: B023
    entries = one.get("/audit?limit=1000")
    assert [entry["number"] for entry in entries] == list(range(33, 0, -1))


def test_a_database_that_goes_away_stops_changes_and_not_predictions(tmp_path: Path) -> None:
    """Changes are 503 and ready says why; when it is back all is well by itself, and nothing acknowledged is lost."""
    postgres = start_postgres()
    with ExitStack() as stack:
        stack.callback(postgres.cleanup)
        server = stack.enter_context(running(tmp_path, SETPOINT_DATABASE=postgres.get_uri()))
        register(server, tmp_path)
        publish(server)
        before = server.post("/predict", ASK)
        postgres.stop()
        assert server.post("/predict", ASK)["predictions"] == before["predictions"]
        for call in (lambda: publish(server), lambda: server.get("/health/ready"), lambda: server.get("/audit")):
            assert status(call) == 503
        assert server.post("/predict", ASK)["predictions"] == before["predictions"]
        postgres.start()
        until = time.monotonic() + 5
        while status(lambda: server.get("/health/ready")) != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert publish(server) == "p@2"
        assert postgres.get_uri() not in server.log.read_text()
