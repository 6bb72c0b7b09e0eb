"""Closed loop: each connection asks again when it has its answer, which tells the throughput. Driven by wrk, which is
compiled: a client in Python is at its end before a small model is.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.load import Taken

# What wrk runs for each thread: the same bytes every time; its last lines are what came back.
_SCRIPT = """
local file = io.open("REQUEST", "rb")
local whole = file:read("*a")
file:close()
request = function() return whole end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"answers": %d, "seconds": %f, "errors": %d, "ms": [%f, %f, %f]}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


def ask(port: int, request: bytes, seconds: float, connections: int, core: str) -> Taken:
    """A whole HTTP request, asked on so many connections for so many whole seconds, from a core of its own."""
    if not shutil.which("wrk"):
        raise SystemExit("this benchmark asks with wrk, and it is not there: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        whole, script = Path(folder, "request"), Path(folder, "script.lua")
        whole.write_bytes(request)
        script.write_text(_SCRIPT.replace("REQUEST", str(whole)))
        command = [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            str(max(1, round(seconds))),
        ]
        said = subprocess.run(
            [
                "taskset",
                "--cpu-list",
                core,
                *command,
                "--timeout",
                "60",
                "--script",
                script,
                f"http://127.0.0.1:{port}/",
            ],
            capture_output=True,
            check=True,
        )
    told = json.loads(said.stdout.splitlines()[-1])
    return Taken(told["answers"], told["answers"] / told["seconds"], told["errors"], *told["ms"])
