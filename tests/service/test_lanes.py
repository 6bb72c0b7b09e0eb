"""One kind of work that is stuck leaves the others alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.engine.onnx import OnnxEngine
from tests.models import network
from tests.service.conftest import alive, refused


def test_models_that_never_finish_loading_take_the_places_of_registrations_only(
    fraud: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third is refused at once; predictions, lists and health are answered; then the places are free again."""
    entered, leave, load = threading.Barrier(3), threading.Event(), OnnxEngine.load

    def stuck(*arguments: Any, **options: Any) -> Any:
        entered.wait(10)
        leave.wait(30)
        return load(*arguments, **options)

    monkeypatch.setattr(OnnxEngine, "load", stuck)

    def register(name: str) -> Any:
        return fraud.post("/models", data={"name": name}, files={"file": ("m.onnx", network(2))})

    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(register, name) for name in ("a", "b")]
        entered.wait(10)
        response = register("c")
        assert "2 registrations are running" in refused(response, 503, "busy")
        assert response.headers["retry-after"] == "1"
        alive(fraud)
        assert fraud.get("/health/ready").status_code == 200
        assert fraud.get("/audit").status_code == 200
        leave.set()
        assert [answer.result().status_code for answer in first] == [201, 201]
    monkeypatch.undo()
    assert register("c").status_code == 201
