"""Jobs of real servers, which are killed."""

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.models import network
from tests.servers import Server, running
from tests.service.jobs import LONG, npz, rows, until

_LOGITS, _LABELS = rows(1500, 3)
SHORT = npz(logits=_LOGITS, labels=_LABELS)  # takes a few seconds
SPEC = {"model": "m", "name": "p", "metric": "f1"}
OVER = ("done", "failed", "cancelled")


def register(server: Server, k: int) -> None:
    """A model of k classes."""
    files = {"file": ("m.onnx", network(k))}
    assert httpx2.post(server.address + "/models", data={"name": "m"}, files=files, timeout=60).status_code == 201


def ask(server: Server, data: bytes, **headers: str) -> httpx2.Response:
    """A calibration."""
    files = {"data": ("d.npz", data)}
    body = {"spec": json.dumps(SPEC)}
    return httpx2.post(server.address + "/calibrate", data=body, files=files, headers=headers, timeout=120)


def family(pid: int) -> list[int]:
    """The processes below a process."""
    try:
        children = [
            int(text)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for text in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return children + [each for child in children for each in family(child)]


def is_there(pid: int) -> bool:
    """Whether a process runs, which a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def points(server: Server) -> list[str]:
    """What is published, beside the plain model."""
    return [each["operating_point"] for each in server.get("/models/m/operating-points") if each["name"] != "argmax"]


def test_a_server_that_is_killed_again_and_again_loses_no_job_and_publishes_once(tmp_path: Path) -> None:
    """At any moment; its processes end with it, and the same request gets the same point at last."""
    rng = np.random.default_rng(1)
    with running(tmp_path) as server:
        register(server, 3)
        made = ask(server, SHORT, **{"Prefer": "respond-async", "Idempotency-Key": "k"}).json()
        below = until(lambda: (found := family(server.process.pid)) and len(found) > 1 and found)
        server.process.kill()
        server.process.wait()
        until(lambda: not any(map(is_there, below)))
    kills = 0
    for _ in range(6):
        with running(tmp_path) as server:
            time.sleep(float(rng.uniform(0, 0.7)))
            if server.get(f"/jobs/{made['id']}")["state"] in OVER:
                break
            server.process.kill()
            server.process.wait()
            kills += 1
    with running(tmp_path) as server:
        over = until(lambda: (now := server.get(f"/jobs/{made['id']}"))["state"] in OVER and now)
        published = points(server)
        if over["state"] == "done":
            assert published == ["p@1"]
            again = ask(server, SHORT, **{"Idempotency-Key": "k"})
            assert again.status_code == 201
            assert again.json() == over["result"]
        else:  # killed three times while it ran
            assert (over["error"]["type"].rsplit(":", 1)[1], over["attempts"]) == ("job-lost", 3)
            assert published == []
            assert kills >= 2
        entries = [entry for entry in server.get("/audit?limit=100") if entry["action"] == "publish"]
        assert [entry["details"]["job"] for entry in entries] == [made["id"]] * len(published)
        until(lambda: not [path for path in (tmp_path / "data" / "jobs").glob("*/*") if path.name != "lock"])


def hang_up(server: Server, data: bytes, **headers: str) -> dict[str, Any]:
    """Asks for a calibration, goes away while it is waited for, and gives the job."""
    boundary = "b" * 20
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="spec"\r\n\r\n{json.dumps(SPEC)}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="d.npz"\r\n\r\n'
    ).encode() + data + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    told = {"Host": "127.0.0.1", "Content-Type": f"multipart/form-data; boundary={boundary}", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**told, "Content-Length": str(len(body))}.items())
    port = int(server.address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"POST /calibrate HTTP/1.1\r\n{head}\r\n".encode() + body)
        (job,) = until(lambda: [each for each in server.get("/jobs") if each["state"] == "running"])
    return dict(job)


@pytest.mark.parametrize("key", [None, "k"])
def test_a_caller_that_goes_away_has_its_job_cancelled_unless_it_named_a_key(server: Server, key: str | None) -> None:
    """Then it goes on until it is cancelled by name."""
    register(server, 5)
    job = hang_up(server, LONG, **({} if key is None else {"Idempotency-Key": key}))
    if key is None:
        until(lambda: server.get(f"/jobs/{job['id']}")["state"] == "cancelled")
        return
    until(lambda: (server.get(f"/jobs/{job['id']}")["progress"] or {}).get("stage") == "fitting")
    time.sleep(1.5)
    assert server.get(f"/jobs/{job['id']}")["state"] == "running"
    assert httpx2.delete(f"{server.address}/jobs/{job['id']}", timeout=30).json()["state"] == "cancelled"


def test_events_come_while_the_job_runs(server: Server) -> None:
    """Not all at its end; the last one says that it was cancelled."""
    register(server, 5)
    made = ask(server, LONG, Prefer="respond-async").json()
    seen: list[str] = []
    with httpx2.stream("GET", f"{server.address}/jobs/{made['id']}/events", timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                stage = (json.loads(line[6:])["progress"] or {}).get("stage")
                if stage == "fitting" and "fitting" not in seen:
                    httpx2.delete(f"{server.address}/jobs/{made['id']}", timeout=30)
                seen.append(str(stage))
            if line.startswith("event: "):
                last = line
    assert "fitting" in seen
    assert last == "event: cancelled"


def test_a_stop_leaves_the_job_for_the_next_start(tmp_path: Path) -> None:
    """SIGTERM while it runs: the server stops in time, the attempt does not count."""
    with running(tmp_path) as server:
        register(server, 5)
        made = ask(server, LONG, Prefer="respond-async").json()
        until(lambda: (server.get(f"/jobs/{made['id']}")["progress"] or {}).get("stage") == "fitting")
        below = family(server.process.pid)
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
        until(lambda: not any(map(is_there, below)))
    with running(tmp_path) as server:
        now = until(lambda: (found := server.get(f"/jobs/{made['id']}"))["state"] == "running" and found)
        assert now["attempts"] == 1
        assert httpx2.delete(f"{server.address}/jobs/{made['id']}", timeout=30).json()["state"] == "cancelled"
