"""The life of a point over REST: every route, with what is refused and how it is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.domain import SCOPES
from tests.models import network
from tests.service.conftest import CLASSES, Start, alive, publish, refused, register
from tests.service.test_keys import bearer, made

WHY = {"reason": "because"}
POINTS = "/models/fraud/operating-points"


def interval(value: float, width: float = 0.05) -> dict[str, Any]:
    """A measured share, or a difference of two below 0."""
    return {
        "value": value,
        "low": value - width if value < 0 else max(0.0, value - width),
        "high": min(1.0, value + width),
        "confidence": 0.95,
        "rows": 9,
        "kind": "held_out",
    }


def default(client: TestClient, label: str, **fields: Any) -> Any:
    """Asks for another default."""
    return client.put("/models/fraud/default", json={"operating_point": label, **WHY, **fields})


def test_an_alias_answers_and_the_reply_names_the_point(fraud: TestClient) -> None:
    """In `operating_point`, one per row and in `compare`; a model tells its aliases."""
    publish(fraud, "p", 1.0)
    said = fraud.put("/models/fraud/aliases/tills", json={"operating_point": "p", **WHY}).json()
    assert said == {"alias": "tills", "operating_point": "p@1", "model_version": 1}
    assert fraud.get("/models/fraud/aliases").json() == [said]
    assert fraud.get("/models/fraud").json()["aliases"] == {"tills": "p@1"}
    assert fraud.get(f"{POINTS}/tills").json()["aliases"] == ["tills"]
    rows = {"model": "fraud", "inputs": [[0, 0, 0, 0]] * 2}
    assert fraud.post("/predict", json={**rows, "operating_point": "tills"}).json()["operating_point"] == "p@1"
    reply = fraud.post("/predict", json={**rows, "operating_point": ["tills", "argmax"], "compare": ["tills"]}).json()
    assert reply["operating_point"] == ["p@1", "argmax@1"]
    assert list(reply["compare"]) == ["tills"]
    taken = fraud.post(POINTS, json={"name": "tills", "point": said_point()})
    assert "'tills' is an alias of model 'fraud'" in refused(taken, 409, "conflict")
    refused(fraud.delete("/models/fraud/aliases/tills"), 400, "bad-request")
    refused(fraud.delete("/models/fraud/aliases/nope?reason=x"), 404, "unknown-alias")
    assert fraud.delete("/models/fraud/aliases/tills?reason=x").json() == []
    refused(fraud.post("/predict", json={**rows, "operating_point": "tills"}), 404, "unknown-point")
    alive(fraud)


def said_point() -> dict[str, Any]:
    """A point of two classes."""
    return {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 1.0]}


def test_a_retired_point_is_refused_with_the_reason(fraud: TestClient) -> None:
    """By 409, in every way to name it; it is listed as what it is."""
    publish(fraud, "p", 1.0)
    assert fraud.post(f"{POINTS}/p@1/retire", json={"reason": "misses cards"}).json()["because"] == "misses cards"
    for ask in ({"operating_point": "p"}, {"operating_point": ["p@1"]}, {"compare": ["p"]}):
        response = fraud.post("/predict", json={"model": "fraud", "inputs": [[0, 0, 0, 0]], **ask})
        assert "p@1 is retired: misses cards" in refused(response, 409, "not-approved")
    assert refused(default(fraud, "p@1"), 409, "not-approved")
    assert [point["state"] for point in fraud.get(POINTS).json()] == ["approved", "retired"]
    refused(fraud.post(f"{POINTS}/p@1/retire", json=WHY), 409, "conflict")
    refused(fraud.post(f"{POINTS}/p@1/shadow", json={}), 400, "bad-request")
    refused(fraud.post(f"{POINTS}/q@1/retire", json=WHY), 404, "unknown-point")
    alive(fraud)


def test_the_default_goes_back_across_versions(fraud: TestClient) -> None:
    """It tells beforehand where to; the version is loaded, and answers at once."""
    register(fraud, network(2, seed=4), classes=CLASSES)
    publish(fraud, "p", 1.0, model_version=2)
    assert fraud.get("/models/fraud/default").json()["previous"] is None
    refused(fraud.post("/models/fraud/default/rollback", json=WHY), 409, "conflict")
    moved = default(fraud, "p@1", expected="argmax@1").json()
    assert (moved["model_version"], moved["operating_point"]) == (2, "p@1")
    assert moved["previous"] == {"model": "fraud", "model_version": 1, "operating_point": "argmax@1"}
    refused(default(fraud, "argmax@2", expected="argmax@1"), 409, "conflict")
    assert default(fraud, "argmax@2", expected="p@1").status_code == 200
    labels = [fraud.post("/models/fraud/default/rollback", json=WHY).json()["operating_point"] for _ in range(2)]
    assert labels == ["p@1", "argmax@1"]
    alive(fraud)


def test_a_default_that_is_moved_to_where_it_is_writes_nothing(fraud: TestClient) -> None:
    """A call may be repeated: the same answer, one entry, and a rollback goes to what was before."""
    publish(fraud, "p", 1.0)
    call = {"operating_point": "p", "reason": "because"}
    first = fraud.put("/models/fraud/default", json=call)
    entries = fraud.get("/audit").json()
    for reason in ("because", "once more"):
        again = fraud.put("/models/fraud/default", json={**call, "reason": reason})
        assert (again.status_code, again.json()) == (200, first.json())
    assert fraud.get("/audit").json() == entries
    refused(fraud.put("/models/fraud/default", json={**call, "expected": "argmax@1"}), 409, "conflict")
    back = fraud.post("/models/fraud/default/rollback", json={"reason": "back"})
    assert back.json()["operating_point"] == "argmax@1"


def test_a_calibrated_point_that_breaks_its_constraint_is_no_default_without_an_override(fraud: TestClient) -> None:
    """With the evidence about it; with `make_default` nothing is published either. A certified one needs none."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 400)
    logits = rng.normal(labels * 2.0 - 1).tolist()
    data = {"logits": logits, "labels": labels.tolist()}
    call = {"model": "fraud", "name": "p", "metric": "precision", "constraints": ["recall >= 0.9"], "data": data}
    call["search"] = "exact"  # whose cut just meets the bound
    said = fraud.post("/calibrate", json=call).json()
    recall = said["evidence"]["recall"]["value"]
    assert recall < 0.9  # as of these rows; on those that fitted it the bound holds
    for response in (default(fraud, "p@1"), fraud.post("/calibrate", json={**call, "make_default": True})):
        detail = refused(response, 409, "bad-evidence")
        assert f"wanted recall >= 0.9, found {recall:.4g}" in detail
        assert "optimism-corrected" in detail
    assert fraud.get("/models/fraud").json()["operating_points"] == ["argmax@1", "p@1"]
    forced = {**call, "make_default": True, "override": True, "reason": "until the next delivery"}
    assert fraud.post("/calibrate", json=forced).json()["is_default"] is True
    (newest, *_) = fraud.get("/audit?limit=1").json()
    assert newest["details"]["overridden"][0].startswith("wanted recall >= 0.9, found")
    assert newest["details"]["reason"] == "until the next delivery"
    certified = {**call, "name": "sure", "constraints": ["recall >= 0.9 @ 95%"], "make_default": True}
    response = fraud.post("/calibrate", json=certified)
    assert response.status_code == 201, response.text
    assert fraud.get("/models/fraud/default").json()["operating_point"] == "sure@1"


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"constraints": ["recall >= 0.9"], "evidence": {"recall": interval(0.89)}}, "wanted recall >= 0.9, found"),
        ({"constraints": ["fpr <= 1%"], "evidence": {"fpr": interval(0.02)}}, "wanted fpr <= 0.01, found 0.02"),
        ({"constraints": ["recall >= 0.9 @ 95%"], "evidence": {"recall": interval(0.99)}}, "found no guarantee for it"),
        ({"metric": "f1", "evidence": {"f1": interval(0.5)}, "before": {"f1": interval(0.8)}}, "the plain model's on"),
        (
            {"metric": "f1", "evidence": {"f1": interval(0.5)}, "before": {"f1": interval(0.6)},
             "gain": {"f1": {**interval(-0.1), "high": -0.01}}}, "the plain model's on the same rows 0.6",
        ),
    ],
)  # fmt: skip
def test_evidence_that_speaks_against_a_point(fraud: TestClient, details: dict[str, Any], said: str) -> None:
    """What was wanted and what was found."""
    publish(fraud, "p", 1.0, details=details)
    assert said in refused(default(fraud, "p@1"), 409, "bad-evidence")
    response = fraud.put("/models/fraud/aliases/a", json={"operating_point": "p@1", **WHY})
    assert said in refused(response, 409, "bad-evidence")
    moved = default(fraud, "p@1", override=True)
    assert any(said in warning for warning in moved.json()["warnings"])


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({}, ["it has no evidence"]),
        ({"metric": "f1", "evidence": {"f1": interval(0.6)}, "before": {"f1": interval(0.61)}}, ["its f1 is 0.6 ["]),
        ({"constraints": ["recall >= 0.9"], "evidence": {"f1": interval(0.6)}}, ["does not tell recall"]),
        ({"constraints": ["nonsense"], "evidence": {"f1": interval(0.6)}}, ["'nonsense' cannot be read"]),
        ({"positive": "clear", "metric": "mine", "evidence": {"f1": interval(0.6)}}, []),
        ({"metric": "f1", "evidence": {"f1": interval(0.6)}, "before": {"f1": interval(0.5)}}, []),
        (  # it pays in its metric for a bound that the plain model breaks
            {"metric": "precision", "constraints": ["recall >= 0.9"],
             "evidence": {"precision": interval(0.3), "recall": interval(0.95)},
             "before": {"precision": interval(0.8), "recall": interval(0.4)}}, [],
        ),
        (
            {"metric": "mean_cost", "evidence": {"mean_cost": interval(0.3)}, "before": {"mean_cost": interval(0.8)}},
            [],
        ),
    ],
)  # fmt: skip
def test_doubts_are_told_and_stop_nothing(fraud: TestClient, details: dict[str, Any], said: list[str]) -> None:
    """Within chance, or not known."""
    digest = fraud.get("/models/fraud").json()["versions"][0]["digest"]
    publish(fraud, "p", 1.0, details=details, model_digest=digest)
    response = default(fraud, "p@1")
    assert response.status_code == 200, response.text
    warnings = response.json()["warnings"]
    assert len(warnings) == len(said)
    for warning, part in zip(warnings, said, strict=True):
        assert part in warning


