"""Real servers: a process of its own, on a free port, with its output in a file."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> Any:
        """A JSON answer."""
        with urllib.request.urlopen(self.address + path, timeout=30) as response:  # noqa: S310
            return json.load(response)

    def post(self, path: str, body: object) -> Any:
        """A JSON answer to a JSON body."""
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.load(response)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, *, until: str = "/health/ready", **environment: str) -> Iterator[Server]:
    """A server on a folder, once it answers 200 to a path; it is told to stop at the end and must do so."""
    port = free_port()
    log = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data", str(folder / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_for(server, until)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(server: Server, path: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert server.process.poll() is None, server.log.read_text()
        try:
            server.get(path)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("not there within a minute: " + server.log.read_text())
