"""Serving beside other projects that serve the same ONNX file: `python -m tests.benchmarks.serving_peers [REPEATS
[SECONDS [CORES]]]`, or `make bench-serving PEERS=1`.

Each peer comes from an environment of its own, whose Python an environment variable names (`PEERS` below); one that is
not there is skipped, with a line saying how to make it. Each has the settings that its own documentation recommends
for many small requests, batching among them; the programs in `tests/benchmarks/peers` say which and why. Ours has keys
and metrics on, and answers the decision of each row, with probabilities and margin; the others answer logits.

Decided: peers run one at a time, so that none pays for another's idle work, and ours is asked in turn with each, in
every round. A server, with all its processes, keeps to `CORES` (core 0 unless told; `0,1` gives each server both, and
then the client competes with it); the client keeps to core 1. Answers are compared with ONNX Runtime's first.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from calibrate import OperatingPoint
from service.client import Client
from tests.benchmarks.bare_apps import open_session
from tests.benchmarks.networks import mlp
from tests.benchmarks.serving import (
    TOKEN,
    WIDTH,
    Contender,
    Driver,
    Round,
    family,
    in_rounds,
    request,
    rows_of,
    span,
    started,
    wait_for,
)
from tests.servers import free_port

PROGRAMS = Path(__file__).parent / "peers"
SIZES = (1, 64)
JSON = {"content_type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """Where a server takes rows, how it wants them, and how logits, up to a number for each row, are in its answer."""

    path: str
    body: Callable[[NDArray[np.float32]], object]
    logits: Callable[[Any], Any]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A project: the variable naming its Python, what to install there, how it is started and asked."""

    python: str
    packages: str
    command: Callable[[str, int, Path], list[str]]
    asked: Asked
    environment: Mapping[str, str]


def _mlserver(python: str, port: int, folder: Path) -> list[str]:
    """MLServer takes its settings from files."""
    model = {"name": "m", "implementation": "mlserver_app.Network", "max_batch_size": 16, "max_batch_time": 0.001}
    server = {"debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
              "metrics_port": free_port(), "metrics_dir": str(folder / "metrics"), "parallel_workers": 1}  # fmt: skip
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(server))
    return [python, "-c", "from mlserver.cli import main; main()", "start", str(folder)]


def _tensor(rows: NDArray[np.float32]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}]}


def _values(answer: Any) -> Any:
    """What the answer of the protocol has, as it is shaped."""
    return np.reshape(answer["outputs"][0]["data"], answer["outputs"][0]["shape"])


def _inputs(rows: NDArray[np.float32]) -> object:
    return {"inputs": rows.tolist()}


PEERS = {
    "LitServe": Peer(
        "SETPOINT_LITSERVE_PYTHON",
        "litserve pyzmq onnxruntime",
        lambda python, _, __: [python, str(PROGRAMS / "litserve_app.py")],
        Asked("/predict", _inputs, lambda answer: answer["outputs"], JSON),
        {},
    ),
    "MLServer": Peer(
        "SETPOINT_MLSERVER_PYTHON",
        "mlserver 'uvloop<0.22' onnxruntime",
        _mlserver,
        Asked(
            "/v2/models/m/infer",
            _tensor,
            _values,
            JSON,
        ),
        {},
    ),
    "BentoML": Peer(
        "SETPOINT_BENTOML_PYTHON",
        "bentoml onnxruntime",
        lambda python, port, _: [
            python, "-m", "bentoml", "serve", "bentoml_app:Network", "--working-dir", str(PROGRAMS),
            "--host", "127.0.0.1", "--port", str(port),
        ],
        Asked("/predict", _inputs, lambda answer: answer, JSON),
        {"BENTOML_DO_NOT_TRACK": "true"},
    ),
    "Ray Serve": Peer(
        "SETPOINT_RAY_PYTHON",
        "'ray[serve]' orjson onnxruntime",
        lambda python, _, __: [python, str(PROGRAMS / "ray_app.py")],
        Asked("/", _inputs, lambda answer: answer["outputs"], JSON),
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"},
    ),
}  # fmt: skip
OURS = Asked(
    "/predict",
    lambda rows: {"model": "m", "operating_point": "p", "inputs": rows.tolist()},
    lambda answer: np.log([row["probabilities"] for row in answer["predictions"]]),
    {"authorization": f"Bearer {TOKEN}"},
)

OURS_V2 = Asked(  # the protocol that MLServer speaks: the same request and an answer of the same size
    "/v2/models/m/infer",
    lambda rows: {**_tensor(rows), "parameters": {"operating_point": "p"}, "outputs": [{"name": "probabilities"}]},
    lambda answer: np.log(_values(answer)),
    {**JSON, **OURS.headers},
)


