"""Open loop: requests leave at times fixed beforehand, and wait behind slow ones, which is counted: the latency that
callers see. A client in a process of its own: `python -m tests.benchmarks.load` with a load as a JSON line on standard
input, and what came back as another.
"""

import asyncio
import base64
import json
import os
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import uvloop


@dataclass(frozen=True)
class Load:
    """A whole HTTP request to ask on so many connections for so long, `rate` times a second."""

    port: int
    request: bytes
    connections: int
    seconds: float
    rate: float


@dataclass(frozen=True)
class Taken:
    """What came back: answers a second, those that were not 200, and quantiles of the time in ms."""

    answers: int
    per_second: float
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1 that is kept."""

    def __init__(self, load: Load, taken_s: list[float], due: deque[float]) -> None:
        self._load, self._taken, self._due = load, taken_s, due
        self._buffer = b""
        self._since = 0.0
        self.errors = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        """Sends the next request when it is due, or now where that is past."""
        if not self._due:
            self._finish()
            return
        self._since = self._due.popleft()
        left = self._since - time.perf_counter()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._transport.write, self._load.request)
        else:
            self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Reads answers, each whole."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = buffer.lower().find(b"content-length:", 0, end)
        length = int(buffer[at + 15 : buffer.find(b"\r\n", at)])
        if len(buffer) < end + 4 + length:
            return
        self._buffer = b""
        self._taken.append(time.perf_counter() - self._since)
        if not buffer.startswith(b"HTTP/1.1 200"):
            self.errors += 1
        self.ask()

    def connection_lost(self, _: Exception | None) -> None:
        """The server closed it."""
        if not self.finished.done():
            self.errors += 1
            self.finished.set_result(None)

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
        self._transport.close()


async def drive(load: Load) -> Taken:
    """Asks as often as is due."""
    loop = asyncio.get_running_loop()
    taken_s: list[float] = []
    gaps = np.random.default_rng(0).exponential(1 / load.rate, int(load.rate * load.seconds))
    due = deque((time.perf_counter() + 0.05 + np.cumsum(gaps)).tolist())
    connections = []
    for _ in range(load.connections):
        _, connection = await loop.create_connection(lambda: Connection(load, taken_s, due), "127.0.0.1", load.port)
        connections.append(connection)
    started = time.perf_counter()
    for connection in connections:
        connection.ask()
    await asyncio.gather(*(connection.finished for connection in connections))
    elapsed = time.perf_counter() - started
    p50, p95, p99 = np.quantile(np.array(taken_s or [np.nan]) * 1000, [0.5, 0.95, 0.99]).tolist()
    errors = sum(connection.errors for connection in connections)
    return Taken(len(taken_s), len(taken_s) / elapsed, errors, p50, p95, p99)


def main() -> None:
    """Reads loads, one a line, until there are no more."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
    for line in sys.stdin:
        asked = json.loads(line)
        load = Load(**{**asked, "request": base64.b64decode(asked["request"])})
        print(json.dumps(asdict(uvloop.run(drive(load)))), flush=True)


if __name__ == "__main__":
    main()
