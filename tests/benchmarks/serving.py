"""Serving beside what it costs at least: `python -m tests.benchmarks.serving [REPEATS [SECONDS]]`.

Ours, a bare ASGI app with the same model, and plain FastAPI are asked in turn, several times over, by one client in a
process of its own; servers and client each keep to a core of their own. What counts are the ratios within a round: a
busy machine slows both sides of a ratio alike.
"""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson

from calibrate import OperatingPoint
from service.client import Client
from tests.benchmarks import wrk
from tests.benchmarks.load import Taken
from tests.benchmarks.networks import mlp, resnet18
from tests.servers import free_port

TOKEN = "a-token-for-the-benchmark"  # of a server that nobody else reaches
WIDTH = 30
POINTS = [f"p{i}" for i in range(10)]


@contextmanager
def started(command: list[str], cores: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process on some cores, ended at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", cores, *command], stdout=log, stderr=log, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def wait_for(address: str) -> None:
    """Returns when the address answers, whatever it says."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(address, timeout=5)  # noqa: S310
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(address)


def request(path: str, body: bytes, **headers: str) -> bytes:
    """A whole HTTP request."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Driver:
    """The client, on a core of its own."""

    def __init__(self, core: str) -> None:
        self._core = core
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load", core], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, port: int, request: bytes, seconds: float, connections: int = 16, rate: float | None = None) -> Taken:
        """One load, to its end: `rate` requests a second, or without it as many as are answered."""
        if rate is None:
            return wrk.ask(port, request, seconds, connections, self._core)
        assert self._process.stdin
        assert self._process.stdout
        load = {"port": port, "request": base64.b64encode(request).decode(), "connections": connections,
                "seconds": seconds, "rate": rate}  # fmt: skip
        self._process.stdin.write(json.dumps(load).encode() + b"\n")
        self._process.stdin.flush()
        return Taken(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


@dataclass(frozen=True)
class Round:
    """One load, and the time that the server's process spent on a core for each answer."""

    taken: Taken
    core_us: float


@dataclass(frozen=True)
class Contender:
    """A server and what it is asked."""

    process: int
    port: int
    request: bytes


def core_s(process: int) -> float:
    """Seconds that a process and those it started have spent on cores, all their threads together."""
    ticks = 0
    for each in family(process):
        with suppress(OSError):  # ended meanwhile
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(process: int) -> list[int]:
    """The process and those that it started, and they."""
    found = [process]
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += family(int(child))
    return found


def in_rounds(
    driver: Driver, contenders: Mapping[str, Contender], rounds: int, seconds: float
) -> dict[str, list[Round]]:
    """Each contender once a round, in an order that turns round."""
    found: dict[str, list[Round]] = {name: [] for name in contenders}
    for asked in contenders.values():
        driver.ask(asked.port, asked.request, 0.3)
    for i in range(rounds):
        order = list(contenders) if i % 2 == 0 else list(contenders)[::-1]
        for name in order:
            asked, before = contenders[name], core_s(contenders[name].process)
            taken = driver.ask(asked.port, asked.request, seconds)
            spent = core_s(asked.process) - before
            found[name].append(Round(taken, 1e6 * spent / max(1, taken.answers)))
    return found


def table(title: str, found: Mapping[str, list[Round]]) -> str:
    """Medians, and the median over the rounds of ours beside each other: by answers a second, and by core time."""
    ours = next(iter(found))
    lines = [f"### {title}", "",
             "| | answers a second | p50 ms | p99 ms | errors | core us an answer | ours beside it | by core time |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, rounds in found.items():
        pairs = list(zip(found[ours], rounds, strict=True))
        speed = span([mine.taken.per_second / its.taken.per_second for mine, its in pairs])
        cores = span([its.core_us / mine.core_us for mine, its in pairs])
        per_second, p50, p99 = (
            median(getattr(each.taken, field) for each in rounds) for field in ("per_second", "p50_ms", "p99_ms")
        )
        core = median(each.core_us for each in rounds)
        errors = sum(each.taken.errors for each in rounds)
        lines.append(
            f"| {name} | {per_second:.0f} | {p50:.2f} | {p99:.2f} | {errors} | {core:.0f} | {speed} | {cores} |"
        )
    return "\n".join(lines) + "\n"


def span(ratios: list[float]) -> str:
    """Median, least and most."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def npy(rows: np.ndarray) -> bytes:
    """As a `.npy` file."""
    made = io.BytesIO()
    np.save(made, rows)
    return made.getvalue()


def infer_request(rows: np.ndarray, **headers: str) -> bytes:
    """As `tritonclient` sends one."""
    head, body = infer_body(rows)
    headers["inference_header_content_length"] = str(head)
    return request("/v2/models/m/infer", body, **headers)


def infer_body(rows: np.ndarray) -> tuple[int, bytes]:
    """A JSON head, whose length is told, and the raw tensor behind it, with three raw outputs wanted."""
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in ("label", "probabilities", "margin")]
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    head = orjson.dumps({
        "parameters": {"operating_point": "p3"},
        "inputs": [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}],
        "outputs": wanted,
    })  # fmt: skip
    return len(head), head + rows.tobytes()


def rows_of(n: int) -> np.ndarray:
    """Rows as a client has them."""
    return np.random.default_rng(n).normal(size=(n, WIDTH)).astype(np.float32)


def main() -> None:
    """Every pair."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    folder = Path(tempfile.mkdtemp())
    (folder / "mlp.onnx").write_bytes(mlp(WIDTH, 128, 64, 2))
    ports = {name: free_port() for name in ("ours", "asgi", "fastapi")}
    bare = [sys.executable, "-m", "tests.benchmarks.bare_apps"]
    with ExitStack() as stack:
        command = [sys.executable, "-m", "service", "serve", "--data", str(folder / "data"), "--port"]
        commands = {"ours": [*command, str(ports["ours"])]}
        for kind in ("asgi", "fastapi"):
            commands[kind] = [*bare, kind, str(folder / "mlp.onnx"), str(ports[kind])]
        servers = {
            name: stack.enter_context(started(command, "0", SETPOINT_TOKEN=TOKEN)).pid
            for name, command in commands.items()
        }
        for port in ports.values():
            wait_for(f"http://127.0.0.1:{port}/health/ready")
        _publish(f"http://127.0.0.1:{ports['ours']}", folder)
        driver = Driver("1")
        stack.callback(driver.close)
        pairs = _pairs(servers, ports)
        for title, contenders in pairs.items():
            if only in title:
                print(table(title, in_rounds(driver, contenders, rounds, seconds)), flush=True)
        if only in _HEAVY:
            _heavy(driver, folder, servers["ours"], ports["ours"], rounds, seconds)
        if only in _MANY:
            _many(driver, folder, ports["ours"], pairs["1 row, JSON"], rounds, seconds)


_HEAVY = "a network as large as a ResNet-18, 32 callers of one picture"
_MANY = "a thousand published points beside ten, 1 row, JSON"
_SIDE = 224


def _heavy(driver: Driver, folder: Path, process: int, port: int, rounds: int, seconds: float) -> None:
    """Rows a core second of the server, beside those of ONNX Runtime alone on the same core with its best batch."""
    path = folder / "resnet18.onnx"
    path.write_bytes(resnet18(_SIDE))
    with Client(f"http://127.0.0.1:{port}") as client:
        client.register(path, "pictures", classes='["cat", "dog"]')
    picture = np.random.default_rng(0).normal(size=(1, 3, _SIDE, _SIDE)).astype(np.float32)
    ask = request("/predict?model=pictures", npy(picture), authorization=f"Bearer {TOKEN}")
    driver.ask(port, ask, 1, 32)
    best, same = [], []
    lines = [f"### {_HEAVY}", "", "| server | rows a run | alone, by rows a run | beside the best | beside the same |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    alone_on_it = ["taskset", "--cpu-list", "0", sys.executable, "-m", "tests.benchmarks.bare_apps", "offline"]
    for _ in range(rounds):
        before, runs = core_s(process), _runs(port)
        taken = driver.ask(port, ask, max(seconds, 8), 32)
        ours = taken.answers / (core_s(process) - before)
        many = max(1, round(taken.answers / (_runs(port) - runs)))
        sizes = ",".join(map(str, sorted({1, 4, 16, 32, many})))
        said = subprocess.run([*alone_on_it, str(path), sizes], capture_output=True, check=True)
        alone: dict[str, float] = json.loads(said.stdout)
        best.append(ours / max(alone.values()))
        same.append(ours / alone[str(many)])
        shown = ", ".join(f"{rows}: {speed:.1f}" for rows, speed in alone.items())
        told = f"{ours:.1f} ({taken.errors} errors, p99 {taken.p99_ms:.0f} ms) | {many} | {shown}"
        lines.append(f"| {told} | {best[-1]:.3f} | {same[-1]:.3f} |")
    said_all = f"Rows a core second; median {median(best):.3f} of the best, {median(same):.3f} of the same batches."
    print("\n".join([*lines, "", said_all, ""]), flush=True)


def _runs(port: int) -> float:
    """How often the server has run the pictures' model."""
    ask = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(ask, timeout=10) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith('setpoint_model_runs_total{model="pictures"')
    )


def _many(driver: Driver, folder: Path, port: int, pairs: Mapping[str, Contender], rounds: int, seconds: float) -> None:
    """The same question before and after, each beside the bare app at its time."""
    only = {name: pairs[name] for name in ("ours", "bare ASGI")}
    print(table(f"{_MANY}: before", in_rounds(driver, only, rounds, seconds)), flush=True)
    with Client(f"http://127.0.0.1:{port}") as client:
        for i in range(1000 - len(POINTS)):
            client.publish(folder / "point.json", "m", name=f"many{i}", model_version=None)
    print(table(f"{_MANY}: after", in_rounds(driver, only, rounds, seconds)), flush=True)


def _publish(address: str, folder: Path) -> None:
    os.environ["SETPOINT_TOKEN"] = TOKEN
    with Client(address) as client:
        client.register(folder / "mlp.onnx", "m", classes='["clear", "fraud"]')
        for i, name in enumerate(POINTS):
            OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0, i / 10])).save(folder / "point.json")
            client.publish(folder / "point.json", "m", name=name, model_version=None)


