"""Shadows: counted beside every answer, never answered, never in the way."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.errors import StorageFailed
from service.inference import answer
from service.points import to_state
from service.ports import ShadowCount
from service.shadows import MOST_NUMBERS, Shadows
from service.storage.database import Database
from service.storage.shadows import SqlShadowBook
from service.storage.sql import SqlStore
from tests.contracts.test_points import add, do, why
from tests.contracts.test_store import version
from tests.databases import KINDS, new_database
from tests.service.conftest import Start, alive, publish, refused

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(200, 2)) * 2
SHADOW = "/models/fraud/operating-points/eager@1/shadow"


def no_run(version: Any) -> Any:
    """Of scores nothing is run."""
    raise AssertionError(f"{version} was loaded")


def predict(client: TestClient, logits: Any = LOGITS, **fields: Any) -> dict[str, Any]:
    """An answer."""
    response = client.post("/predict", json={"model": "fraud", "logits": np.asarray(logits).tolist(), **fields})
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.fixture
def shadowed(fraud: TestClient) -> TestClient:
    """The model `fraud` with the default `p@1` and the shadow `eager@1`."""
    publish(fraud, "p", 0.0)
    publish(fraud, "eager", 1.5)
    move = {"operating_point": "p@1", "reason": "test"}
    assert fraud.put("/models/fraud/default", json=move).status_code == 200
    assert fraud.post(SHADOW, json={"reason": "see what it would do"}).json()["state"] == "shadow"
    return fraud


def test_a_shadow_is_counted_against_what_was_answered(shadowed: TestClient) -> None:
    """By answering point and pair of classes, exactly; the answers are those without it."""
    answered = [row["label"] for row in predict(shadowed)["predictions"]]
    predict(shadowed, operating_point=["p", "argmax"] * 100)
    predict(shadowed, LOGITS[:1], operating_point="argmax")
    would = np.where(LOGITS[:, 1] + 1.5 > LOGITS[:, 0], "fraud", "clear").tolist()
    said = shadowed.get(SHADOW).json()
    by_p = [*zip(answered, would, strict=True), *zip(answered[::2], would[::2], strict=True)]
    by_argmax = [*zip(answered[1::2], would[1::2], strict=True), (answered[0], would[0])]
    expected = {("p@1", *pair): by_p.count(pair) for pair in by_p}
    expected |= {("argmax@1", *pair): by_argmax.count(pair) for pair in by_argmax}
    assert {(row["answered_by"], row["answered"], row["shadow"]): row["rows"] for row in said["pairs"]} == expected
    differ = sum(a != b for a, b in [*by_p, *by_argmax])
    assert differ > 0
    assert (said["rows"], said["agree"], said["differ"], said["skipped"]) == (401, 401 - differ, differ, 0)
    assert sum(hour["agree"] for hour in said["hours"]) == said["agree"]
    metrics = shadowed.get("/metrics").text
    assert f'setpoint_shadow_rows_total{{agrees="false",model="fraud",operating_point="eager@1"}} {differ}.0' in metrics


def test_answers_of_the_other_protocol_are_counted_too(shadowed: TestClient) -> None:
    """Under an alias as well; neither protocol answers with the shadow."""
    alias = {"operating_point": "argmax", "reason": "test"}
    assert shadowed.put("/models/fraud/aliases/plain", json=alias).status_code == 200
    rows = {"name": "x", "shape": [3, 4], "datatype": "FP32", "data": [0.0] * 12}
    ask = {"inputs": [rows], "parameters": {"operating_point": "plain"}}
    reply = shadowed.post("/v2/models/fraud/infer", json=ask)
    assert reply.status_code == 200, reply.text
    assert reply.json()["parameters"]["operating_point"] == "argmax@1"
    said = shadowed.get(SHADOW).json()
    assert (said["rows"], {row["answered_by"] for row in said["pairs"]}) == (3, {"argmax@1"})
    refused_ = shadowed.post("/v2/models/fraud/infer", json={**ask, "parameters": {"operating_point": "eager"}})
    assert refused_.status_code == 409
    assert "does not answer" in refused_.json()["error"]


def test_a_shadow_never_answers(shadowed: TestClient) -> None:
    """By no name; a comparison may show it."""
    for reference in ("eager", "eager@1", ["eager"] * 200):
        response = shadowed.post(
            "/predict", json={"model": "fraud", "logits": LOGITS.tolist(), "operating_point": reference}
        )
        assert "eager@1 is computed in the shadow, and does not answer" in refused(response, 409, "not-approved")
    compared = predict(shadowed, compare=["eager", "p"])["compare"]
    assert compared["eager"] != compared["p"]
    alive(shadowed)


def test_counts_outlive_the_server_and_the_shadow(start: Start, shadowed: TestClient) -> None:
    """They are kept when it stops, and when the point is approved."""
    predict(shadowed)
    shadowed.__exit__(None, None, None)
    again = start()
    assert again.get(SHADOW).json()["rows"] == 200
    approved = again.post("/models/fraud/operating-points/eager@1/approve", json={"reason": "it agrees"}).json()
    assert (approved["state"], approved["approved_by"]) == ("approved", "local")
    predict(again)
    said = again.get(SHADOW).json()
    assert (said["state"], said["rows"]) == ("approved", 200)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqlStore, SqlShadowBook]]:
    """A store with a model, and its book of shadows."""
    database = Database(new_database(request.param, tmp_path))
    opened = SqlStore(database)
    opened.add_version(version(), "ann")
    yield opened, SqlShadowBook(database)
    opened.close()


def test_servers_at_once_add_to_the_same_counts(store: tuple[SqlStore, SqlShadowBook]) -> None:
    """None is lost, on every database."""
    hour = datetime(2026, 1, 2, 3, tzinfo=UTC)
    one = ShadowCount("m", "p@1", hour, "q@1", 0, 1, 2)
    other = ShadowCount("m", "p@1", hour.replace(hour=2), "q@1", 0, 0, 5)

    def add_both() -> None:
        for _ in range(5):
            store[1].add([one, other])

    threads = [threading.Thread(target=add_both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(count.hour, count.rows) for count in store[1].counts("m", "p@1")] == [(other.hour, 100), (hour, 40)]
    assert store[1].counts("m", "p@2") == []


def test_a_store_that_does_not_answer_loses_no_count(
    store: tuple[SqlStore, SqlShadowBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait, and are kept when it is back."""
    model, shadows = shadowed_model(store[0]), Shadows(store[1], no_run)
    shadows.offer(model, LOGITS, answered(model))

    def lost(_: object) -> None:
        raise StorageFailed("gone")

    with monkeypatch.context() as patched:
        patched.setattr(store[1], "add", lost)
        with pytest.raises(StorageFailed):
            shadows.counts("m", "p@1")
        shadows.close()
    assert sum(count.rows for count in shadows.counts("m", "p@1")) == 200
    assert sum(shadows.totals().values()) == 200


