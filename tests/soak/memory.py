"""Memory under a million requests of mixed shapes: what a server holds must not grow with what it has answered."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.servers import running
from tests.soak import truth
from tests.soak.client import Connection
from tests.soak.moving import publish, register
from tests.soak.truth import MODEL

STEPS = 10
GROWTH = 0.10  # of the memory after the first step


@dataclass(frozen=True)
class Held:
    """The resident memory in bytes after each tenth of the requests."""

    requests: int
    seconds: float
    bytes: list[int]
    faults: list[str]


def run(folder: Path, requests: int, *, clients: int = 8) -> Held:
    """Sends that many requests; the first tenth is to warm up."""
    with running(folder) as server:
        process, started, sizes, faults = psutil.Process(server.process.pid), time.monotonic(), [], []
        asyncio.run(_prepare(server.address))
        for step in range(STEPS):
            faults += asyncio.run(_send(server.address, requests // STEPS, clients, step))
            sizes.append(process.memory_info().rss)
    if sizes[-1] > (1 + GROWTH) * sizes[0]:
        faults.append(f"memory grew from {sizes[0]} to {sizes[-1]} bytes")
    return Held(requests, time.monotonic() - started, sizes, faults)


async def _prepare(address: str) -> None:
    async with Connection(address) as connection:
        await register(connection)
        for number in range(3):
            assert (await publish(connection, f"p{number}")).status == 201


async def _send(address: str, requests: int, clients: int, seed: int) -> list[str]:
    """Requests of one to 64 rows, by inputs and by logits, under one point, one a row, several; some of them bad."""
    faults: list[str] = []

    async def one(number: int) -> None:
        rng = random.Random(seed * clients + number)  # noqa: S311
        async with Connection(address) as connection:
            for _ in range(requests // clients):
                rows = [rng.randrange(truth.ROWS) for _ in range(rng.choice([1, 1, 1, 1, 2, 3, 7, 64]))]
                body: dict[str, Any] = {"model": MODEL, "inputs": truth.inputs(rows)}
                kind, wanted = rng.randrange(10), 200
                if kind == 0:
                    body["operating_point"] = [f"p{rng.randrange(3)}" for _ in rows]
                elif kind == 1:
                    body["compare"] = ["argmax", "p0", "p2"]
                elif kind == 2:
                    body["logits"] = [[0.0, rng.random()] for _ in rows]
                    del body["inputs"]
                elif kind == 3:
                    body["inputs"][0] = [rng.random()] * rng.choice([3, 5])
                    wanted = 422
                elif kind == 4:
                    body["operating_point"], wanted = f"nobody{rng.randrange(10**9)}", 404
                said = await connection.call("POST", "/predict", body)
                if said.status != wanted:
                    faults.append(f"wanted {wanted}, got {said.status}: {said.body[:200]!r}")

    await asyncio.gather(*(one(number) for number in range(clients)))
    return faults