@pytest.mark.parametrize(
    ("details", "status", "kind", "message"),
    [
        ({"constraints": "recall >= 0.9"}, 400, "bad-request", "details.constraints: Input should be a valid list"),
        ({"positive": []}, 400, "bad-request", "details.positive: Input should be a valid string"),
        ({"positive": "froud"}, 422, "bad-point", "details.positive must be one of clear, fraud; got 'froud'"),
    ],
)
def test_a_purpose_that_cannot_be_read_is_refused(
    fraud: TestClient, details: dict[str, Any], status: int, kind: str, message: str
) -> None:
    """A constraint that is not in a list would be of no effect when the point is approved."""
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 1.0]}
    body = {"name": "p", "point": point, "details": details}
    response = fraud.post("/models/fraud/operating-points", json=body)
    assert message in refused(response, status, kind)


def test_a_point_says_what_it_was_fitted_for(fraud: TestClient) -> None:
    """With its constraints, its positive class and the prevalence, in the list too."""
    details = {"metric": "precision", "constraints": ["recall >= 0.8"], "prevalence": [0.995, 0.005]}
    publish(fraud, "p", 1.0, details=details)
    shown = fraud.get("/models/fraud/operating-points/p@1").json()
    (listed,) = (
        each for each in fraud.get("/models/fraud/operating-points").json() if each["operating_point"] == "p@1"
    )
    for reply in (shown, listed):
        assert reply["fitted_for"] == "precision with recall >= 0.8, for a prevalence of 0.5 %"
        assert (reply["constraints"], reply["positive"]) == (["recall >= 0.8"], "fraud")


