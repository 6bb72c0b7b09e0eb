"""Whatever bytes come in under `/v2`, the answer has the protocol's shape, and the next one is right."""

from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from tests.models import WIDTH, network
from tests.service.conftest import CLASSES, register
from tests.service.oip.ask import INFER, body, infer, read, tensor
from tests.service.oip.models import two_inputs

X = np.arange(2 * WIDTH).reshape(2, WIDTH)
GOOD = [
    body(tensor("x", X, binary=True), tensor("operating_point", ["argmax"] * 2, "BYTES", binary=True), id="1"),
    body(tensor("x", X), outputs=[{"name": "label", "parameters": {"binary_data": True, "classification": 0}}]),
    body(tensor("x", X[:, :2], binary=True), tensor("kind", [["a"], ["b"]], "BYTES", binary=True)),
]
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for every example."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("data")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as made:
        register(made, network(2), classes=CLASSES)
        register(made, two_inputs(), "two", classes=CLASSES)
        yield made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_body_that_was_damaged_on_its_way(client: TestClient, data: st.DataObject) -> None:
    """Bytes changed, cut out, doubled or put in; a header length that is off; the wrong model."""
    content, headers = data.draw(st.sampled_from(GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        to = data.draw(st.integers(at, min(len(content), at + 8)))
        middle = data.draw(st.binary(max_size=4) | st.sampled_from([content[at:to] * 2, b"-", b"0", b"9999999999"]))
        content = content[:at] + middle + content[to:]
    if LENGTH in headers:
        headers = {LENGTH: str(int(headers[LENGTH]) + data.draw(st.integers(-2, 2)))}
    path = data.draw(st.sampled_from([INFER, "/v2/models/two/infer", "/v2/models/fraud/versions/1/infer"]))
    response = client.post(path, content=content, headers=headers)
    if response.status_code == 200:
        read(response)
    else:
        assert response.status_code in (400, 404, 413, 501), response.text
        assert response.headers["content-type"] == "application/json"
        assert response.json().keys() == {"error"}
    read(infer(client, tensor("x", X)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]), st.text(st.characters(codec="utf-8"), max_size=12))
def test_an_address_that_was_made_up(client: TestClient, verb: str, tail: str) -> None:
    """Under `/v2`, in any script."""
    response = client.request(verb, f"/v2/models/a{quote(tail)}")
    assert response.status_code in (400, 404, 405, 501), response.text
    assert response.json().keys() == {"error"}
