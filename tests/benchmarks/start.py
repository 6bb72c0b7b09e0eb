"""From start to ready with a small model, beside a bare FastAPI application that loads the same file."""

import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from service.client import Client
from tests.benchmarks.timing import Result, in_turn
from tests.models import network
from tests.servers import free_port, running

BARE = """
import sys, fastapi, onnxruntime, uvicorn
session = onnxruntime.InferenceSession(sys.argv[1])
app = fastapi.FastAPI()
app.get("/health/ready")(lambda: "ok")
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def start_to_ready() -> Result:
    """Process start, imports, store, model, first answer of `/health/ready`."""
    folder = Path(tempfile.mkdtemp())
    (folder / "net.onnx").write_bytes(network(2))
    with running(folder) as server, Client(server.address) as client:
        client.register(folder / "net.onnx", "m")

    def ours() -> str:
        return _ready([sys.executable, "-m", "service", "serve", "--data", str(folder / "data"), "--port"])

    def bare() -> str:
        return _ready([sys.executable, "-c", BARE, str(folder / "net.onnx")])

    return in_turn(
        "Start to ready, one small model", {"setpoint serve": ours, "bare FastAPI + ONNX Runtime": bare}, rounds=5
    )


def _ready(command: list[str]) -> str:
    port = free_port()
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as response:
                    return f"{response.status}"
            except OSError:
                time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
