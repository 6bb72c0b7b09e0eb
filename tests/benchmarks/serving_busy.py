"""Predictions while a calibration of 10^6 rows runs: `python -m tests.benchmarks.serving_busy [REPEATS [SECONDS
[CORES]]]`, or `make bench-serving BUSY=1`.

Open loop at a quarter of the capacity just measured: requests leave at times fixed beforehand, and waiting counts. In
each round the server is idle, then takes the upload (`arriving`), then fits (`running`), then the job is cancelled;
what counts are the ratios within a round. Decided: the server keeps to `CORES` with all it starts, so on core 0 alone,
the default, the job's process can only have what predictions leave.
"""

import http.client
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
import orjson

from tests.benchmarks.load import Taken
from tests.benchmarks.networks import mlp
from tests.benchmarks.serving import TOKEN, WIDTH, Driver, request, rows_of, span, started, wait_for
from tests.benchmarks.serving_peers import OURS, publish
from tests.servers import free_port

ROWS = 10**6
RUNNING = ("fitting", "evidence", "scores", "curve")  # stages of a job that has its rows
BOUNDARY = "rows"


def upload() -> bytes:
    """A form with a million rows, one positive in about thirty, as `.npz`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=ROWS).astype(np.float32)
    data = io.BytesIO()
    np.savez(data, logits=logits, labels=(rng.random(ROWS) < 1 / (1 + np.exp(4 - logits))).astype(np.int64))
    spec = json.dumps({"model": "m", "name": "calibrated", "metric": "f1"}).encode()
    part = b'--rows\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    return part % (b"spec", b"", spec) + part % (b"data", b'; filename="d.npz"', data.getvalue()) + b"--rows--\r\n"


class Jobs:
    """Asks for calibrations, looks at them and cancels them."""

    def __init__(self, port: int) -> None:
        self._port, self._form = port, upload()
        self._path = ""

    def _call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, path, body, {"authorization": f"Bearer {TOKEN}", **headers})
        response = connection.getresponse()
        found = response.status, response.read(), response.headers.get("location", "")
        connection.close()
        return found

    def ask(self) -> None:
        """Sends the million rows; returns when the server has them."""
        form = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "prefer": "respond-async"}
        status, said, self._path = self._call("POST", "/calibrate", self._form, **form)
        if status != 202:
            raise RuntimeError(f"{status}: {said[:500]!r}")

    def look(self) -> tuple[str, str]:
        """Its state and stage."""
        job = json.loads(self._call("GET", self._path)[1])
        return job["state"], (job.get("progress") or {}).get("stage", "")

    def wait_until_running(self) -> None:
        """Returns when it has its rows and fits. Raises RuntimeError when it is over before."""
        while (found := self.look())[1] not in RUNNING:
            if found[0] not in ("queued", "running"):
                raise RuntimeError(f"the job is over: {found}")
            time.sleep(0.1)

    def cancel(self) -> None:
        """Ends it."""
        self._call("DELETE", self._path)
        while self.look()[0] in ("queued", "running"):
            time.sleep(0.1)


def main() -> None:
    """Rounds of idle, arriving, running."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
    cores = sys.argv[3] if len(sys.argv) > 3 else "0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "mlp.onnx").write_bytes(mlp(WIDTH, 128, 64, 2))
        port = free_port()
        command = [sys.executable, "-m", "service", "serve", "--data", str(folder / "data"), "--port", str(port)]
        stack.enter_context(started(command, cores, SETPOINT_TOKEN=TOKEN))
        wait_for(f"http://127.0.0.1:{port}/health/ready")
        publish(f"http://127.0.0.1:{port}", folder / "mlp.onnx")
        driver, jobs = Driver("1"), Jobs(port)
        stack.callback(driver.close)
        ask = request(OURS.path, orjson.dumps(OURS.body(rows_of(1))), **OURS.headers)
        driver.ask(port, ask, 1)
        capacity = median(driver.ask(port, ask, 2).per_second for _ in range(3))
        print(f"load of the machine {os.getloadavg()}; capacity {capacity:.0f} a second, asked {capacity / 4:.0f}")
        found: dict[str, list[Taken]] = defaultdict(list)
        over = 0
        for _ in range(rounds):
            found["idle"].append(driver.ask(port, ask, seconds, rate=capacity / 4))
            sending = threading.Thread(target=jobs.ask)
            sending.start()
            found["arriving"].append(driver.ask(port, ask, seconds, rate=capacity / 4))
            sending.join()
            jobs.wait_until_running()
            found["running"].append(driver.ask(port, ask, seconds, rate=capacity / 4))
            over += jobs.look()[0] != "running"
            jobs.cancel()
        print(table(found))
        print(f"The job was over before its slice in {over} of {rounds} rounds; load at the end {os.getloadavg()}")


def table(found: dict[str, list[Taken]]) -> str:
    """Medians over the rounds, and p99 beside that of the idle server in the same round."""
    lines = ["| server | answers a second | p50 ms | p99 ms | errors | p99 beside idle |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for kind, taken in found.items():
        speed, p50, p99 = (median(getattr(each, name) for each in taken) for name in ("per_second", "p50_ms", "p99_ms"))
        beside = span([mine.p99_ms / idle.p99_ms for mine, idle in zip(taken, found["idle"], strict=True)])
        errors = sum(each.errors for each in taken)
        lines.append(f"| {kind} | {speed:.0f} | {p50:.2f} | {p99:.2f} | {errors} | {beside} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
