"""A real server process: what it loads, what it keeps, when it refuses to start."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.client import Client
from tests.models import WIDTH, network
from tests.servers import Server, running


def mapped(server: Server) -> str:
    """The libraries in the memory of the process."""
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    return maps.read_text()


def test_the_server_never_imports_torch(tmp_path: Path) -> None:
    """Not to start, not to register, predict or calibrate."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    with running(tmp_path) as server:
        (tmp_path / "net.onnx").write_bytes(network(2))
        with Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m")
        data = {"logits": rng.normal(labels).tolist(), "labels": labels.tolist()}
        server.post("/calibrate", {"model": "m", "name": "p", "metric": "f1", "data": data})
        server.post("/predict", {"model": "m", "inputs": [[0.0] * WIDTH], "operating_point": "p"})
        libraries = mapped(server)
        assert "onnxruntime" in libraries
        assert "torch" not in libraries


def test_the_runtime_is_told_to_report_nothing_to_its_makers() -> None:
    """Before it is imported, by whatever way the server is started; a setting from outside stands."""
    code = "import os, service.main; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for given, said in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=clean | given, check=True
        )
        assert done.stdout.strip() == said


def test_starting_imports_neither_torch_nor_onnx() -> None:
    """What takes long to import and is seldom needed waits until it is."""
    slow = ("torch", "onnx", "scipy", "rich")
    code = f"import sys, service.cli, service.main; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_done_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    """Acknowledged means kept: the process is ended at once, without a chance to tidy up."""
    ask = {"model": "m", "inputs": [[0.5, -1.0, 2.0, 0.0]]}
    with running(tmp_path) as server:
        (tmp_path / "net.onnx").write_bytes(network(2))
        with Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m", classes='["a", "b"]')
        point = {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0.1]}
        server.post("/models/m/operating-points", {"name": "p", "point": point})
        with Client(server.address) as client:
            client.set_default("m", model_version=1, point="p", reason="test")
        before = server.post("/predict", ask)
        server.process.kill()
        server.process.wait()
    with running(tmp_path) as server:
        after = server.post("/predict", ask)
        assert (after["operating_point"], after["predictions"]) == ("p@1", before["predictions"])
        assert [entry["action"] for entry in server.get("/audit")] == ["set default", "publish", "register"]


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    """It does not start without, and says what to do; with one it answers those who carry it."""
    command = [sys.executable, "-m", "service", "serve", "--host", "0.0.0.0", "--data", str(tmp_path)]  # noqa: S104
    clean = {name: value for name, value in os.environ.items() if name != "SETPOINT_TOKEN"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean, check=False)
    assert done.returncode == 1
    assert "set SETPOINT_TOKEN" in done.stderr
    clean["SETPOINT_TOKEN"] = "short"
    short = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean, check=False)
    assert short.returncode == 1
    assert short.stderr == "error: SETPOINT_TOKEN must have at least 16 characters\n"
    clean["SETPOINT_TOKEN"] = ""
    empty = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean, check=False)
    assert "set SETPOINT_TOKEN" in empty.stderr


def test_a_port_that_is_taken_is_an_error(server: Server, tmp_path: Path) -> None:
    """The second server ends, the first goes on."""
    port = server.address.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "service", "serve", "--port", port, "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: port {port} is in use\n")
    assert list(tmp_path.iterdir()) == []
    assert server.get("/health/live")["status"] == "ok"


def test_a_database_that_is_not_there_ends_the_server_with_one_line(tmp_path: Path) -> None:
    """Its password is in none of it."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--data", str(tmp_path)]
    given = os.environ | {"SETPOINT_DATABASE": "postgresql://me:secret-word@127.0.0.1:9/none"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=given, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the database postgresql://me:***@127.0.0.1:9/none cannot be used: ")
    assert done.stderr.count("\n") == 1
    assert "secret-word" not in done.stderr + done.stdout
