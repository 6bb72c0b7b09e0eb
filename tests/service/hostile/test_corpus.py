"""Every hostile request is a refusal, in time and memory, that says nothing of the server; then the server is alive."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from tests.models import network
from tests.service.conftest import CLASSES, alive, register
from tests.service.hostile import Attack
from tests.service.hostile.files import files
from tests.service.hostile.texts import texts

LEAST = 300
MOST_S = 10.0
MOST_MIB = 250.0
EVERY = [*texts(), *files()]
CORPUS = {attack.name: attack for attack in EVERY}
LEAKS = ("Traceback", "site-packages", str(Path(__file__).parents[3]), "sqlalchemy", "/home", 'File "')


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with the model `fraud`, and small limits."""
    settings = Settings(data=tmp_path_factory.mktemp("hostile"), body_bytes=2**24, unpacked_bytes=2**24)
    with TestClient(make_app(settings), "http://127.0.0.1:8000", raise_server_exceptions=False) as made:
        register(made, network(2), classes=CLASSES)
        yield made


def memory_mib() -> float:
    """What this process holds; 0 where nobody tells."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20 if told.exists() else 0.0


def test_the_corpus_is_large() -> None:
    """At least 300 requests, each by a name of its own."""
    assert len(CORPUS) >= LEAST
    assert len(CORPUS) == len(EVERY)


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_request_is_refused(client: TestClient, name: str) -> None:
    """With 4xx and a problem, within seconds and a bounded memory, without words of the server's inside."""
    attack: Attack = CORPUS[name]
    before, began = memory_mib(), time.monotonic()
    answer = client.request(attack.verb, attack.path, content=attack.body, headers=dict(attack.headers))
    assert time.monotonic() - began < MOST_S
    assert memory_mib() - before < MOST_MIB
    assert 400 <= answer.status_code < 500, answer.text[:500]
    if attack.verb != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 10_000
        assert not [leak for leak in LEAKS if leak in answer.text], answer.text
    alive(client)


def test_nothing_was_kept(client: TestClient) -> None:
    """One model with its first point, and the entry of its registration."""
    (model,) = client.get("/models").json()
    assert (model["name"], model["operating_points"]) == ("fraud", ["argmax@1"])
    assert len(client.get("/audit").json()) == 1
