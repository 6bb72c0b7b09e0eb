"""Scores that were computed elsewhere, as logits, probabilities or margins: in predict, calibrate and `/v2`."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from calibrate import fit
from service.decisions import digest_rows
from tests.models import network
from tests.service.conftest import Start, refused, refused_v2, register
from tests.service.oip.ask import infer, read, tensor
from tests.service.test_scores_models import CLASSES, by_classes, simulated

THREE = ["red", "green", "blue"]


def predicted(client: TestClient, **rows: Any) -> list[dict[str, Any]]:
    """The decisions of the model `risk`."""
    response = client.post("/predict", json={"model": "risk", **rows})
    assert response.status_code == 200, response.text
    return list(response.json()["predictions"])


def npy(array: np.ndarray) -> bytes:
    """An array as a file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def arrow(**columns: Any) -> bytes:
    """Columns as an Arrow stream."""
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_every_form_of_the_same_scores_is_decided_alike(client: TestClient) -> None:
    """The probabilities that come back are those that were sent, whichever way; the margin is their log-odds."""
    by_classes(client)
    risks = np.array([0.02, 0.3, 0.5001, 0.97])
    log_odds = np.log(risks / (1 - risks))
    forms: list[dict[str, Any]] = [
        {"probabilities": risks.tolist()},
        {"probabilities": [[risk] for risk in risks.tolist()]},
        {"probabilities": np.column_stack([1 - risks, risks]).tolist()},
        {"probabilities": [{"died": risk, "alive": 1 - risk} for risk in risks.tolist()]},
        {"probabilities": {"died": risks.tolist(), "alive": (1 - risks).tolist()}},
        {"margins": log_odds.tolist()},
        {"margins": [[margin] for margin in log_odds.tolist()]},
        {"logits": log_odds.tolist()},
    ]
    for form in forms:
        rows = predicted(client, **form)
        assert [row["label"] for row in rows] == ["alive", "alive", "died", "died"], form
        np.testing.assert_allclose([row["probabilities"][1] for row in rows], risks, rtol=1e-12)
        np.testing.assert_allclose([row["margin"] for row in rows], log_odds, rtol=1e-9, atol=1e-12)
    packed = [
        ("probabilities", npy(risks)),
        ("probabilities", npy(np.column_stack([1 - risks, risks]))),
        ("probabilities", arrow(probabilities=risks)),
        ("probabilities", arrow(died=risks, alive=1 - risks)),
        ("margins", npy(log_odds)),
        ("margins", arrow(margins=log_odds)),
    ]
    for kind, body in packed:
        response = client.post(f"/predict?model=risk&rows={kind}", content=body)
        assert response.status_code == 200, response.text
        found = [row["probabilities"][1] for row in response.json()["predictions"]]
        np.testing.assert_allclose(found, risks, rtol=1e-12)
    for kind, values in (("probabilities", risks), ("probabilities", risks[:, np.newaxis]), ("margins", log_odds)):
        _, found_v2 = read(infer(client, tensor(kind, values, "FP64"), path="/v2/models/risk/infer"))
        np.testing.assert_allclose(np.asarray(found_v2["probabilities"]).reshape(-1, 2)[:, 1], risks, rtol=1e-12)


def test_a_model_of_a_file_and_one_of_three_classes_take_probabilities(client: TestClient) -> None:
    """By name in any order; margins are of two classes."""
    register(client, network(3), "risk", classes=json.dumps(THREE))
    shares = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
    for rows in (
        shares.tolist(),
        [dict(zip(reversed(THREE), reversed(row), strict=True)) for row in shares.tolist()],
    ):
        found = predicted(client, probabilities=rows)
        assert [row["label"] for row in found] == ["green", "blue", "red"]
        np.testing.assert_allclose([row["probabilities"] for row in found], shares, atol=1e-30)
    for rows, text in (
        ({"margins": [1.0]}, "margins are of two classes, the model has 3: send probabilities or logits"),
        ({"probabilities": [0.5]}, "probabilities: wanted 3 columns, one per class; got 1"),
        ({"probabilities": [[0.2, 0.2, 0.2]]}, "probabilities of row 0 must sum to 1, got 0.6"),
    ):
        assert refused(client.post("/predict", json={"model": "risk", **rows}), 422, "wrong-shape") == text