def test_a_point_is_bound_to_the_model_file_it_was_fitted_on(fraud: TestClient) -> None:
    """By the digest that the model was registered under."""
    digest = fraud.get("/models/fraud").json()["versions"][0]["digest"]
    body = {"name": "p", "point": said_point()}
    response = fraud.post(POINTS, json={**body, "model_digest": "0" * 64})
    assert f"fitted on the model file {'0' * 64}; version 1 of model 'fraud' is {digest}" in refused(
        response, 422, "other-model"
    )
    assert fraud.post(POINTS, json={**body, "model_digest": digest}).json()["model_digest"] == digest
    assert publish(fraud, "q", 1.0)["model_digest"] == digest


def test_four_eyes_need_callers_with_names(start: Start) -> None:
    """A server that knows only its machine, or one token, says so, and goes on answering."""
    first = start()
    register(first, network(2), classes=CLASSES)
    publish(first, "p", 1.0)
    first.__exit__(None, None, None)
    client = start(approval="four_eyes")
    calls = [
        client.post(POINTS, json={"name": "q", "point": said_point()}),
        default(client, "p@1"),
        client.put("/models/fraud/aliases/a", json={"operating_point": "p@1", **WHY}),
    ]
    for response in calls:
        detail = refused(response, 403, "forbidden")
        assert "'local' is nobody in particular: call with a key, 'setpoint keys create' makes one" in detail
    data = {"logits": [-1.0, 1.0] * 10, "labels": [0, 1] * 10}
    spec = {"model": "fraud", "name": "q", "metric": "f1", "make_default": True, "data": data}
    assert "leave make_default out" in refused(client.post("/calibrate", json=spec), 403, "forbidden")
    assert client.post("/predict", json={"model": "fraud", "inputs": [[0, 0, 0, 0]], "operating_point": "p"}).is_success
    assert client.post(f"{POINTS}/p@1/shadow", json=WHY).json()["state"] == "shadow"
    assert "nobody in particular" in refused(client.post(f"{POINTS}/p@1/approve", json=WHY), 403, "forbidden")
    alive(client)


