"""A whole service in process: real store, real runtime, real HTTP semantics, in a folder of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from service.web.oip.shape import is_oip, oip_status
from tests.models import network

CLASSES = '["clear", "fraud"]'
Start = Callable[..., TestClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services on the test's folder, with settings; all of them are stopped at the end."""
    with ExitStack() as stack:

        def run(**settings: Any) -> TestClient:
            lines = settings.pop("lines", None)
            app = make_app(Settings(**{"data": tmp_path / "data", **settings}), lines)
            client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield run


@pytest.fixture
def client(start: Start) -> TestClient:
    """A service without models."""
    return start()


@pytest.fixture
def fraud(client: TestClient) -> TestClient:
    """A service with the model `fraud`: two classes, one hidden layer, prior 0.9 to 0.1."""
    register(client, network(2), classes=CLASSES, prior="[0.9, 0.1]")
    return client


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service without models, one for all tests of a file that change nothing."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("empty")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`fraud`, one for all tests of a file that change nothing."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("standing")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        register(client, network(2), classes=CLASSES, prior="[0.9, 0.1]")
        yield client


def register(client: TestClient, data: bytes, name: str = "fraud", **fields: str) -> dict[str, Any]:
    """Registers a model and gives the answer."""
    response = client.post("/models", data={"name": name, **fields}, files={"file": ("model.onnx", data)})
    assert response.status_code == 201, response.text
    return dict(response.json())


def publish(client: TestClient, name: str, bias: float, **fields: Any) -> dict[str, Any]:
    """Publishes a point of the model `fraud`."""
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, bias]}
    response = client.post("/models/fraud/operating-points", json={"name": name, "point": point, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


def refused(response: Any, status: int, kind: str) -> str:
    """Checks that an answer is a whole problem of that kind, and gives its detail; under `/v2` in that shape."""
    if is_oip(response.url.path):
        return refused_v2(response, oip_status(status))
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body.keys() - {"nearest"} == {"type", "title", "status", "detail", "request_id"}
    assert body["type"] == f"urn:setpoint:problem:{kind}", body
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    return str(body["detail"])


def refused_v2(response: Any, status: int) -> str:
    """Checks that an answer is an error as the Open Inference Protocol has them, and gives its text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    return str(body["error"])


def alive(client: TestClient) -> None:
    """Whatever came before, the next request is answered, under the default point of the model `fraud`."""
    response = client.post("/predict", json={"model": "fraud", "inputs": [[0.0, 0.0, 0.0, 0.0]]})
    assert response.status_code == 200, response.text
    assert len(response.json()["predictions"]) == 1
