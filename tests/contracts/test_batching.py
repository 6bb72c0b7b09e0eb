"""Callers that share runs: each gets its own rows' logits, whatever becomes of the others."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from onnx import helper

from calibrate.errors import NotFinite
from calibrate.io.description import read_description
from calibrate.io.graph import read_model
from calibrate.io.model import Port
from service.domain import ModelVersion
from service.engine.batching import Batcher
from service.engine.onnx import OnnxEngine, OnnxSession
from service.errors import Busy, ModelFailed, TimedOut
from tests.models import WIDTH, build, forward, network, weights

pytestmark = pytest.mark.anyio

VERSION = ModelVersion(
    model="m", version=1, digest="", graph_digest="", size_bytes=0, inputs=(Port("x", "float32", (None, WIDTH)),),
    classes=("a", "b"), output="z", output_kind="logits", head=None, prior=None, description=read_description({}),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
Ran = list[int]


@pytest.fixture
def anyio_backend() -> str:
    """The server's event loop is asyncio's."""
    return "asyncio"


class Gated:
    """A real session that runs when it is let, and writes down how many rows each run had."""

    def __init__(self, session: OnnxSession, is_batchable: bool = True) -> None:
        self.session, self.is_batchable, self.quick_rows = session, is_batchable, 0
        self.provider = session.provider
        self.gate, self.began = threading.Event(), threading.Event()
        self.runs: Ran = []

    def warm(self, inputs: Sequence[Port]) -> None:
        """As the session does."""
        self.session.warm(inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """As the session does, once the gate is open."""
        self.runs.append(len(inputs["x"]))
        self.began.set()
        assert self.gate.wait(20)
        return self.session.run(inputs)


def session_of(data: bytes) -> OnnxSession:
    """A loaded model."""
    graph = read_model(data)
    return OnnxEngine().load(graph.data, graph.output, graph.kind)


@pytest.fixture
def gated() -> Gated:
    """A network behind a gate."""
    return Gated(session_of(network(2)))


@pytest.fixture
def make() -> Iterator[Callable[..., Batcher]]:
    """Makes batchers of one run at a time, which are closed at the end."""
    made: list[Batcher] = []

    def make(**options: Any) -> Batcher:
        given = {"at_once": 1, "batch_rows": 64, "queued_rows": 1000, "queued_bytes": 10**6, **options}
        made.append(Batcher(**given))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close()


def rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of n rows."""
    return {"x": np.random.default_rng((n, seed)).normal(size=(n, WIDTH)).astype(np.float32)}