def test_the_audit_trail_is_read_page_by_page(fraud: TestClient) -> None:
    """And of one model alone."""
    register(fraud, network(3), "three")
    for _ in range(3):
        publish(fraud, "p", 1.0)
    everything = fraud.get("/audit").json()
    pages: list[Any] = []
    while page := fraud.get("/audit", params={"limit": 2, **({"before": pages[-1]["number"]} if pages else {})}).json():
        pages += page
    assert pages == everything
    assert [entry["number"] for entry in everything] == [5, 4, 3, 2, 1]
    assert [entry["action"] for entry in fraud.get("/audit?model=three").json()] == ["register"]
    assert fraud.get("/audit?model=nope").json() == []
    for before in ("0", "-1", "x", str(2**40)):
        refused(fraud.get(f"/audit?before={before}"), 400, "bad-request")


def test_two_people_with_keys_bring_a_point_to_life(start: Start, tmp_path: Path) -> None:
    """The one fits and publishes, which makes drafts; the other approves, promotes and rolls back; with their names."""
    ann, ben = (
        bearer(made(tmp_path / "data", "--name", name, *(f"--scope={scope}" for scope in SCOPES))["key"])
        for name in ("ann", "ben")
    )
    client = start(approval="four_eyes")
    files = {"file": ("model.onnx", network(2))}
    client.post("/models", data={"name": "fraud", "classes": CLASSES}, files=files, headers=ann)
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    data = {"logits": rng.normal(labels * 3.0 - 1).tolist(), "labels": labels.tolist()}
    spec = {"model": "fraud", "name": "p", "metric": "f1", "data": data}
    said = client.post("/calibrate", json=spec, headers=ann).json()
    assert (said["state"], said["author"], said["approved_by"]) == ("draft", "ann", None)
    ask = {"model": "fraud", "logits": [[0.0, 1.0]]}
    response = client.post("/predict", json={**ask, "operating_point": "p"}, headers=ann)
    assert "p@1 is a draft" in refused(response, 409, "not-approved")
    assert client.post("/predict", json={**ask, "compare": ["p"]}, headers=ann).json()["compare"]["p"]
    mine = client.post(f"{POINTS}/p@1/approve", json=WHY, headers=ann)
    assert "ann published p@1, so somebody else must do this" in refused(mine, 403, "forbidden")
    said = client.post(f"{POINTS}/p@1/approve", json=WHY, headers=ben).json()
    assert (said["state"], said["approved_by"]) == ("approved", "ben")
    client.post("/calibrate", json={**spec, "metric": "recall"}, headers=ann)
    answered = client.post("/predict", json={**ask, "operating_point": "p"}, headers=ann).json()
    assert answered["operating_point"] == "p@1"
    move = {"operating_point": "p", **WHY}
    refused(client.put("/models/fraud/default", json=move, headers=ann), 403, "forbidden")
    assert client.put("/models/fraud/default", json=move, headers=ben).json()["operating_point"] == "p@1"
    refused(client.put("/models/fraud/aliases/a", json=move, headers=ann), 403, "forbidden")
    back = client.post("/models/fraud/default/rollback", json=WHY, headers=ben)
    assert back.json()["operating_point"] == "argmax@1"
    trail = client.get("/audit?model=fraud", headers=ann).json()
    assert [(entry["actor"], entry["action"]) for entry in trail] == [
        ("ben", "roll back"), ("ben", "set default"), ("ann", "publish"), ("ben", "approve"), ("ann", "publish"),
        ("ann", "register"),
    ]  # fmt: skip
    assert (trail[1]["details"]["author"], trail[1]["details"]["approved_by"]) == ("ann", "ben")