@contextmanager
def group(command: list[str], cores: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process on some cores, ended at the end with all that it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", cores, *command], stdout=output, stderr=output, cwd=log.parent,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        all_of_it = family(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for left in all_of_it:
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.wait(20)


def answer(port: int, asked: Asked, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What it answers, as logarithms of probabilities."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}{asked.path}",
        orjson.dumps(asked.body(rows)),
        {name.replace("_", "-"): value for name, value in asked.headers.items()},
    )
    with urllib.request.urlopen(ask, timeout=10) as response:  # noqa: S310
        return log_softmax(np.array(asked.logits(json.load(response)), dtype=np.float64))


def wait_for_answer(process: subprocess.Popen[bytes], port: int, asked: Asked, log: Path) -> None:
    """Returns when it answers a row; Raises RuntimeError with its output when it ended, or after two minutes."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            answer(port, asked, rows_of(1))
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no answer: {log.read_text(errors='replace')[-2000:]}")


def check(name: str, port: int, asked: Asked, network: Path) -> None:
    """Compares what it answers with ONNX Runtime's."""
    for n in SIZES:
        wanted = log_softmax(open_session(str(network)).run(None, {"x": rows_of(n)})[0])
        worst = np.abs(answer(port, asked, rows_of(n)) - wanted).max()
        if not worst < 1e-4:
            raise RuntimeError(f"{name} answers {n} rows otherwise than ONNX Runtime: by up to {worst:g}")


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """In float64."""
    return np.asarray(logits - np.logaddexp.reduce(np.asarray(logits, np.float64), axis=1, keepdims=True))


def contender(process: int, port: int, asked: Asked, n: int) -> Contender:
    """What the client sends, over and over."""
    return Contender(process, port, request(asked.path, orjson.dumps(asked.body(rows_of(n))), **asked.headers))


def lines(name: str, n: int, found: Mapping[str, list[Round]]) -> str:
    """Both, and ours beside it, round by round: median, least and most."""
    shown = []
    for rounds in found.values():
        taken = [each.taken for each in rounds]
        fields = [median(getattr(each, field) for each in taken) for field in ("per_second", "p50_ms", "p99_ms")]
        core, errors = median(each.core_us for each in rounds), sum(each.errors for each in taken)
        shown.append(f"{fields[0]:.0f} | {fields[1]:.2f} | {fields[2]:.2f} | {errors} | {core:.0f}")
    pairs = list(zip(*found.values(), strict=True))
    spans = (
        span([ours.taken.per_second / its.taken.per_second for ours, its in pairs]),
        span([its.core_us / ours.core_us for ours, its in pairs]),
        span([ours.taken.p99_ms / its.taken.p99_ms for ours, its in pairs]),
    )
    return f"| {name} | {n} | {shown[1]} | {shown[0]} | {' | '.join(spans)} |"


COLUMNS = (
    "", "rows", "answers a second", "p50 ms", "p99 ms", "errors", "core us an answer",
    "ours", "p50 ms", "p99 ms", "errors", "core us an answer", "ours beside it", "by core time", "p99 beside its",
)  # fmt: skip
HEADER = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def main() -> None:
    """Every peer that is there."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    cores = sys.argv[3] if len(sys.argv) > 3 else "0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = folder / "mlp.onnx"
        network.write_bytes(mlp(WIDTH, 128, 64, 2))
        port = free_port()
        command = [sys.executable, "-m", "service", "serve", "--data", str(folder / "data"), "--port", str(port)]
        ours = stack.enter_context(started(command, cores, SETPOINT_TOKEN=TOKEN)).pid
        wait_for(f"http://127.0.0.1:{port}/health/ready")
        publish(f"http://127.0.0.1:{port}", network)
        for asked in (OURS, OURS_V2):
            check("ours", port, asked, network)
        driver = Driver("1")
        stack.callback(driver.close)
        print(f"load of the machine at the start: {os.getloadavg()}\n\n{HEADER}", flush=True)
        for name, peer in PEERS.items():
            python = os.environ.get(peer.python)
            if not python:
                print(
                    f"{name} skipped: python -m venv V; V/bin/pip install {peer.packages}; {peer.python}=V/bin/python"
                )
                continue
            its_port, its_folder = free_port(), folder / peer.python
            its_folder.mkdir()
            command = peer.command(python, its_port, its_folder)
            environment = {
                "PORT": str(its_port),
                "NETWORK": str(network),
                "PYTHONPATH": str(PROGRAMS),
                **peer.environment,
            }
            with group(command, cores, its_folder / "log", **environment) as process:
                wait_for_answer(process, its_port, peer.asked, its_folder / "log")
                check(name, its_port, peer.asked, network)
                alike = {f"{name}, ours over /v2": OURS_V2} if peer.asked.path == OURS_V2.path else {}
                for n, (title, mine) in product(SIZES, {name: OURS, **alike}.items()):
                    its = contender(process.pid, its_port, peer.asked, n)
                    driver.ask(its_port, its.request, 2)
                    pair = {"ours": contender(ours, port, mine, n), "its": its}
                    print(lines(title, n, in_rounds(driver, pair, rounds, seconds)), flush=True)
        print(f"\nat the end: {os.getloadavg()}")


def publish(address: str, network: Path) -> None:
    """The network under the name m, and an operating point p."""
    os.environ["SETPOINT_TOKEN"] = TOKEN
    with Client(address) as client:
        client.register(network, "m", classes='["clear", "fraud"]')
        point = network.with_name("point.json")
        OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0, 0.3])).save(point)
        client.publish(point, "m", name="p", model_version=None)


if __name__ == "__main__":
    main()