def right(logits: np.ndarray, inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether the logits are those of the rows."""
    return np.allclose(logits, forward(weights(2), inputs["x"])[1], atol=1e-5)


async def in_line(batcher: Batcher, n: int) -> None:
    """Returns once n rows wait."""
    async with asyncio.timeout(20):
        while batcher.queued_rows != n:
            await asyncio.sleep(0.001)


async def started(gated: Gated) -> None:
    """Returns once a run has begun."""
    assert await asyncio.to_thread(gated.began.wait, 20)


async def test_callers_that_leave_hang_nobody(gated: Gated, make: Callable[..., Batcher]) -> None:
    """Before their run and in the midst of it; those that ran with them get their own rows."""
    batcher = make()
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    asks = [rows(2, seed) for seed in range(6)]
    tasks = [asyncio.create_task(batcher.run(VERSION, gated, ask)) for ask in asks]
    await in_line(batcher, 12)
    tasks[1].cancel()
    tasks[4].cancel()
    await in_line(batcher, 8)
    gated.gate.set()
    assert right(await first, rows(1))
    for i in (0, 2, 3, 5):
        assert right(await tasks[i], asks[i])
    assert gated.runs == [1, 8]
    gated.gate.clear()
    gated.began.clear()
    running = [asyncio.create_task(batcher.run(VERSION, gated, rows(3, seed))) for seed in range(2)]
    await started(gated)
    running[0].cancel()
    await asyncio.wait(running[:1])
    gated.gate.set()
    assert right(await running[1], rows(3, 1))
    assert running[0].cancelled()
    assert (batcher.queued_rows, batcher.queued_bytes) == (0, 0)


async def test_what_waits_is_run_together_by_rows(gated: Gated, make: Callable[..., Batcher]) -> None:
    """Never more rows than a batch takes, unless one caller has more; calls are not counted."""
    batcher = make(batch_rows=10)
    sizes = [1, 4, 4, 4, 25, 3, 3]
    asks = [rows(n, i) for i, n in enumerate(sizes)]
    tasks = []
    for ask in asks:
        tasks.append(asyncio.create_task(batcher.run(VERSION, gated, ask)))
        if len(tasks) == 1:
            await started(gated)
    await in_line(batcher, sum(sizes[1:]))
    gated.gate.set()
    for task, ask in zip(tasks, asks, strict=True):
        assert right(await task, ask)
    assert gated.runs == [1, 8, 4, 25, 6]


async def test_only_what_is_alike_runs_together(gated: Gated, make: Callable[..., Batcher]) -> None:
    """Another version, another shape or type is another run; so is every call of a model that mixes its rows."""
    batcher = make()
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    asks: list[tuple[ModelVersion, dict[str, np.ndarray]]] = [
        (VERSION, rows(2)), (replace(VERSION, version=2), rows(2)), (VERSION, {"x": rows(2)["x"].astype(np.float64)}),
        (VERSION, {"x": rows(2)["x"][:, :3]}), (VERSION, rows(2, 1)),
    ]  # fmt: skip
    tasks = [asyncio.create_task(batcher.run(version, gated, ask)) for version, ask in asks]
    await in_line(batcher, 10)
    gated.gate.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert gated.runs == [1, 4, 2, 2, 2]
    assert [isinstance(result, ModelFailed) for result in results] == [False, False, False, True, True, False]
    alone = Gated(gated.session, is_batchable=False)
    alone.gate.set()
    await asyncio.gather(*(batcher.run(VERSION, alone, rows(2)) for _ in range(5)))
    assert alone.runs == [2] * 5


async def test_one_bad_call_fails_by_itself(gated: Gated, make: Callable[..., Batcher]) -> None:
    """A run of several that fails is done again one by one, and the error names the row of the call it is of."""
    batcher = make()
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    bad = rows(3)
    bad["x"][1] = np.nan
    asks = [rows(2), bad, rows(2, 1)]
    tasks = [asyncio.create_task(batcher.run(VERSION, gated, ask)) for ask in asks]
    await in_line(batcher, 7)
    gated.gate.set()
    await first
    assert right(await tasks[0], asks[0])
    assert right(await tasks[2], asks[2])
    with pytest.raises(NotFinite, match=r"logits\[1, 0\] must be finite"):
        await tasks[1]
    assert gated.runs == [1, 7, 2, 3, 2]


async def test_more_than_may_wait_is_refused_at_once(gated: Gated, make: Callable[..., Batcher]) -> None:
    """In rows and in bytes; what waits is answered, and then there is room again."""
    for limit in ({"queued_rows": 10}, {"queued_bytes": 10 * 4 * WIDTH}):
        gated.gate.clear()
        gated.began.clear()
        batcher = make(**limit)
        first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
        await started(gated)
        waiting = asyncio.create_task(batcher.run(VERSION, gated, rows(8)))
        await in_line(batcher, 8)
        began = time.monotonic()
        with pytest.raises(Busy, match=r"8 rows .* wait for a run, and 3 more"):
            await batcher.run(VERSION, gated, rows(3))
        assert time.monotonic() - began < 5
        fits = asyncio.create_task(batcher.run(VERSION, gated, rows(2)))
        await in_line(batcher, 10)
        gated.gate.set()
        assert [len(await task) for task in (first, waiting, fits)] == [1, 8, 2]
        assert len(await batcher.run(VERSION, gated, rows(3))) == 3
        large = rows(50)
        assert right(await batcher.run(VERSION, gated, large), large)  # alone, where nothing waits


async def test_late_callers_are_told_in_time_and_never_run(gated: Gated, make: Callable[..., Batcher]) -> None:
    """While another's run still goes on; one whose time was up before it came, too."""
    batcher = make()
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    patient = asyncio.create_task(batcher.run(VERSION, gated, rows(2), until=time.monotonic() + 60))
    for seconds in (0.05, -1):
        with pytest.raises(TimedOut, match="the 4 rows were not run within the time"):
            await batcher.run(VERSION, gated, rows(4), until=time.monotonic() + seconds)
    assert not first.done()
    gated.gate.set()
    assert right(await patient, rows(2))
    assert gated.runs == [1, 2]


async def test_the_urgent_go_first(gated: Gated, make: Callable[..., Batcher]) -> None:
    """1 before 2, the default between, the first come among equals."""
    batcher = make(batch_rows=1)
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    order: list[str] = []

    async def ask(name: str, priority: int) -> None:
        await batcher.run(VERSION, gated, rows(1), priority=priority)
        order.append(name)

    asks = [("low", 500), ("default", 0), ("second", 2), ("first", 1), ("default too", 0)]
    tasks = [asyncio.create_task(ask(*each)) for each in asks]
    await in_line(batcher, 5)
    gated.gate.set()
    await asyncio.gather(first, *tasks)
    assert order == ["first", "second", "default", "default too", "low"]


async def test_closing_ends_what_waits(gated: Gated, make: Callable[..., Batcher]) -> None:
    """What runs is finished, what waits is told, what comes is refused."""
    batcher = make()
    first = asyncio.create_task(batcher.run(VERSION, gated, rows(1)))
    await started(gated)
    waiting = asyncio.create_task(batcher.run(VERSION, gated, rows(2)))
    await in_line(batcher, 2)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    with pytest.raises(Busy, match="stopping"):
        await waiting
    gated.gate.set()
    assert right(await first, rows(1))
    await closing
    with pytest.raises(Busy, match="stopping"):
        await batcher.run(VERSION, gated, rows(1))


async def test_many_callers_at_once_each_get_their_own(make: Callable[..., Batcher]) -> None:
    """Several runs at a time, on every number of rows."""
    session, ran = session_of(network(2)), []
    session.warm(VERSION.inputs)
    batcher = make(at_once=3, queued_rows=10_000, ran=lambda *told: ran.append(told[2]))

    async def ask(i: int) -> bool:
        given = rows(1 + i % 9, i)
        return right(await batcher.run(VERSION, session, given), given)

    assert all(await asyncio.gather(*(ask(i) for i in range(300))))
    assert sum(ran) == sum(1 + i % 9 for i in range(300))
    assert max(ran) <= 64


def test_a_model_that_mixes_its_rows_is_found_out() -> None:
    """What treats each row by itself may be batched, once it was warm."""
    node = helper.make_node
    ports = VERSION.inputs
    plain = session_of(network(2))
    assert not plain.is_batchable
    plain.warm(ports)
    assert plain.is_batchable
    assert plain.quick_rows >= 0
    mixing = [
        node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1), node("Sub", ["x", "mean"], ["c"]),
        node("MatMul", ["c", "w"], ["z"]),
    ]  # fmt: skip
    mixed = session_of(build(mixing, {"w": weights(2)["w1"][:, :2].copy()}, ["z"]))
    mixed.warm(ports)
    assert not mixed.is_batchable
