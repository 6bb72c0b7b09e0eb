"""What a call costs without a network: `python -m tests.benchmarks.serving_parts [REPEATS [CALLS]]`.

The whole application and the bare one are called as ASGI by one loop in one process, in turn, and the time is that of
their thread on its core; the least of the repeats counts, which other work on the machine hardly moves. HTTP itself
costs both sides alike and is left out, so the ratios here are harsher than those of `serving`.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from starlette.testclient import TestClient

from calibrate import OperatingPoint
from service.main import make_app
from service.settings import Settings
from tests.benchmarks.bare_apps import asgi, open_session
from tests.benchmarks.networks import mlp
from tests.benchmarks.serving import POINTS, TOKEN, WIDTH, infer_body, npy, rows_of

INFER = "/v2/models/m/infer"
_KEY = {"authorization": f"Bearer {TOKEN}"}


class Called:
    """An application with one question, asked as a server asks it."""

    def __init__(self, app: Callable[..., Any], path: str, body: bytes, query: str = "", **headers: str) -> None:
        self._app, self._message = app, {"type": "http.request", "body": body, "more_body": False}
        named = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
        self._scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 50000), "scheme": "http", "method": "POST",
            "root_path": "", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }  # fmt: skip
        self.status, self._is_sent = 0, False

    async def _receive(self) -> dict[str, Any]:
        if self._is_sent:  # a client that stays: who waits for it to leave waits
            await asyncio.Event().wait()
        self._is_sent = True
        return self._message

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)

    async def ask(self, calls: int) -> float:
        """Microseconds a call."""
        began = time.thread_time()
        for _ in range(calls):
            self._is_sent = False
            await self._app({**self._scope, "state": {}}, self._receive, self._send)
        taken = time.thread_time() - began
        assert self.status == 200, self.status
        return 1e6 * taken / calls


def main() -> None:
    """A table of microseconds."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    folder = Path(tempfile.mkdtemp())
    (folder / "mlp.onnx").write_bytes(mlp(WIDTH, 128, 64, 2))
    os.environ["SETPOINT_TOKEN"] = TOKEN
    ours = make_app(Settings(data=folder / "data"))
    bare = asgi(open_session(str(folder / "mlp.onnx")))
    with ExitStack() as stack:
        client = stack.enter_context(TestClient(ours, base_url="http://127.0.0.1:8000", headers=_KEY))
        _publish(client, (folder / "mlp.onnx").read_bytes())
        for title, (mine, its) in _pairs(ours, bare).items():
            asyncio.run(_compare(title, mine, its, repeats, calls))


async def _compare(title: str, mine: Called, its: Called, repeats: int, calls: int) -> None:
    await mine.ask(20)
    await its.ask(20)
    taken = [(await mine.ask(calls), await its.ask(calls)) for _ in range(repeats)]
    ours, bare = (min(column) for column in zip(*taken, strict=True))
    print(f"{title:32} {ours:8.1f} us, beside it {bare:8.1f} us, {ours - bare:8.1f} us more", flush=True)


def _publish(client: TestClient, data: bytes) -> None:
    fields = {"name": "m", "classes": '["clear", "fraud"]'}
    client.post("/models", data=fields, files={"file": ("mlp.onnx", data)}).raise_for_status()
    for i, name in enumerate(POINTS):
        point = OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0, i / 10])).to_dict()
        client.post("/models/m/operating-points", json={"name": name, "point": point}).raise_for_status()


def _pairs(ours: Callable[..., Any], bare: Callable[..., Any]) -> dict[str, tuple[Called, Called]]:
    def json(n: int, **more: Any) -> Called:
        ask = {"model": "m", "operating_point": "p3", "inputs": rows_of(n).tolist(), **more}
        return Called(ours, "/predict", orjson.dumps(ask), **_KEY)

    pairs = {
        f"{n} rows JSON, bare": (json(n), Called(bare, "/", orjson.dumps({"inputs": rows_of(n).tolist()})))
        for n in (1, 64)
    }
    for n in (64, 256):
        rows, query = rows_of(n), "model=m&operating_point=p3"
        binary = Called(ours, "/predict", npy(rows), query, accept="application/x-npy", **_KEY)
        pairs[f"{n} rows binary, bare"] = binary, Called(bare, "/binary", rows.tobytes())
    one = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": rows_of(1).ravel().tolist()}
    asked = orjson.dumps({"parameters": {"operating_point": "p3"}, "inputs": [one]})
    its = Called(bare, "/", orjson.dumps({"inputs": rows_of(1).tolist()}))
    pairs["1 rows v2 JSON, bare"] = Called(ours, INFER, asked, **_KEY), its
    for n in (64, 256):
        rows = rows_of(n)
        head, body = infer_body(rows)
        told = {"inference-header-content-length": str(head), **_KEY}
        pairs[f"{n} rows v2 binary, bare"] = Called(ours, INFER, body, **told), Called(bare, "/binary", rows.tobytes())
    for n in (1, 64):
        pairs[f"{n} rows, ten compared, one"] = json(n, compare=POINTS), json(n)
    return pairs


if __name__ == "__main__":
    main()
