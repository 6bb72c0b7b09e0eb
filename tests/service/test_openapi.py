"""The OpenAPI document is the app's, and the answers are what it says."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from starlette.testclient import TestClient

from service.web import schemas
from service.web.examples import EXAMPLES
from service.web.oip.shape import is_oip
from service.web.openapi import document
from service.web.routes import ROUTES
from tests.models import network
from tests.service.conftest import publish, register

WRITTEN = Path(__file__).parents[2] / "openapi" / "openapi.json"


def test_the_written_document_is_the_apps() -> None:
    """`make openapi` writes it anew."""
    assert WRITTEN.read_text(encoding="utf-8") == document()


def test_the_server_hands_it_out(client: TestClient) -> None:
    """And a page to read it on, with nothing fetched from elsewhere."""
    assert client.get("/openapi.json").json() == json.loads(document())
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://127.0.0.1:8000", "")
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/static-offline-docs/{asset}").status_code == 200


def test_every_route_is_described_whole() -> None:
    """Body, answer, problem, token and scope; every reference leads somewhere."""
    described = json.loads(document())
    for route in ROUTES:
        operation = described["paths"][route.path][route.verb.lower()]
        assert operation["description"]
        assert operation["x-scope"] == route.scope
        assert ("requestBody" in operation) == bool(route.json or route.form)
        assert {str(route.status), *map(str, route.others), "default"} == set(operation["responses"])
        error = operation["responses"]["default"]["content"]
        assert list(error) == ["application/json" if is_oip(route.path) else "application/problem+json"]
        for content in (operation.get("requestBody"), operation["responses"].get("200")) if route.binary else ():
            assert content["content"].keys() == {"application/json", "application/octet-stream"}
        assert operation["security"] == (
            [] if route.scope == "open" else [{"bearer": []}, {"header": []}, {"basic": []}]
        )
    names = set(described["components"]["schemas"])
    used = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                used.add(value["$ref"].removeprefix("#/components/schemas/"))
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(described)
    assert used == names


def test_operations_are_grouped_and_their_bodies_have_examples() -> None:
    """Each operation in one group that is described; every example is a body that its type takes."""
    described = json.loads(document())
    groups = {tag["name"] for tag in described["tags"]}
    used = [operation["tags"] for path in described["paths"].values() for operation in path.values()]
    assert {group for each in used for group in each} == groups
    assert all(len(each) == 1 for each in used)
    kinds = {route.json.__name__: route.json for route in ROUTES if route.json is not None}
    assert EXAMPLES.keys() <= kinds.keys()
    for name, examples in EXAMPLES.items():
        for example in examples.values():
            kinds[name].model_validate(example)
    shown = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert shown["rows"]["value"] == EXAMPLES["PredictRequest"]["rows"]


def test_no_request_has_a_default_keyword() -> None:
    """Generated clients would have to send the field; nothing that may be left out is listed as required."""
    schemas = json.loads(document())["components"]["schemas"]
    for route in ROUTES:
        for kind in filter(None, (route.json, route.form)):
            schema = schemas[kind.__name__]
            optional = {name for name, field in kind.model_fields.items() if not field.is_required()}
            assert not optional & set(schema.get("required", []))
            assert not [name for name, field in schema["properties"].items() if "default" in field]
    fields = schemas["CalibrateRequest"]["properties"]
    assert fields["method"]["description"].endswith('Default: "bias_adjustment".')
    assert schemas["HealthReply"]["properties"]["reasons"]["default"] == []  # a reply always has it


def test_predict_answers_and_takes_what_is_described(fraud: TestClient) -> None:
    """The body is read by hand, so its type is held to the route here."""
    ask: dict[str, Any] = {"model": "fraud", "model_version": 1, "inputs": [[1, 2, 3, 4]]}
    ask |= {"operating_point": ["argmax"], "compare": ["argmax"], "priority": 1, "timeout_ms": 1000}
    schemas.PredictRequest.model_validate(ask)
    reply = fraud.post("/predict", json=ask).json()
    assert schemas.PredictReply.model_validate(reply).model_dump() == reply
    known = set(schemas.PredictRequest.model_fields)
    from service.web.predict import _KEYS

    assert known == _KEYS


def test_every_reply_is_as_described(fraud: TestClient) -> None:
    """Nothing more than the type says, but for the details that a point carries."""
    register(fraud, network(3), "three")
    publish(fraud, "p", 1.0)
    kinds: dict[str, type[BaseModel]] = {
        "/models/fraud": schemas.ModelReply,
        "/models/fraud/operating-points/p": schemas.PointReply,
        "/health/ready": schemas.HealthReply,
    }
    for path, kind in kinds.items():
        reply = fraud.get(path).json()
        assert json.loads(kind.model_validate(reply).model_dump_json()) == reply
    problem = fraud.get("/nope").json()
    assert schemas.Problem.model_validate(problem).model_dump(exclude_none=True) == problem


def test_no_number_in_an_address_is_too_large_to_be_answered(fraud: TestClient) -> None:
    """Wherever one may stand: it is refused or leads to nothing, and is no fault of the server's."""
    names = {"model": "fraud", "version": "1", "point": "argmax@0", "job": "x", "alias": "x"}
    asked = set()
    for path, verbs in fraud.get("/openapi.json").json()["paths"].items():
        for told in verbs.get("get", {}).get("parameters", []):
            name, kinds = told["name"], told["schema"].get("anyOf", [told["schema"]])
            if name != "version" and not any(kind.get("type") == "integer" for kind in kinds):
                continue
            for number in (-1, 2**31, 2**63, 2**64, 10**4000):
                query = {"request_id": "r"} if path == "/decisions" else {}
                if told["in"] == "query":
                    query[name] = str(number)
                said = fraud.get(path.format(**{**names, name: number}), params=query)
                assert said.status_code < 500, (path, query)
            asked.add(name)
    assert asked == {"version", "model_version", "limit", "before", "first_row", "after"}
