"""Predictions while points are published, promoted and rolled back: not one may fail, or mix two points."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.soak import truth
from tests.soak.client import Connection, Said
from tests.soak.truth import MODEL, Known


@dataclass(frozen=True)
class Moved:
    """What happened in a run."""

    seconds: float
    answers: int
    failed: list[str]
    wrong: list[str]
    published: int
    moved: int
    late: int
    points: int


async def register(connection: Connection) -> None:
    """Registers the model of `truth`."""
    edge = b"--edge\r\nContent-Disposition: form-data; name="
    form = edge + b'"name"\r\n\r\n' + MODEL.encode() + b"\r\n" + edge + b'"classes"\r\n\r\n["clear", "fraud"]\r\n'
    form += edge + b'"file"; filename="m.onnx"\r\n\r\n' + truth.model() + b"\r\n--edge--\r\n"
    said = await connection.call("POST", "/models", form, {"Content-Type": "multipart/form-data; boundary=edge"})
    assert said.status == 201, said.body


async def publish(connection: Connection, name: str, bias: float = 0.25) -> Said:
    """Publishes a point of that name and bias."""
    body = {"name": name, "point": truth.point(bias)}
    return await connection.call("POST", f"/models/{MODEL}/operating-points", body)


async def run(address: str, seconds: float, *, clients: int = 8, every_s: float = 1.0) -> Moved:
    """Predicts on `clients` connections for some seconds, and changes something every `every_s`.

    In turn a point is published, made the default, and the default put back. `late` counts answers to a bare request
    sent after a move was acknowledged that named neither that default nor a later one.
    """
    known, failed = Known(), []
    until = float("inf")
    default = ["argmax@1"]  # every default in turn; the last is the current one
    late = published = 0

    async def predict(seed: int) -> None:
        nonlocal late
        rng = random.Random(seed)  # noqa: S311
        async with Connection(address) as connection:
            while time.monotonic() < until:
                rows = [rng.randrange(truth.ROWS) for _ in range(rng.choice([1, 1, 1, 3, 16]))]
                body: dict[str, Any] = {"model": MODEL, "inputs": truth.inputs(rows)}
                names = list(known.bias)
                kind = rng.randrange(4)
                if kind == 1:
                    body["operating_point"] = rng.choice(names)
                elif kind == 2:
                    body["operating_point"] = [rng.choice(names) for _ in rows]
                elif kind == 3:
                    body["compare"] = rng.sample(names, min(3, len(names)))
                since = len(default) - 1
                said = await connection.call("POST", "/predict", body)
                if said.status != 200:
                    failed.append(f"{said.status}: {said.body[:300]!r}")
                    continue
                answer = said.json()
                known.check(rows, answer)
                moving = [*default[since:], *coming]
                late += kind in (0, 3) and answer["operating_point"] not in moving

    coming: list[str] = []  # a default that was asked for and not acknowledged yet

    async def move(connection: Connection, label: str) -> None:
        coming[:] = [label]
        body = {"model_version": 1, "operating_point": label, "reason": "soak"}
        said = await connection.call("PUT", f"/models/{MODEL}/default", body)
        if said.status != 200:
            failed.append(f"default: {said.status}: {said.body[:300]!r}")
        default.append(label)
        coming.clear()

    async def change() -> None:
        nonlocal published
        async with Connection(address) as connection:
            for bias in truth.biases(int(seconds / every_s) + 10):
                if time.monotonic() > until:
                    return
                said = await publish(connection, f"p{published}", bias)
                if said.status != 201:
                    failed.append(f"publish: {said.status}: {said.body[:300]!r}")
                    continue
                label = said.json()["operating_point"]
                known.bias[label] = bias
                published += 1
                await asyncio.sleep(every_s / 3)
                before = default[-1]
                await move(connection, label)
                await asyncio.sleep(every_s / 3)
                if published % 2:
                    await move(connection, before)  # rolled back
                await asyncio.sleep(every_s / 3)

    async with Connection(address) as connection:
        await register(connection)
    started = time.monotonic()
    until = started + seconds
    await asyncio.gather(change(), *(predict(seed) for seed in range(clients)))
    return Moved(
        time.monotonic() - started,
        known.answers,
        failed,
        known.wrong,
        published,
        len(default) - 1,
        late,
        len(known.bias),
    )