def _pairs(servers: Mapping[str, int], ports: Mapping[str, int]) -> dict[str, dict[str, Contender]]:
    auth = {"authorization": f"Bearer {TOKEN}"}

    def ours(n: int, **more: Any) -> Contender:
        ask = {"model": "m", "operating_point": "p3", "inputs": rows_of(n).tolist(), **more}
        return Contender(servers["ours"], ports["ours"], request("/predict", orjson.dumps(ask), **auth))

    def plain(kind: str, n: int) -> Contender:
        body = orjson.dumps({"inputs": rows_of(n).tolist()})
        return Contender(servers[kind], ports[kind], request("/", body, content_type="application/json"))

    pairs = {
        f"{n} row{'s' if n > 1 else ''}, JSON": {
            "ours": ours(n), "bare ASGI": plain("asgi", n), "FastAPI + pydantic": plain("fastapi", n),
        }
        for n in (1, 64)
    }  # fmt: skip
    for n in (64, 256):
        rows = rows_of(n)
        ask = request("/predict?model=m&operating_point=p3", npy(rows), accept="application/x-npy", **auth)
        pairs[f"{n} rows, binary"] = {
            "ours": Contender(servers["ours"], ports["ours"], ask),
            "bare ASGI": Contender(servers["asgi"], ports["asgi"], request("/binary", rows.tobytes())),
        }
        pairs[f"{n} rows, Open Inference Protocol, binary"] = {
            "ours": Contender(servers["ours"], ports["ours"], infer_request(rows, **auth)),
            "bare ASGI": Contender(servers["asgi"], ports["asgi"], request("/binary", rows.tobytes())),
        }
    for n in (1, 64):
        pairs[f"ten points beside one, {n} rows JSON"] = {
            "ten in `compare`": ours(n, compare=POINTS),
            "one": ours(n),
        }
    pairs["one point a row beside one, 64 rows JSON"] = {
        "one of ten for each row": ours(64, operating_point=[POINTS[i % 10] for i in range(64)]),
        "one": ours(64),
    }
    return pairs


if __name__ == "__main__":
    main()
