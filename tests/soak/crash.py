"""Kill -9 of a server, or of its workers, at random moments under load; then everything is looked at again.

Afterwards every acknowledged change must be there, no half of another, the audit trail whole and leading through the
head that was last seen, and no answer wrong. A change whose acknowledgement was cut off may be there or not, whole.
"""

import asyncio
import random
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import URL

from service.storage import trail
from service.storage.database import Database
from service.storage.trail import Head
from tests.servers import Server, running
from tests.soak import truth
from tests.soak.client import Connection, Said
from tests.soak.moving import publish, register
from tests.soak.truth import MODEL, Known


@dataclass
class Ledger:
    """What the clients know: what was acknowledged, what was asked for and cut off, and what should not have been."""

    known: Known = field(default_factory=Known)
    acknowledged: dict[str, str] = field(default_factory=dict)  # label -> digest
    cut_off: set[str] = field(default_factory=set)  # names whose publication was not answered
    default: str = "argmax@1"
    default_cut_off: str | None = None
    calibrations: dict[str, str] = field(default_factory=dict)  # name -> label, of those that were answered
    calibrations_cut_off: set[str] = field(default_factory=set)
    head: Head = field(default_factory=lambda: Head(0, trail.START))
    refused: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Survived:
    """What came of all the kills."""

    servers_killed: int
    workers_killed: int
    answers: int
    changes: int
    calibrations: int
    resumed: int
    cut_off: int
    faults: list[str]
    seconds: float


def run(folder: Path, address: URL, kills: int, *, seed: int = 0) -> Survived:
    """Kills a server on that database `kills` times; the model files and the rest of its state are in the folder."""
    rng = random.Random(seed)  # noqa: S311
    ledger, started = Ledger(), time.monotonic()
    settings: dict[str, str] = {} if address.get_backend_name() == "sqlite" else {"SETPOINT_DATABASE": _plain(address)}
    workers, cut_off, resumed = 0, 0, 0
    for number in range(kills + 1):
        with running(folder, **settings) as server:
            if number == 0:
                asyncio.run(_register(server.address))
            resumed += asyncio.run(_look_again(server.address, ledger))
            _check_trail(address, ledger)
            if number == kills:
                break
            workers += asyncio.run(_load(server, ledger, number, rng))
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.kill()
            server.process.wait()
            cut_off += len(ledger.cut_off) + len(ledger.calibrations_cut_off) + (ledger.default_cut_off is not None)
            _, left = psutil.wait_procs(children, timeout=10)
            ledger.faults += [f"after kill {number} a worker lives on: {child}" for child in left]
    return Survived(
        kills,
        workers,
        ledger.known.answers,
        len(ledger.acknowledged),
        len(ledger.calibrations),
        resumed,
        cut_off,
        [*ledger.faults, *ledger.known.wrong, *ledger.refused],
        time.monotonic() - started,
    )


def _plain(address: URL) -> str:
    return address.set(drivername="postgresql").render_as_string(hide_password=False)


async def _register(address: str) -> None:
    async with Connection(address) as connection:
        await register(connection)


async def _load(server: Server, ledger: Ledger, round_: int, rng: random.Random) -> int:
    """Loads a server until the moment of its kill; tells how many workers were killed before."""
    tasks = [
        asyncio.create_task(work)
        for work in (
            _publish(server.address, ledger, round_),
            _calibrate(server.address, ledger, round_),
            *(_predict(server.address, ledger, rng.random()) for _ in range(3)),
        )
    ]
    killed = 0
    until = time.monotonic() + rng.uniform(0.2, 2.0)
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        children = psutil.Process(server.process.pid).children(recursive=True)
        if children and rng.random() < 0.3:
            with suppress(psutil.NoSuchProcess):  # it had just ended by itself
                rng.choice(children).kill()
                killed += 1
    server.process.kill()  # while all of them are at work
    done, pending = await asyncio.wait(tasks, timeout=20)
    ledger.faults += [f"a client was left without an end in round {round_}" for _ in pending]
    for task in pending:
        task.cancel()
    ledger.faults += [repr(task.exception()) for task in done if not isinstance(task.exception(), OSError)]
    return killed


async def _predict(address: str, ledger: Ledger, seed: float) -> None:
    rng = random.Random(seed)  # noqa: S311
    async with Connection(address) as connection:
        while True:
            rows = [rng.randrange(truth.ROWS) for _ in range(rng.choice([1, 5]))]
            body: dict[str, Any] = {"model": MODEL, "inputs": truth.inputs(rows)}
            if rng.random() < 0.5 and ledger.acknowledged.keys() & ledger.known.bias.keys():
                body["operating_point"] = rng.choice(
                    [label for label in ledger.acknowledged if label in ledger.known.bias]
                )
            said = await connection.call("POST", "/predict", body)
            if said.status == 200:
                ledger.known.check(rows, said.json())
            else:
                ledger.refused.append(f"predict: {said.status} {said.body[:200]!r}")


