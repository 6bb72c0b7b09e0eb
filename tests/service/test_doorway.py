"""Who gets in, with how much, and what everyone gets back."""

import json
import logging
import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.errors import Unguarded
from service.main import make_app
from service.settings import Settings
from service.web.routes import ROUTES
from tests.models import network
from tests.service.conftest import CLASSES, Start, alive, refused, register

TOKEN = "a-token-of-32-characters-or-more"


def test_every_route_but_health_needs_the_token(start: Start) -> None:
    """From the table, so a new route is covered by being there."""
    client = start(token=TOKEN)
    for route in ROUTES:
        path = re.sub(r"{\w+}", "1", route.path)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer é"}):
            response = client.request(route.verb, path, headers={k.encode(): v.encode() for k, v in headers.items()})
            if route.scope == "open":
                assert response.status_code == 200
            else:
                assert "key" in refused(response, 401, "unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"
        response = client.request(route.verb, path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert response.status_code != 401
    refused(client.get("/nope"), 401, "unauthorized")


def test_the_address_alone_leads_to_the_console(start: Start) -> None:
    """Without a token too: the page holds nothing."""
    for settings in ({}, {"token": TOKEN}):
        response = start(**settings).get("/", follow_redirects=False)
        assert (response.status_code, response.headers["location"]) == (307, "/console")


@pytest.mark.parametrize("host", ["x/docs?", "x/docs#", "127.0.0.1/health/live?a=", "127.0.0.1/console?"])
def test_a_host_cannot_pass_for_an_open_address(start: Start, host: str) -> None:
    """What is open is told by the path of the request, not by a host that holds one."""
    for settings, status, kind in (({"token": TOKEN}, 401, "unauthorized"), ({}, 403, "foreign-origin")):
        refused(start(**settings).get("/models", headers={"host": host}), status, kind)


def test_who_called_is_in_the_audit_trail(start: Start) -> None:
    """The token's holder, or somebody on this machine."""
    for settings, who in (({"token": TOKEN}, "token"), ({}, "local")):
        client = start(**settings)
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        register(client, network(2))
        assert client.get("/audit?limit=1").json()[0]["actor"] == who


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])  # noqa: S104
def test_an_open_server_does_not_start(host: str, tmp_path: Path) -> None:
    """Any address but loopback needs a token; the refusal says how to give one."""
    with pytest.raises(Unguarded, match="keys create"):
        make_app(Settings(host=host, data=tmp_path))
    make_app(Settings(host=host, data=tmp_path, token=SecretStr(TOKEN)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_none(host: str, tmp_path: Path) -> None:
    """However it is written."""
    make_app(Settings(host=host, data=tmp_path))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_web_page_of_another_site_cannot_use_an_open_loopback_server(
    client: TestClient, headers: dict[str, str]
) -> None:
    """Neither by a name of its own (DNS rebinding) nor across sites (CSRF)."""
    register(client, network(2), classes=CLASSES)
    ask = json.dumps({"model": "fraud", "inputs": [[0, 0, 0, 0]]})
    response = client.post("/predict", content=ask, headers={"content-type": "text/plain", **headers})
    refused(response, 403, "foreign-origin")
    alive(client)


def test_pages_of_the_server_itself_may_call_it(standing: TestClient) -> None:
    """Same origin, with the headers a browser sends."""
    headers = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    ask = {"model": "fraud", "inputs": [[0, 0, 0, 0]]}
    assert standing.post("/predict", json=ask, headers=headers).status_code == 200


def test_a_body_that_is_too_large_is_refused(start: Start) -> None:
    """By its length, and where it gives none, as soon as it has sent too much; uploads too."""
    client = start(body_bytes=5000)
    register(client, network(2), classes=CLASSES)
    ask = json.dumps({"model": "fraud", "inputs": [[0, 0, 0, 0]] * 1000}).encode()
    assert len(ask) > 5000
    assert "at most 5000 bytes" in refused(client.post("/predict", content=ask), 413, "too-large")
    pieces = (ask[i : i + 1000] for i in range(0, len(ask), 1000))
    assert "at most 5000 bytes" in refused(client.post("/predict", content=pieces), 413, "too-large")
    upload = client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", b"x" * 6000)})
    refused(upload, 413, "too-large")

    def streamed() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="m"\r\n\r\n'
        for _ in range(10):
            yield b"y" * 1000
        yield b"\r\n--x--\r\n"

    torn = client.post("/models", content=streamed(), headers={"content-type": "multipart/form-data; boundary=x"})  # type: ignore[arg-type]
    refused(torn, 413, "too-large")
    alive(client)


def test_calls_that_need_no_large_body_take_none(standing: TestClient) -> None:
    """A megabyte for a point or a default, whatever the server takes elsewhere."""
    large = b'{"name": "' + b"x" * 2**20 + b'"}'
    for verb, path in (("POST", "/models/fraud/operating-points"), ("PUT", "/models/fraud/default")):
        assert "at most 1048576 bytes" in refused(standing.request(verb, path, content=large), 413, "too-large")
    alive(standing)


def test_every_answer_carries_its_request_id_and_the_security_headers(empty: TestClient) -> None:
    """The caller's id where it is a plain one, good answers and problems alike."""
    for path in ("/health/live", "/nope"):
        response = empty.get(path, headers={"x-request-id": "abc-123"})
        assert response.headers["x-request-id"] == "abc-123"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        made = empty.get(path, headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
        assert len(made) == 32


def test_a_fault_of_ours_is_logged_and_told_without_its_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the request id and the cause; the answer has the id alone."""
    monkeypatch.setattr("service.web.predict._read", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR):
        response = client.post("/predict", json={}, headers={"x-request-id": "find-me"})
    assert "ZeroDivision" not in response.text
    assert "division" not in refused(response, 500, "fault")
    (entry,) = [entry for entry in caplog.records if "find-me" in entry.getMessage()]
    assert entry.exc_info
    assert entry.exc_info[0] is ZeroDivisionError


def test_other_verbs_and_addresses_are_problems_too(empty: TestClient) -> None:
    """404 and 405 in the one shape."""
    assert refused(empty.get("/predict"), 405, "wrong-verb") == "/predict does not take GET, only POST"
    assert refused(empty.get("/nope"), 404, "unknown-route") == "there is nothing at /nope"
    response = empty.delete("/models")
    refused(response, 405, "wrong-verb")
    assert {"GET", "POST"} <= set(response.headers["allow"].split(", "))
    refused(empty.delete("/models/x/default"), 405, "wrong-verb")
