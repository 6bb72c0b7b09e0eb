"""Real clients against real servers, each check by itself.

A client's Python is told by `SETPOINT_TRITON_PYTHON`, `SETPOINT_KSERVE_PYTHON` and `SETPOINT_MLSERVER_PYTHON`, because
some want environments of their own; where it is not told it is this Python, if the client is installed.
"""

import ast
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from tests.models import WIDTH, forward, network, weights
from tests.servers import running
from tests.service.conftest import CLASSES, publish, register
from tests.service.oip.models import two_inputs

ROOT = Path(__file__).parents[3]
CLIENTS = Path(__file__).parent / "clients"
TOKEN = "a-token-of-32-characters-or-more"
X = np.random.default_rng(5).normal(size=(6, WIDTH)).astype(np.float32)
LOGITS = forward(weights(2), X)[1]
SCRIPTS = {"triton_sync": "triton", "triton_aio": "triton", "kserve_rest": "kserve"}
PACKAGES = {"triton": "tritonclient.http", "kserve": "kserve", "mlserver": "mlserver.cli"}
CHECKS = [
    (script, node.name)
    for script in SCRIPTS
    for node in ast.parse((CLIENTS / f"{script}.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]


@cache
def python_of(client: str) -> str | None:
    """A Python that has the client, None where there is none."""
    python = os.environ.get(f"SETPOINT_{client.upper()}_PYTHON", sys.executable)
    done = subprocess.run([python, "-W", "ignore", "-c", f"import {PACKAGES[client]}"], capture_output=True)
    return python if done.returncode == 0 else None


def needed(client: str) -> str:
    """The same; skips the test where there is none."""
    python = python_of(client)
    if python is None:
        pytest.skip(
            f"no {client} client here: install it, or name a Python that has it: SETPOINT_{client.upper()}_PYTHON"
        )
    return python


class _Behind(BaseHTTPRequestHandler):
    """Takes `/base` off the path and hands the rest on, as a proxy in front of the server does."""

    protocol_version = "HTTP/1.1"
    port = 0

    def do_GET(self) -> None:
        """Hands on a request."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        behind = http.client.HTTPConnection("127.0.0.1", self.port)
        behind.request(self.command, self.path.removeprefix("/base"), body, dict(self.headers))
        answer = behind.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        behind.close()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def proxy(address: str) -> Iterator[str]:
    """The address of a proxy."""
    handler = type("Behind", (_Behind,), {"port": int(address.rsplit(":", 1)[1])})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}/base"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def fill(folder: Path) -> Path:
    """A server's folder with models and points."""
    app = make_app(Settings(data=folder / "data"))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        register(client, network(2), classes=CLASSES)
        publish(client, "all", 100.0)
        publish(client, "none", -100.0)
        publish(client, "high-recall", 1.0)
        register(client, network(2, seed=9), classes=CLASSES)
        register(client, two_inputs(), "two", classes=CLASSES)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two servers, one of them with a token, and a proxy before the other."""
    if not any(python_of(client) for client in PACKAGES):
        pytest.skip("no client of the protocol is installed")
    free, guarded = (fill(tmp_path_factory.mktemp(name)) for name in ("free", "guarded"))
    with (
        running(free) as one,
        running(guarded, SETPOINT_TOKEN=TOKEN) as two,
        proxy(one.address) as base,
    ):
        yield {
            "address": one.address.removeprefix("http://"),
            "base": base,
            "guarded": two.address.removeprefix("http://"),
            "token": TOKEN,
            "x": X.tolist(),
            "logits": LOGITS.tolist(),
        }


@pytest.fixture(scope="module")
def told(served: dict[str, Any]) -> Any:
    """How every check of a script ended; each script runs once."""
    ended: dict[str, dict[str, str | None]] = {}

    def of(script: str) -> dict[str, str | None]:
        if script not in ended:
            command = [needed(SCRIPTS[script]), "-W", "ignore", "-m", f"tests.service.oip.clients.{script}"]
            done = subprocess.run(
                [*command, json.dumps(served)], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            ended[script] = json.loads(done.stdout.splitlines()[-1])
        return ended[script]

    return of


@pytest.mark.slow
@pytest.mark.parametrize(("script", "check"), CHECKS)
def test_a_real_client_finds_what_it_expects(told: Any, script: str, check: str) -> None:
    """One check; all of a script are run."""
    needed(SCRIPTS[script])
    failure = told(script)[check]
    assert failure is None, failure


@pytest.mark.slow
def test_the_documented_example_runs(served: dict[str, Any]) -> None:
    """As it is written, but for the address; with what it says that it gives."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0].replace("127.0.0.1:8000", served["address"])
    said = [line.split("#")[1].strip() for line in code.splitlines() if "#" in line]
    code += """
print(result.as_numpy("label").tolist())
print(result.as_numpy("probabilities").dtype, result.as_numpy("probabilities").shape, sep=", ")
print('"' + result.get_response()["parameters"]["operating_point"] + '"')
"""
    command = [needed("triton"), "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("'", '"').splitlines() == [line.replace("'", '"') for line in said]


@pytest.mark.slow
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("point", [None, "all"])
def test_mlserver_infer(served: dict[str, Any], tmp_path: Path, binary: bool, point: str | None) -> None:
    """One request a line; the operating point is a header, since parameters are not sent on."""
    python = needed("mlserver")
    item = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32"}
    lines = [json.dumps({"inputs": [{**item, "data": row.tolist()}]}) for row in X]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    command = [str(Path(python).with_name("mlserver")), "infer", "-u", served["address"], "-m", "fraud",
               "-i", "in.jsonl", "-o", "out.jsonl", "-s", "2"]  # fmt: skip
    command += (["-b"] if binary else []) + (["-H", f"Setpoint-Operating-Point:{point}"] if point else [])
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    replies = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {reply["parameters"]["operating_point"] for reply in replies} == {f"{point}@1" if point else "argmax@1"}
    outputs = [{output["name"]: output["data"] for output in reply["outputs"]} for reply in replies]
    found = sorted((*each["logits"], each["label"][0]) for each in outputs)  # they come in any order
    labels = ["fraud"] * len(X) if point else [("clear", "fraud")[i] for i in LOGITS.argmax(axis=1)]
    expected = sorted((*row, label) for row, label in zip(LOGITS.tolist(), labels, strict=True))
    assert [label for *_, label in found] == [label for *_, label in expected]
    assert np.allclose([row[:2] for row in found], [row[:2] for row in expected], atol=1e-5)
