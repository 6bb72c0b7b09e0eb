"""A cache larger than it should have to fit in memory: the exact cut from Parquet, and the memory that it takes."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.timing import Result, Row

_PART = 5_000_000


def _write(folder: Path, rows: int, positives: float) -> None:
    """One logit and a label a row, in files of five million rows."""
    metadata = {b"setpoint": b'{"classes": ["no", "yes"]}'}
    for part in range(-(-rows // _PART)):
        rng = np.random.default_rng(part)
        n = min(_PART, rows - part * _PART)
        labels = (rng.random(n) < positives).astype(np.int8)
        logits = rng.standard_normal(n, dtype=np.float32) + 3 * labels.astype(np.float32)
        table = pa.table({"logits": logits, "labels": labels}).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{part:04}.parquet")


def _fit(pattern: str) -> None:
    """In a process of its own: the cut, the seconds, and the peak of its memory beyond what imports took."""
    from calibrate.io.parquet import open_cache
    from calibrate.streaming import fit_stream

    before = _peak_bytes()
    started = time.perf_counter()
    result = fit_stream(open_cache(pattern), metric="f1", evidence=False)
    taken = time.perf_counter() - started
    print(taken, result.parameters["cut"], _peak_bytes() - before)


def _peak_bytes() -> int:
    """The most memory this program has held; `getrusage` would tell that of the program that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def from_parquet(rows: int = 100_000_000, positives: float = 0.002) -> Result:
    """The same fit of a tenth of the rows stands beside it: memory must not grow with them."""
    found = []
    for n in (rows, rows // 10):
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), n, positives)
            command = [sys.executable, "-m", "tests.benchmarks.streams", f"{folder}/*.parquet"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds, cut, grown = map(float, said)
        answer = f"cut {cut:.6f}, memory grew by {grown / 2**20:.0f} MiB, logits are {n * 4 / 2**20:.0f} MiB"
        found.append(Row(f"fit_stream, {n:,} rows", seconds, answer))
    return Result(f"Best cut for F1 from Parquet, {rows:,} rows, {positives:.1%} positive", found)


if __name__ == "__main__":
    _fit(sys.argv[1])
