"""`infer` on the short way: through the runner with everybody's rows, without holding up the event loop."""

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from service.web.doorway import Doorway
from service.web.hot import HotRoutes
from service.web.oip.infer import Asked, _is_short
from tests.contracts.test_batching import Gated, in_line
from tests.models import WIDTH, network
from tests.service.conftest import CLASSES, Start, publish, refused_v2, register
from tests.service.oip.ask import INFER, body, infer, read, tensor
from tests.service.test_hot import ask as ask_predict

X = np.random.default_rng(5).normal(size=(3, WIDTH)).astype(np.float32)
VERSION = "/v2/models/fraud/versions/1/infer"


def doorway(client: TestClient) -> Doorway:
    """The application of a client."""
    assert isinstance(client.app, Doorway)
    return client.app


def gate(app: Doorway, *, is_batchable: bool = True) -> Gated:
    """Puts the model `fraud` behind a gate."""
    registry = app._parts.registry
    version = registry.model("fraud").version(None)
    gated = Gated(registry.session(version), is_batchable=is_batchable)  # type: ignore[arg-type]
    registry._loaded._sessions[version.model, version.version] = gated
    return gated


async def ask(app: Doorway, rows: int, gone: asyncio.Event | None = None, **call: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer, without HTTP; 0 where there is none."""
    content, given = body(tensor("x", np.ones((rows, WIDTH))), **call)
    messages = iter([{"type": "http.request", "body": content, "more_body": False}])
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        for message in messages:
            return message
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in given.items())]
    scope = {"type": "http", "method": "POST", "path": INFER, "query_string": b"", "scheme": "http", "headers": headers}
    await app(scope, receive, send)
    return (sent[0]["status"], orjson.loads(sent[1]["body"])) if sent else (0, {})


def test_the_framework_would_answer_alike(fraud: TestClient) -> None:
    """The same handlers stand in its table: status, body and headers are the same without the short way."""
    publish(fraud, "p", 0.5)
    app, raw = doorway(fraud), tensor("x", X, binary=True)
    hot = app._hot
    assert hot.match("POST", INFER)
    assert hot.match("POST", VERSION)
    for path, inputs, call in (
        (INFER, [raw], {"parameters": {"binary_data_output": True, "operating_point": "p"}}),
        (VERSION, [raw, tensor("operating_point", ["p", "argmax", "p"], "BYTES")], {"id": "1"}),
        (INFER, [tensor("logits", np.repeat([[0.5, 1.0]], 3000, axis=0), "FP64", binary=True)], {}),
        (INFER, [tensor("x", np.empty((0, WIDTH)))], {}),
        (INFER, [tensor("x", X[:, :2])], {}),
        ("/v2/models/nope/infer", [raw], {}),
        ("/v2/models/fraud/versions/7/infer", [raw], {}),
    ):
        replies = []
        for routes in (hot, HotRoutes([])):
            app._hot = routes
            headers = {"x-request-id": "same", "accept-encoding": "gzip"}
            replies.append(infer(fraud, *inputs, path=path, headers=headers, **call))
        app._hot = hot
        assert replies[0].status_code == replies[1].status_code
        assert replies[0].content == replies[1].content
        assert replies[0].headers == replies[1].headers


def test_rows_run_with_those_of_other_callers_of_either_protocol(start: Start) -> None:
    """One run for all that gathered; `/v2` counts it once, as large as it was."""
    client = start(runs=1)
    register(client, network(2), classes=CLASSES)
    app = doorway(client)
    gated = gate(app)

    async def gather() -> list[Any]:
        first = asyncio.create_task(ask(app, 1))
        assert await asyncio.to_thread(gated.began.wait, 20)
        others = [asyncio.create_task(ask(app, n)) for n in (2, 3)]
        predicted = asyncio.create_task(ask_predict(app, 4))
        await in_line(app._parts.runner, 9)  # type: ignore[arg-type]
        gated.gate.set()
        assert (await predicted)["status"] == 200
        return [await first, *await asyncio.gather(*others)]

    replies = asyncio.run(gather())
    assert [status for status, _ in replies] == [200] * 3
    assert gated.runs == [1, 9]
    (told,) = client.get("/v2/models/fraud/stats").json()["model_stats"]
    assert (told["inference_count"], told["execution_count"]) == (6, 2)
    assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in told["batch_stats"]] == [(1, 1), (9, 1)]
    stats = told["inference_stats"]
    assert {name: stats[name]["count"] for name in ("success", "queue", "compute_infer")} == {
        "success": 3, "queue": 3, "compute_infer": 3,
    }  # fmt: skip
    assert stats["queue"]["ns"] > 0


def test_the_most_urgent_runs_first(start: Start) -> None:
    """`priority` 1 before the default, whoever came first."""
    client = start(runs=1)
    register(client, network(2), classes=CLASSES)
    app = doorway(client)
    gated = gate(app, is_batchable=False)

    async def gather() -> None:
        tasks = [asyncio.create_task(ask(app, 1))]
        assert await asyncio.to_thread(gated.began.wait, 20)
        for rows, priority, waiting in ((2, 0, 2), (3, 200, 5), (4, 1, 9)):
            tasks.append(asyncio.create_task(ask(app, rows, parameters={"priority": priority})))
            await in_line(app._parts.runner, waiting)  # type: ignore[arg-type]
        gated.gate.set()
        assert [status for status, _ in await asyncio.gather(*tasks)] == [200] * 4

    asyncio.run(gather())
    assert gated.runs == [1, 4, 2, 3]


def test_rows_that_wait_too_long_are_unavailable(fraud: TestClient) -> None:
    """503 with a time to come again, where `POST /predict` says 504; counted as failed, and the next is answered."""
    gated = gate(doorway(fraud))
    response = infer(fraud, tensor("x", X), parameters={"timeout": 50_000})
    assert "not run within the time" in refused_v2(response, 503)
    assert response.headers["retry-after"] == "1"
    gated.gate.set()
    read(infer(fraud, tensor("x", X), parameters={"timeout": 2**63}))
    (told,) = fraud.get("/v2/models/fraud/stats").json()["model_stats"]
    assert (told["inference_stats"]["fail"]["count"], told["execution_count"]) == (1, 1)
    assert 'type="timed-out"' in fraud.get("/metrics").text


def test_a_client_that_leaves_takes_its_rows_along(start: Start) -> None:
    """Nothing is run for nobody."""
    client = start(runs=1)
    register(client, network(2), classes=CLASSES)
    app = doorway(client)
    gated = gate(app, is_batchable=False)

    async def leave() -> None:
        running = asyncio.create_task(ask(app, 1))
        assert await asyncio.to_thread(gated.began.wait, 20)
        gone = asyncio.Event()
        waiting = asyncio.create_task(ask(app, 5, gone))
        await in_line(app._parts.runner, 5)  # type: ignore[arg-type]
        gone.set()
        assert await waiting == (0, {})
        await in_line(app._parts.runner, 0)  # type: ignore[arg-type]
        gated.gate.set()
        assert (await running)[0] == 200

    asyncio.run(leave())
    assert gated.runs == [1]


def test_logits_and_no_rows_are_no_runs(fraud: TestClient) -> None:
    """Inferences all the same, where there are rows."""
    gated = gate(doorway(fraud))
    read(infer(fraud, tensor("logits", [[0.0, 1.0]] * 5, "FP64")))
    read(infer(fraud, tensor("x", np.empty((0, WIDTH)))))
    assert not gated.began.is_set()
    (told,) = fraud.get("/v2/models/fraud/stats").json()["model_stats"]
    assert (told["inference_count"], told["execution_count"], told["batch_stats"]) == (5, 0, [])


def test_what_is_long_is_read_and_written_in_a_thread(fraud: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short ones are not; both answers are right."""
    app = doorway(fraud)
    lane, used = app._parts.lanes.predictions, []
    run = type(lane).run

    async def counted(self: Any, work: Any) -> Any:
        used.append(threading.get_ident())
        return await run(self, work)

    monkeypatch.setattr(type(lane), "run", counted)
    few, many = np.zeros((3, 2)), np.zeros((30_000, 2))
    for rows, times in ((few, 0), (many, 2)):  # decided and written; the raw tensor is read where it lies
        used.clear()
        _, found = read(infer(fraud, tensor("logits", rows, "FP64", binary=True)))
        assert found["label"].tolist() == ["clear"] * len(rows)
        assert len(used) == times


@pytest.mark.parametrize(
    ("content", "headers", "is_short"),
    [
        (b'{"inputs": []}', {}, True),
        (b'{"inputs": []}', {"content-encoding": "gzip"}, False),
        (b" " * 2**16, {}, True),
        (b" " * (2**16 + 1), {}, False),
        (b"FP32" + bytes(2**21), {"inference-header-content-length": "4"}, True),
        (b"FP32" + bytes(2**22), {"inference-header-content-length": "4"}, False),
        (b"BYTES" + bytes(2**20), {"inference-header-content-length": "5"}, False),
        (b"INT32" + bytes(2**20), {"inference-header-content-length": "5"}, True),
        (b'"INT32"' + b" " * 2**14, {}, False),
        (b"\\u0042YTES" + bytes(2**20), {"inference-header-content-length": "10"}, False),
        (b"{}" + bytes(2**20), {"inference-header-content-length": "9" * 40}, False),
        (bytes(2**20), {"inference-header-content-length": "0"}, True),
    ],
)
def test_what_is_short_to_read(fraud: TestClient, content: bytes, headers: dict[str, str], is_short: bool) -> None:
    """By what it could hold at worst: an escape may hide a datatype, a compressed body anything."""
    parts = doorway(fraud)._parts
    asked = Asked(parts, None, None, "fraud", None, headers, content)  # type: ignore[arg-type]
    assert _is_short(asked) is is_short


def test_a_version_that_was_let_go_of_is_ready(start: Start) -> None:
    """It is loaded by the next call; one that cannot be loaded is not ready."""
    client = start()
    for name in ("fraud", "two"):
        register(client, network(2), name, classes=CLASSES)
    size = len(network(2))
    client.__exit__()
    client = start(models_bytes=size + size // 2)
    index = client.post("/v2/repository/index").json()
    assert {item["name"]: item["state"] for item in index} == {"fraud": "READY", "two": "READY"}
    for name in ("fraud", "two", "fraud"):
        assert client.get(f"/v2/models/{name}/ready").json()["ready"] is True
        read(infer(client, tensor("x", X), path=f"/v2/models/{name}/infer"))
    assert client.get("/v2/health/ready").json()["ready"] is True