def test_more_rows_than_can_wait_are_skipped_and_told(store: tuple[SqlStore, SqlShadowBook]) -> None:
    """The heap is bounded; what is not counted is said."""
    model, shadows = shadowed_model(store[0]), Shadows(store[1], no_run)
    with shadows._counting:  # the thread cannot take anything away meanwhile
        many = np.zeros((MOST_NUMBERS // 4 + 1, 2))
        for _ in range(3):
            shadows.offer(model, many, answered(model, many))
    shadows.close()
    counted = sum(count.rows for count in shadows.counts("m", "p@1"))
    assert counted + shadows.skipped("m", "p@1")[0] == 3 * len(many)
    assert shadows.skipped("m", "p@1")[0] >= len(many)


def test_rows_of_versions_without_a_shadow_are_not_looked_at(store: tuple[SqlStore, SqlShadowBook]) -> None:
    """No thread is started for nothing."""
    shadows = Shadows(store[1], no_run)
    model = store[0].model("m")
    shadows.offer(model, LOGITS, answered(model))
    assert shadows._thread is None
    assert shadows.totals() == {}
    shadows.close()


def shadowed_model(store: SqlStore) -> Any:
    """The model with a shadow `p@1`."""
    return do(store, to_state(add(store), "shadow", why()))


def answered(model: Any, logits: Any = LOGITS) -> Any:
    """What the default answers."""
    return answer(logits, model, model.version(None), None)