async def _publish(address: str, ledger: Ledger, round_: int) -> None:
    """Publishes points and moves the default to every other one."""
    async with Connection(address) as connection:
        for number, bias in enumerate(truth.biases(1000, seed=round_)):
            name = f"p{round_}-{number}"
            ledger.cut_off.add(name)
            ledger.known.bias[f"{name}@1"] = bias
            said = await publish(connection, name, bias)
            _expect(ledger, said, 201)
            label = said.json()["operating_point"]
            ledger.acknowledged[label] = said.json()["digest"]
            ledger.cut_off.discard(name)
            if number % 2:
                ledger.default_cut_off = label
                body = {"model_version": 1, "operating_point": label, "reason": "soak"}
                _expect(ledger, await connection.call("PUT", f"/models/{MODEL}/default", body), 200)
                ledger.default, ledger.default_cut_off = label, None
            entry = (await connection.call("GET", "/audit?limit=1")).json()[0]
            ledger.head = Head(entry["number"], entry["hash"])


async def _calibrate(address: str, ledger: Ledger, round_: int) -> None:
    async with Connection(address) as connection:
        for number in range(1000):
            name = f"c{round_}-{number}"
            ledger.calibrations_cut_off.add(name)
            said = await _ask_for(connection, name)
            ledger.calibrations_cut_off.discard(name)
            _take(ledger, name, said)


async def _ask_for(connection: Connection, name: str) -> Said:
    """Asks for a calibration under a key of its own, so that asking again is asking for the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    labels = np.arange(60) % 2
    data = {"labels": labels.tolist(), "logits": rng.normal(size=(60, 2)).tolist()}
    body = {"model": MODEL, "name": name, "metric": "f1", "data": data}
    return await connection.call("POST", "/calibrate", body, {"Idempotency-Key": name})


def _take(ledger: Ledger, name: str, said: Said) -> None:
    """Writes down a calibration that is done. One whose process was killed each time it was tried may fail for that,
    and then its point must not be there: nobody asked for it any more.
    """
    if said.status != 500 or b"job-lost" not in said.body:
        _expect(ledger, said, 201)
    if said.status == 201:
        ledger.calibrations[name] = said.json()["operating_point"]


def _expect(ledger: Ledger, said: Said, status: int) -> None:
    if said.status != status:
        ledger.refused.append(f"wanted {status}, got {said.status} {said.body[:200]!r}")


async def _look_again(address: str, ledger: Ledger) -> int:
    """Holds the server against the ledger; calibrations that were cut off are asked for again, and counted."""
    async with Connection(address) as connection:
        for name in sorted(ledger.calibrations_cut_off):
            _take(ledger, name, await _ask_for(connection, name))
        resumed = len(ledger.calibrations_cut_off)
        ledger.calibrations_cut_off.clear()
        listed = (await connection.call("GET", f"/models/{MODEL}/operating-points")).json()
        found = {point["operating_point"]: point["digest"] for point in listed}
        for label, digest in ledger.acknowledged.items():
            if found.get(label) != digest:
                ledger.faults.append(f"{label} was acknowledged and is {found.get(label)}")
        for name, label in ledger.calibrations.items():
            if label != f"{name}@1" or label not in found:
                ledger.faults.append(f"calibration {name} was to be there once, and is {label}")
        expected = {"argmax@1", *ledger.acknowledged, *ledger.calibrations.values()}
        for label in found.keys() - expected:
            if label.removesuffix("@1") not in ledger.cut_off:
                ledger.faults.append(f"{label} is there, and nobody asked for it")
            ledger.acknowledged[label] = found[label]
        ledger.cut_off.clear()
        default = (await connection.call("GET", f"/models/{MODEL}")).json()["default"]["operating_point"]
        if default not in (ledger.default, ledger.default_cut_off):
            ledger.faults.append(f"the default is {default}, wanted {ledger.default} or {ledger.default_cut_off}")
        ledger.default, ledger.default_cut_off = default, None
    return resumed


def _check_trail(address: URL, ledger: Ledger) -> None:
    """The trail is whole; each publication has one entry, and the moves of the default lead from one to the next."""
    database = Database(address)
    try:
        with database.look() as step:
            ledger.faults += trail.faults(step, ledger.head)
            entries = trail.newest(step, 10**6)
    finally:
        database.close()
    entries.reverse()
    published = [entry.details["operating_point"] for entry in entries if entry.action == "publish"]
    if sorted(published) != sorted({*ledger.acknowledged, *ledger.calibrations.values()} - {"argmax@1"}):
        ledger.faults.append(f"the trail tells of {len(published)} publications, not of those that are there")
    at = "argmax@1"
    for entry in entries:
        if entry.action == "set default":
            if entry.details["from"]["operating_point"] != at:
                ledger.faults.append(f"entry {entry.number} moves the default from elsewhere than {at}")
            at = entry.details["to"]["operating_point"]
    if at != ledger.default:
        ledger.faults.append(f"the trail ends at the default {at}, the server at {ledger.default}")
