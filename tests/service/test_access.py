"""Who may do what: every route by every scope, made from the routes that the application really has."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from service.domain import SCOPES, Scope
from service.keys import Key, digest, make_secret
from service.storage.database import Database, sqlite_address
from service.storage.keys import SqlKeys
from service.web.app import make_web
from service.web.routes import ROUTES
from service.web.rules import PAGES, Rules
from tests.models import network
from tests.service.conftest import CLASSES, Start, refused, register

RULES = Rules(ROUTES)
# What makes a call of a route about the model `fraud`, where its address does not; a file stands for a form.
BODIES: dict[str, Any] = {
    "POST /predict": {"model": "fraud", "inputs": [[0, 0, 0, 0]]},
    "POST /calibrate": {"model": "fraud", "name": "p", "metric": "f1", "data": {"labels": [0], "logits": [[0.0, 1.0]]}},
    "POST /models": {"name": "fraud"},
}
QUERIES = {"/decisions": "?request_id=access-test"}
# Calls that are about no model, or about every one that the caller may use.
OF_NO_MODEL = {"GET /models", "GET /audit", "GET /audit/head", "GET /decisions", "GET /v2", "GET /v2/models",
               "GET /v2/models/stats", "POST /v2/repository/index", "GET /jobs"}  # fmt: skip
# Calls that are about something of the caller's own, which is not there for others.
OF_A_CALLER = {"GET /jobs/{job}", "GET /jobs/{job}/events", "DELETE /jobs/{job}"}
NOT_THERE = ("unknown-job", "unknown-curve")  # a caller with the right to ask is told so


def real_routes() -> list[tuple[str, str]]:
    """Verb and address of everything that the application answers, in the table or not."""
    app, _ = make_web(None)
    found: list[tuple[str, str]] = []
    for route in app.routes:
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/{{name}}"))
        else:
            assert isinstance(route, Route), f"{route} is of a kind that this test does not know"
            found += [(verb, route.path) for verb in sorted(route.methods or ())]
    return found


def address(path: str, model: str = "fraud") -> str:
    """An address of a route, with something for each parameter."""
    path += QUERIES.get(path, "")
    for name, value in {"model": model, "point": "argmax@1", "model_version": "1", "version": "1"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")


def new_key(scopes: frozenset[Scope], models: frozenset[str] | None = None) -> tuple[Key, dict[str, str]]:
    """A key, and the header that presents it."""
    key_id, secret = make_secret()
    key = Key(key_id, f"k-{key_id}", digest(secret.encode()), scopes, models, datetime.now(UTC), "test")
    return key, {"authorization": f"Bearer {secret}"}


def send(client: TestClient, verb: str, path: str, model: str, headers: dict[str, str]) -> Any:
    """Calls a route about a model, in its address or in its body."""
    body = BODIES.get(f"{verb} {path}")
    if body is not None and "name" in body and "model" not in body:
        files = {"file": ("m.onnx", b"x")}
        return client.request(verb, address(path), headers=headers, data={"name": model}, files=files)
    body = None if body is None else {**body, "model": model}
    return client.request(verb, address(path, model), headers=headers, json=body)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, dict[str, str]]]]:
    """A service with the model `fraud`, and callers: one for each scope, one with all of them for another model."""
    from service.main import make_app
    from service.settings import Settings

    data = tmp_path_factory.mktemp("access")
    wanted: dict[str, tuple[Key, dict[str, str]]] = {scope: new_key(frozenset({scope})) for scope in SCOPES}
    wanted |= {"other": new_key(frozenset(SCOPES), frozenset({"other"})), "all": new_key(frozenset(SCOPES))}
    database = Database(sqlite_address(data / "setpoint.db"))
    for key, _ in wanted.values():
        SqlKeys(database).add(key)
    database.close()
    with TestClient(
        make_app(Settings(data=data, decision_log="required")), "http://127.0.0.1:8000", raise_server_exceptions=False
    ) as client:
        client.headers.update(wanted["all"][1])
        register(client, network(2), classes=CLASSES)
        client.post("/predict", json=BODIES["POST /predict"], headers={"x-request-id": "access-test"})
        assert len(client.get("/decisions?request_id=access-test").json()) == 1
        del client.headers["authorization"]
        yield client, {name: headers for name, (_, headers) in wanted.items()}


def test_every_route_of_the_application_has_a_rule() -> None:
    """One that is added past the table fails here, and is answered to nobody: the door lets nothing else through."""
    known = {(rule.verb, rule.path) for rule in RULES.every}
    assert {(verb, path) for verb, path in real_routes() if (verb, path) not in known} == set()
    assert {rule.path for rule in RULES.every if rule.access == "open"} == {
        *PAGES,
        *(route.path for route in ROUTES if route.scope == "open"),
    }


@pytest.mark.parametrize("rule", RULES.every, ids=lambda rule: f"{rule.verb} {rule.path}")
def test_a_route_is_for_those_with_its_scope(guarded: Any, rule: Any) -> None:
    """Nobody without a key, everybody with one that has it, and no other scope will do."""
    client, callers = guarded
    if rule.access == "open":
        assert send(client, rule.verb, rule.path, "fraud", {}).status_code not in (401, 403)
        return
    refused(send(client, rule.verb, rule.path, "fraud", {}), 401, "unauthorized")
    for scope in SCOPES:
        answer = send(client, rule.verb, rule.path, "fraud", callers[scope])
        if scope == rule.access:
            if answer.status_code == 404:
                assert answer.json()["type"].endswith(NOT_THERE)
            assert answer.status_code not in (401, 403, 405), answer.text
        else:
            assert f"needs the scope '{rule.access}'" in refused(answer, 403, "forbidden")


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.every if rule.access != "open"], ids=lambda rule: f"{rule.verb} {rule.path}"
)
def test_a_route_is_for_those_with_its_model(guarded: Any, rule: Any) -> None:
    """A model that one may not use looks like one that there is not."""
    client, callers = guarded
    name = f"{rule.verb} {rule.path}"
    if rule.access == "metrics":
        refused(client.request(rule.verb, address(rule.path), headers=callers["other"]), 403, "forbidden")
        return
    if name in OF_NO_MODEL:
        answer = client.request(rule.verb, address(rule.path), headers=callers["other"])
        assert answer.status_code == 200
        assert "fraud" not in answer.text
        return
    if name in OF_A_CALLER:
        labels = {"labels": [0, 1] * 10, "logits": [[0.0, float(i % 3)] for i in range(20)]}
        body = {**BODIES["POST /calibrate"], "data": labels}
        client.post("/calibrate", json=body, headers=callers["calibrate"])
        own = client.get("/jobs", headers=callers["calibrate"]).json()[0]["id"]
        for job in (own, "nothing"):
            refused(client.request(rule.verb, rule.path.format(job=job), headers=callers["other"]), 404, "unknown-job")
        return
    assert "{model}" in rule.path or name in BODIES, f"{name}: tell this test how a call of it is about a model"
    said = [
        refused(send(client, rule.verb, rule.path, model, callers["other"]), 403, "forbidden").replace(model, "M")
        for model in ("fraud", "nothing")
    ]
    assert said[0] == said[1]
    assert "only other" in said[0]


def test_what_the_table_does_not_know_is_not_there(guarded: Any) -> None:
    """Also where the framework would take the address for one that it knows."""
    client, callers = guarded
    paths = ("/audit%0A", "/audit/", "/models//default", "/Audit", "/models/a%2Fb", "/metrics/x")
    for path in paths:
        refused(client.get(path, headers=callers["predict"]), 404, "unknown-route")
        refused(client.get(path), 401, "unauthorized")
    refused(client.request("TRACE", "/audit", headers=callers["audit"]), 405, "wrong-verb")
    refused(client.options("/predict", headers=callers["audit"]), 405, "wrong-verb")


def test_a_key_restricted_to_a_model_works_with_it(start: Start, tmp_path: Path) -> None:
    """And sees it alone."""
    client = start()
    register(client, network(2), classes=CLASSES)
    register(client, network(2), "other")
    key, headers = new_key(frozenset({"predict", "audit"}), frozenset({"fraud"}))
    database = Database(sqlite_address(tmp_path / "data" / "setpoint.db"))
    SqlKeys(database).add(key)
    database.close()
    time.sleep(1)  # what a running server may take to see a key
    assert client.post("/predict", json=BODIES["POST /predict"], headers=headers).status_code == 200
    assert [model["name"] for model in client.get("/models", headers=headers).json()] == ["fraud"]
    assert {entry["model"] for entry in client.get("/audit", headers=headers).json()} == {"fraud"}
    refused(client.get("/models"), 401, "unauthorized")
