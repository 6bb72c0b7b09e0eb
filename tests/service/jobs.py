"""Calibrations that take long, and those that do not, for the tests of jobs."""

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from tests.models import network
from tests.service.conftest import register

RNG = np.random.default_rng(11)


def npz(**arrays: Any) -> bytes:
    """An upload."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def rows(n: int, k: int) -> tuple[Any, Any]:
    """Logits with labels that follow them."""
    logits = RNG.normal(size=(n, k)).astype(np.float32)
    return logits, np.argmax(logits + RNG.gumbel(size=(n, k)), axis=1)


LOGITS, LABELS = rows(300, 2)
SHORT = npz(logits=LOGITS, labels=LABELS)
_LONG = rows(20_000, 5)
LONG = npz(logits=_LONG[0], labels=_LONG[1])  # takes more than half a minute


def ask(
    client: TestClient, data: bytes = SHORT, *, headers: dict[str, str] | None = None, name: str = "d.npz", **spec: Any
) -> Any:
    """A multipart call."""
    wanted = {"model": "fraud", "name": "p", "metric": "f1", **spec}
    files = {"data": (name, data)}
    return client.post("/calibrate", data={"spec": json.dumps(wanted)}, files=files, headers=headers or {})


def begin(client: TestClient, data: bytes = LONG, *, key: str | None = None, **spec: Any) -> dict[str, Any]:
    """A job that is not waited for."""
    headers = {"Prefer": "respond-async", **({} if key is None else {"Idempotency-Key": key})}
    response = ask(client, data, headers=headers, **{"model": "five", **spec})
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/jobs/{response.json()['id']}"
    return dict(response.json())


def job(client: TestClient, job_id: str) -> dict[str, Any]:
    """A job as it is now."""
    response = client.get(f"/jobs/{job_id}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """What is found, once it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if made := found():
            return made
        time.sleep(0.05)
    raise AssertionError("it did not come in time")


def begun(client: TestClient, job_id: str, stage: str = "fitting") -> dict[str, Any]:
    """A job once it has come to a stage."""
    return dict(until(lambda: (now := job(client, job_id)) and (now["progress"] or {}).get("stage") == stage and now))


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    """A job once it is over."""
    over = ("done", "failed", "cancelled")
    return dict(until(lambda: (now := job(client, job_id))["state"] in over and now))


def five(client: TestClient) -> TestClient:
    """The client of a service that also has the model `five`, of five classes."""
    register(client, network(5), "five")
    return client