def test_under_four_eyes_nobody_brings_a_new_version_to_life_alone(start: Start, tmp_path: Path) -> None:
    """Neither with the token beside a key, nor by what is retired; a first version answers as ever."""
    names = {"ann": SCOPES, "ben": SCOPES, "max": ("manage", "predict")}
    ann, ben, manager = (
        bearer(made(tmp_path / "data", "--name", name, *(f"--scope={scope}" for scope in scopes))["key"])
        for name, scopes in names.items()
    )
    client = start(approval="four_eyes", token="a-token-of-32-characters-or-more")
    token = bearer("a-token-of-32-characters-or-more")

    def load(headers: dict[str, str], seed: int) -> Any:
        files = {"file": ("model.onnx", network(2, seed=seed))}
        return client.post("/models", data={"name": "fraud", "classes": CLASSES}, files=files, headers=headers)

    assert "nobody in particular" in refused(load(token, 1), 403, "forbidden")
    assert load(ann, 1).status_code == load(ann, 2).status_code == 201
    move = {"operating_point": "argmax", "model_version": 2, **WHY}
    ask = {"model": "fraud", "inputs": [[0, 0, 0, 0]]}
    assert client.post("/predict", json=ask, headers=ann).is_success
    staged = client.post("/predict", json={**ask, "model_version": 2, "operating_point": "argmax"}, headers=ann)
    assert "argmax@2 is a draft" in refused(staged, 409, "not-approved")
    refused(client.put("/models/fraud/default", json=move, headers=ben), 409, "not-approved")
    refused(client.post(f"{POINTS}/argmax@2/approve", json=WHY, headers=ann), 403, "forbidden")
    assert client.post(f"{POINTS}/argmax@2/approve", json=WHY, headers=ben).json()["approved_by"] == "ben"
    refused(client.put("/models/fraud/default", json=move, headers=ann), 403, "forbidden")
    assert client.put("/models/fraud/default", json=move, headers=ben).json()["model_version"] == 2
    approve = {"override": True, **WHY}
    for _ in range(2):
        client.post(POINTS, json={"name": "p", "point": said_point()}, headers=ann)
    for label in ("p@1", "p@2"):
        assert client.post(f"{POINTS}/{label}/approve", json=approve, headers=ben).is_success
    for verb in ("retire", "shadow"):
        said = refused(client.post(f"{POINTS}/p@2/{verb}", json=WHY, headers=manager), 403, "forbidden")
        assert "max needs the scope 'approve'" in said
        refused(client.post(f"{POINTS}/p@2/{verb}", json=WHY, headers=token), 403, "forbidden")
    assert client.post(f"{POINTS}/p@1/retire", json=WHY, headers=manager).json()["state"] == "retired"
    assert client.post(f"{POINTS}/p@2/retire", json=WHY, headers=manager).json()["state"] == "retired"


def test_make_default_needs_the_scope_that_approves(start: Start, tmp_path: Path) -> None:
    """Also where approval is off: who may fit may not for that decide what answers."""
    whole = bearer(made(tmp_path / "data", "--name", "ann", *(f"--scope={scope}" for scope in SCOPES))["key"])
    fits = bearer(made(tmp_path / "data", "--name", "fitter", "--scope=calibrate", "--scope=predict")["key"])
    client = start()
    files = {"file": ("model.onnx", network(2))}
    client.post("/models", data={"name": "fraud", "classes": CLASSES}, files=files, headers=whole)
    data = {"logits": [-1.0, 1.0] * 30, "labels": [0, 1] * 30}
    spec = {"model": "fraud", "name": "p", "metric": "f1", "data": data}
    response = client.post("/calibrate", json={**spec, "make_default": True}, headers=fits)
    assert "fitter needs the scope 'approve'" in refused(response, 403, "forbidden")
    assert client.post("/calibrate", json=spec, headers=fits).json()["state"] == "approved"
