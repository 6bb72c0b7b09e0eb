"""Hot routes: answered ahead of the framework, as the framework would."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from service.web.doorway import Doorway
from service.web.hot import HotRoutes
from tests.contracts.test_batching import Gated, in_line
from tests.models import network
from tests.service.conftest import CLASSES, Start, publish, refused, register

ASKS: list[dict[str, Any]] = [
    {"model": "fraud", "inputs": [[1, 2, 3, 4]] * 3, "operating_point": "p", "compare": ["argmax"]},
    {"model": "fraud", "features": [[1, 2, 3, 4, 5, 6]]},
    {"model": "nope", "inputs": [[1]]},
    {"model": "fraud", "inputs": [[1]]},
]


def test_the_framework_would_answer_alike(fraud: TestClient) -> None:
    """The same handler stands in its table: status, body and headers are the same without the short way."""
    publish(fraud, "p", 0.5)
    app = fraud.app
    assert isinstance(app, Doorway)
    hot = app._hot
    for ask in ASKS:
        replies = []
        for routes in (hot, HotRoutes([])):
            app._hot = routes
            replies.append(fraud.post("/predict", json=ask, headers={"x-request-id": "same"}))
        assert replies[0].status_code == replies[1].status_code
        assert replies[0].json() == replies[1].json()
        assert replies[0].headers == replies[1].headers


def test_a_path_that_names_something_is_matched_whole() -> None:
    """A name ends at a slash; another verb is not it."""
    from service.web.routes import ROUTES, Route

    async def handler(_: object) -> None:
        """Nothing."""

    routes = HotRoutes([Route("POST", "/v2/models/{model}/infer", handler, "predict", None), ROUTES[0]])
    found = routes.match("POST", "/v2/models/a.b/infer")
    assert found
    assert (found.names, found.path) == ({"model": "a.b"}, "/v2/models/{model}/infer")
    assert routes.match("POST", "/predict")
    for verb, path in (("POST", "/v2/models/a/b/infer"), ("POST", "/v2xmodels/a/infer"), ("GET", "/predict")):
        assert routes.match(verb, path) is None


def test_rows_that_wait_too_long_are_504(fraud: TestClient) -> None:
    """By the call's own time; the next call is answered."""
    app = fraud.app
    assert isinstance(app, Doorway)
    gated = gate(app)
    ask = {"model": "fraud", "inputs": [[1, 2, 3, 4]], "timeout_ms": 50}
    assert "not run within the time" in refused(fraud.post("/predict", json=ask), 504, "timed-out")
    gated.gate.set()
    assert fraud.post("/predict", json={**ask, "timeout_ms": 60_000}).status_code == 200


def test_more_rows_than_may_wait_are_503(start: Start) -> None:
    """With the time to come again, at once."""
    client = start(queued_rows=5, runs=1)
    register(client, network(2), classes=CLASSES)
    app = client.app
    assert isinstance(app, Doorway)
    gated = gate(app)

    async def overload() -> Any:
        tasks = [asyncio.create_task(ask(app, 3))]
        assert await asyncio.to_thread(gated.began.wait, 20)
        tasks.append(asyncio.create_task(ask(app, 3)))
        await in_line(app._parts.runner, 3)  # type: ignore[arg-type]
        refused = await ask(app, 3)
        gated.gate.set()
        return [*await asyncio.gather(*tasks), refused]

    first, second, refused = asyncio.run(overload())
    assert (first["status"], second["status"], refused["status"]) == (200, 200, 503)
    assert dict(refused["headers"])[b"retry-after"] == b"1"


def test_a_client_that_leaves_takes_its_rows_along(fraud: TestClient) -> None:
    """While they wait; nothing is run for nobody."""
    app = fraud.app
    assert isinstance(app, Doorway)
    gated = gate(app)

    async def leave() -> None:
        running = [asyncio.create_task(ask(app, 1)) for _ in range(app._parts.runner._at_once)]  # type: ignore[attr-defined]
        assert await asyncio.to_thread(gated.began.wait, 20)
        gone = asyncio.Event()
        waiting = asyncio.create_task(ask(app, 5, gone))
        async with asyncio.timeout(20):
            while app._parts.runner.queued_rows < 5:  # type: ignore[attr-defined]
                await asyncio.sleep(0.001)
        gone.set()
        assert await waiting == {}
        await in_line(app._parts.runner, 0)  # type: ignore[arg-type]
        gated.gate.set()
        assert [reply["status"] for reply in await asyncio.gather(*running)] == [200] * len(running)

    asyncio.run(leave())
    assert 5 not in gated.runs


def gate(app: Doorway) -> Gated:
    """Puts the model `fraud` behind a gate."""
    registry = app._parts.registry
    version = registry.model("fraud").version(None)
    gated = Gated(registry.session(version), is_batchable=False)  # type: ignore[arg-type]
    registry._loaded._sessions[version.model, version.version] = gated
    return gated


async def ask(app: Doorway, rows: int, gone: asyncio.Event | None = None) -> dict[str, Any]:
    """Asks for predictions without HTTP; the start of the answer, nothing where there is none."""
    body = json.dumps({"model": "fraud", "inputs": [[1, 2, 3, 4]] * rows}).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: dict[str, Any] = {}

    async def receive() -> MutableMapping[str, Any]:
        for message in messages:
            return message
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.update(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http",
        "headers": [(b"host", b"127.0.0.1")],
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


def test_an_app_that_nobody_started_refuses_in_the_same_words(tmp_path: Any) -> None:
    """503 `starting`, ahead of the framework too."""
    app = make_app(Settings(data=tmp_path))
    assert asyncio.run(ask(app, 1))["status"] == 503