@pytest.mark.parametrize(
    ("rows", "status", "kind", "text"),
    [
        ({"probabilities": [0.1, 72]}, 422, "wrong-shape",
         "probabilities[1] must lie in [0, 1], got 72; divide percentages by 100"),
        ({"probabilities": [[0.5, 0.5], [1.5, -0.5]]}, 422, "wrong-shape", "probabilities[1, 0] must lie in [0, 1]"),
        ({"probabilities": [[0.2, 0.3, 0.5]]}, 422, "wrong-shape", "or the one of class 'died'; got 3"),
        ({"probabilities": ["0.5"]}, 422, "wrong-shape", "probabilities: wanted numbers"),
        ({"probabilities": [None]}, 422, "wrong-shape", "probabilities: wanted numbers"),
        ({"probabilities": []}, 422, "no-rows", "probabilities: wanted at least one row"),
        ({"probabilities": [{"dead": 0.5, "alive": 0.5}]}, 422, "wrong-columns", "got 'dead'"),
        ({"margins": [[0.0, 1.0]]}, 422, "wrong-shape", "margins: wanted one number a row, got shape (1, 2)"),
        ({"margins": [1.0], "logits": [1.0]}, 400, "bad-request", "got logits and margins"),
        ({}, 400, "bad-request", "exactly one of inputs, features, logits, probabilities, margins; got none"),
    ],
)  # fmt: skip
def test_scores_that_are_not_what_they_are_called_are_refused(
    client: TestClient, rows: dict[str, Any], status: int, kind: str, text: str
) -> None:
    """By name and place, in predict; what is wrong there is wrong in calibrate too."""
    by_classes(client)
    assert text in refused(client.post("/predict", json={"model": "risk", **rows}), status, kind)
    spec = {"model": "risk", "name": "p", "metric": "f1", "data": {**rows, "labels": [0, 1]}}
    said = refused(client.post("/calibrate", json=spec), status if rows else 422, kind if rows else "bad-cache")
    assert text in said or not rows


def test_v2_refuses_scores_of_the_wrong_type(client: TestClient) -> None:
    """By the name of the tensor."""
    by_classes(client)
    for sent, text in (
        (tensor("probabilities", [[[0.5]]], "FP64"), "'probabilities' must be FP32 or FP64 with 1 or 2 axes"),
        (tensor("margins", [1], "INT64"), "'margins' must be FP32 or FP64"),
        (tensor("logits", [1.0], "FP64"), "'logits' must be FP32 or FP64 with 2 axes"),
    ):
        assert text in refused_v2(infer(client, sent, path="/v2/models/risk/infer"), 400)


def test_calibrate_takes_probabilities_and_margins(client: TestClient) -> None:
    """The point is the library's own on the same log-odds, whichever form they come in."""
    by_classes(client)
    margins, labels = simulated(300)
    risks = 1 / (1 + np.exp(-margins))
    expected = fit(logits=margins, labels=labels, classes=CLASSES, metric="f1").point
    for rows in (
        {"margins": margins.tolist()},
        {"probabilities": risks.tolist()},
        {"probabilities": {"died": risks.tolist(), "alive": (1 - risks).tolist()}},
    ):
        data = {**rows, "labels": [CLASSES[label] for label in labels]}
        response = client.post("/calibrate", json={"model": "risk", "name": "p", "metric": "f1", "data": data})
        assert response.status_code == 201, response.text
        np.testing.assert_allclose(np.diff(response.json()["point"]["bias"]), np.diff(expected.bias), atol=1e-9)


def test_the_log_digests_scores_as_they_were_sent(start: Start) -> None:
    """Under their own name, so that whoever has the row can prove it."""
    client = start(decision_log="required")
    by_classes(client)
    answered = client.post("/predict", json={"model": "risk", "probabilities": [0.25]})
    (entry,) = client.get("/decisions", params={"request_id": answered.headers["x-request-id"]}).json()
    assert [entry["input_digest"]] == digest_rows({"probabilities": np.array([0.25])})


def test_whole_numbers_are_labels_by_the_librarys_rule(client: TestClient) -> None:
    """Of classes 1 and 2 the labels 1 and 2 are names; ones alone could be either, and are refused."""
    margins, labels = simulated(300)
    response = client.post("/models", json={"name": "risk", "classes": ["1", "2"]})
    assert response.status_code == 201
    spec = {"model": "risk", "name": "p", "metric": "accuracy", "search": "exact"}
    data = {"margins": margins.tolist(), "labels": (labels + 1).tolist()}
    reply = client.post("/calibrate", json={**spec, "data": data}).json()
    expected = fit(logits=margins, labels=labels, classes=["1", "2"], metric="accuracy", search="exact")
    assert reply["point"]["bias"] == expected.point.bias.tolist()
    data["labels"] = [1] * 299 + [1]
    text = refused(client.post("/calibrate", json={**spec, "data": data}), 422, "unknown-label")
    assert "write labels as texts" in text
    data["labels"] = ["2" if label else "1" for label in labels]
    assert client.post("/calibrate", json={**spec, "data": data}).json()["point"] == reply["point"]


def test_scores_by_name_and_classes_in_another_order_go_together(client: TestClient) -> None:
    """Records name their classes, lists have the order of the data's `classes`: the point is the same."""
    by_classes(client)
    margins, labels = simulated(300)
    risks = 1 / (1 + np.exp(-margins))
    words = [CLASSES[label] for label in labels]
    points = []
    for rows in (
        {"probabilities": risks.tolist()},
        {"probabilities": [{"alive": 1 - risk, "died": risk} for risk in risks.tolist()], "classes": CLASSES[::-1]},
        {"probabilities": np.column_stack([risks, 1 - risks]).tolist(), "classes": CLASSES[::-1]},
        {"probabilities": (1 - risks).tolist(), "classes": CLASSES[::-1]},
    ):
        spec = {"model": "risk", "name": "p", "metric": "f1", "search": "exact", "data": {**rows, "labels": words}}
        response = client.post("/calibrate", json=spec)
        assert response.status_code == 201, response.text
        points.append(np.diff(response.json()["point"]["bias"])[0])
    np.testing.assert_allclose(points, points[0], atol=1e-9)
