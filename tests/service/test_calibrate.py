"""`POST /calibrate`: the library's own answer, published."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from calibrate import OperatingPoint, feature_cache, fit
from calibrate.logits import softmax
from service.identity import UNKNOWN
from tests.models import WIDTH, forward, network, weights
from tests.service.conftest import CLASSES, Start, alive, refused, register

RNG = np.random.default_rng(3)
X = RNG.normal(size=(400, WIDTH)).astype(np.float32)
FEATURES, LOGITS = forward(weights(2), X)
Y = (RNG.random(400) < softmax(LOGITS - [0, 2.5])[:, 1]).astype(int)
NAMES = [["clear", "fraud"][i] for i in Y]
HEAD: dict[str, Any] = {"weight": weights(2)["w2"], "bias": weights(2)["b2"]}


def npz(**arrays: Any) -> bytes:
    """An upload."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def upload(client: TestClient, data: bytes, **spec: Any) -> Any:
    """A multipart call."""
    wanted = {"model": "fraud", "name": "p", "metric": "f1", **spec}
    return client.post("/calibrate", data={"spec": json.dumps(wanted)}, files={"data": ("val.npz", data)})


def call(client: TestClient, data: dict[str, Any], **spec: Any) -> Any:
    """A JSON call."""
    return client.post("/calibrate", json={"model": "fraud", "name": "p", "metric": "f1", **spec, "data": data})


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "bias_adjustment", "metric": "f1"},
        {"method": "bias_adjustment", "search": "decimal", "digits": 2, "metric": "g_mean"},
        {"method": "logit_adjustment", "metric": "fbeta(2)"},
        {"method": "prior_threshold", "metric": "mcc", "prior": [0.8, 0.2]},
        {"metric": "recall", "positive": "clear"},
        {"metric": "precision", "constraints": ["recall >= 0.6", "alerts <= 40 per 100"]},
        {"metric": "precision", "constraints": ["recall >= 0.6 @ 95%"]},
        {"metric": "2*tp/(2*tp + fp + 3*fn)"},
        {"metric": "mean_cost", "cost_matrix": [[0.0, 9.0], [1.0, 0.0]], "method": "minimum_risk"},
        {"metric": "cost(fp=1, fn=9)"},
        {"metric": "precision", "prevalence": 0.02, "prior": [0.8, 0.2]},
        {"metric": "f1", "prevalence": {"clear": 0.9, "fraud": 0.1}, "negatives_kept": 0.5},
        {"metric": "cost(fp=1, fn=9)", "method": "minimum_risk", "class_weights": {"clear": 1, "fraud": 7}},
        {"metric": "f1", "method": "plug_in"},
        {"metric": "f1", "method": "temperature"},
        {"metric": "cost(fp=1, fn=9)", "method": "minimum_risk", "calibration": "auto"},
    ],
)
def test_the_answer_is_the_librarys(fraud: TestClient, spec: dict[str, Any]) -> None:
    """Point, evidence, states and warnings, number by number; the model's prior where none comes with the call."""
    response = call(fraud, {"logits": LOGITS.tolist(), "labels": Y.tolist()}, **spec)
    assert response.status_code == 201, response.text
    said = response.json()
    expected = fit(
        logits=LOGITS.astype(np.float64), labels=Y, classes=["clear", "fraud"], **{"prior": [0.9, 0.1], **spec}
    ).to_dict()
    expected["warnings"].append(UNKNOWN)  # logits in JSON could be any model's
    assert OperatingPoint.from_dict(said["point"]).to_dict() == expected["point"]
    for key in (
        "threshold",
        "evidence",
        "before",
        "gain",
        "procedure",
        "mis_before",
        "mis_after",
        "warnings",
        "metric",
        "method",
        "calibration",
        "guarantees",
    ):
        assert said[key] == expected[key], key
    assert (said["operating_point"], said["model_version"], said["is_default"]) == ("p@1", 1, False)
    assert {interval["kind"] for interval in said["evidence"].values()} <= {"optimism_corrected", "held_out"}
    assert {interval["kind"] for interval in said["procedure"].values()} <= {"cross_fitted"}
    assert fraud.get("/models/fraud/operating-points/p").json() == said


def test_inputs_features_logits_and_files_come_to_the_same_point(fraud: TestClient) -> None:
    """Labels as names or indices; the head from the model or, the same one, from the file."""
    answers = [
        call(fraud, {"inputs": X.tolist(), "labels": NAMES}),
        call(fraud, {"features": FEATURES.tolist(), "labels": Y.tolist()}),
        call(fraud, {"logits": LOGITS.tolist(), "labels": NAMES, "classes": ["clear", "fraud"]}),
        upload(fraud, npz(features=FEATURES, labels=Y)),
        upload(fraud, npz(features=FEATURES, labels=Y, classes=np.array(["clear", "fraud"]), **HEAD)),
        upload(fraud, npz(features=FEATURES, logits=LOGITS, labels=Y, **HEAD)),
        upload(fraud, npz(logits=LOGITS, labels=np.array(NAMES), prior=np.array([0.9, 0.1]))),
    ]
    points = []
    for response in answers:
        assert response.status_code == 201, response.text
        points.append(response.json()["point"]["bias"][1])
    assert np.allclose(points, points[0], atol=1e-4)
    assert answers[-1].json()["operating_point"] == "p@7"
    file_cache = feature_cache(features=FEATURES, labels=Y, **HEAD)
    assert points[3] == fit(file_cache, metric="f1").point.bias[1]


def test_a_method_that_reads_the_head_takes_the_models(fraud: TestClient) -> None:
    """Tau-normalisation of logits alone, with the head of the version that is calibrated."""
    said = call(fraud, {"logits": LOGITS.tolist(), "labels": Y.tolist()}, method="tau_normalization")
    assert said.status_code == 201, said.text
    cache = feature_cache(logits=LOGITS.astype(np.float64), labels=Y, classes=["clear", "fraud"], **HEAD)
    expected = fit(cache, method="tau_normalization", metric="f1", evidence=False).point
    assert OperatingPoint.from_dict(said.json()["point"]) == expected


def test_the_new_point_can_become_the_default_in_the_same_step(fraud: TestClient) -> None:
    """And decides what comes next."""
    response = call(fraud, {"logits": LOGITS.tolist(), "labels": NAMES}, make_default=True)
    assert response.json()["is_default"] is True
    reply = fraud.post("/predict", json={"model": "fraud", "logits": LOGITS.tolist()}).json()
    assert reply["operating_point"] == "p@1"
    bias = response.json()["point"]["bias"][1]
    assert [row["label"] for row in reply["predictions"]] == [
        "fraud" if margin + bias > 0 else "clear" for margin in (LOGITS[:, 1] - LOGITS[:, 0].astype(float)).tolist()
    ]
    assert fraud.get("/audit?limit=1").json()[0]["details"]["reason"] == "calibrated for f1"


def test_weights_and_costs_per_row_are_the_librarys_too(fraud: TestClient) -> None:
    """In JSON and in a file."""
    weights_, costs = RNG.integers(1, 4, 400).astype(float), RNG.gamma(1, 50, 400)
    columns = {"sample_weight": weights_, "cost_fp": np.full(400, 3.0), "cost_fn": costs}
    cache = feature_cache(logits=LOGITS, labels=Y, classes=["clear", "fraud"], **columns)
    expected = fit(cache, metric="savings", evidence=False).point.bias[1]
    lists = {name: column.tolist() for name, column in columns.items()}
    in_json = call(fraud, {"logits": LOGITS.tolist(), "labels": Y.tolist(), **lists}, metric="savings")
    in_file = upload(fraud, npz(logits=LOGITS, labels=Y, **columns), metric="savings")
    for response in (in_json, in_file):
        assert response.status_code == 201, response.text
        assert response.json()["point"]["bias"][1] == pytest.approx(expected, abs=1e-9)
        assert response.json()["evidence"]["savings"]["value"] is not None
    refused(call(fraud, {"logits": LOGITS.tolist(), "labels": Y.tolist()}, metric="savings"), 422, "missing-costs")


def test_infeasible_says_what_is_nearest(fraud: TestClient) -> None:
    """As numbers beside the sentence; nothing is published."""
    response = call(
        fraud,
        {"logits": LOGITS.tolist(), "labels": Y.tolist()},
        name="infeasible",
        constraints=["recall >= 0.99", "precision >= 0.99"],
    )
    assert "'precision >= 0.99' comes to" in refused(response, 422, "infeasible")
    nearest = response.json()["nearest"]
    assert [each["constraint"] for each in nearest] == ["recall >= 0.99", "precision >= 0.99"]
    assert all(isinstance(each["cut"], float) for each in nearest)
    assert "infeasible" not in fraud.get("/models/fraud/operating-points").text


def test_what_cannot_be_certified_says_what_it_needs(fraud: TestClient) -> None:
    """In fields: how many are needed and there, of what, and what could be certified."""
    data = {"logits": LOGITS.tolist(), "labels": Y.tolist()}
    response = call(fraud, data, name="infeasible", constraints=["recall >= 0.999 @ 95%"])
    assert "needs 2995 rows of 'fraud' or more" in refused(response, 422, "infeasible")
    (nearest,) = response.json()["nearest"]
    assert (nearest["needed"], nearest["there"], nearest["unit"]) == (2995, int(Y.sum()), "rows of 'fraud'")
    assert nearest["certifiable"] == pytest.approx(0.05 ** (1 / Y.sum()))
    refused(call(fraud, data, constraints=["f1 >= 0.5 @ 95%"]), 422, "bad-constraint")


def test_groups_count_as_one(fraud: TestClient) -> None:
    """As names in JSON, as numbers in a file; a guarantee rests on them, and the numbers per row are fewer."""
    names = [f"card {i % 100}" for i in range(400)]
    data = {"logits": LOGITS.tolist(), "labels": Y.tolist(), "group": names}
    constraints = ["recall >= 0.6 @ 95%"]
    in_json = call(fraud, data, constraints=constraints)
    in_file = upload(fraud, npz(logits=LOGITS, labels=Y, group=np.array(names)), constraints=constraints)
    for response in (in_json, in_file):
        assert response.status_code == 201, response.text
        (guarantee,) = response.json()["guarantees"]
        assert (guarantee["unit"], guarantee["rows"]) == ("groups", np.unique(np.arange(400)[Y == 1] % 100).size)
        assert response.json()["evidence"]["recall"]["rows"] <= guarantee["rows"]
    assert in_json.json()["guarantees"] == in_file.json()["guarantees"]
    refused(call(fraud, {**data, "group": [1.5] * 400}), 422, "bad-cache")
    refused(call(fraud, {**data, "group": names[:3]}), 422, "wrong-shape")


def test_a_rule_with_weights_or_costs_is_published_and_served(fraud: TestClient) -> None:
    """Fitted in Python, decided alike by the server."""
    names = ("clear", "fraud")
    for point in (
        OperatingPoint(names, np.ones(2), np.zeros(2), np.array([1.0, 3.0]), np.array([0.1, 0.0])),
        OperatingPoint(names, np.ones(2), np.zeros(2), cost=np.array([[0.0, 9.0], [1.0, 0.0]])),
    ):
        body = {"name": "rule", "point": point.to_dict()}
        assert fraud.post("/models/fraud/operating-points", json=body).status_code == 201
        call_ = {"model": "fraud", "logits": LOGITS.tolist(), "operating_point": "rule"}
        labels = [row["label"] for row in fraud.post("/predict", json=call_).json()["predictions"]]
        assert labels == [names[i] for i in point.decide(LOGITS)]


def test_behind_a_map_the_probabilities_are_the_calibrated_ones(fraud: TestClient) -> None:
    """Those of the rows' own point, one by one; the threshold is on them; `adjusted` stays what the rule saw."""
    data = {"logits": LOGITS.tolist(), "labels": Y.tolist()}
    reply = call(fraud, data, metric="cost(fp=1, fn=9)", method="minimum_risk", calibration="platt").json()
    found = reply["calibration"]
    assert found["name"] == "platt"
    assert found["trials"][0]["gain"] > found["trials"][0]["standard_error"]
    assert reply["threshold"] == pytest.approx(0.1)
    references = ["p", "argmax"] * 200
    asked = {"model": "fraud", "logits": LOGITS.tolist(), "operating_point": references}
    said = fraud.post("/predict", json=asked).json()["predictions"]
    mapped = softmax(LOGITS * np.array(found["scale"]) + np.array(found["bias"]))
    expected = np.where(np.arange(400)[:, None] % 2 == 0, mapped, softmax(LOGITS))
    assert np.allclose([row["probabilities"] for row in said], expected)
    point = OperatingPoint.from_dict(reply["point"])
    assert np.allclose([row["adjusted"] for row in said[::2]], point.adjusted(LOGITS[::2]))
    assert [row["label"] == "fraud" for row in said[::2]] == (mapped[::2, 1] > 0.1).tolist()


def test_a_published_point_brings_its_map_along(fraud: TestClient) -> None:
    """What a saved fit says of its map is served; one that does not fit the classes is refused."""
    result = fit(
        logits=LOGITS.astype(np.float64), labels=Y, classes=["clear", "fraud"], metric="f1", calibration="platt"
    ).to_dict()
    point, details = result.pop("point"), {key: value for key, value in result.items() if key != "threshold"}
    body = {"name": "theirs", "point": point, "details": details}
    reply = fraud.post("/models/fraud/operating-points", json=body).json()
    assert reply["threshold"] == pytest.approx(result["threshold"])
    kept = details["calibration"]
    asked = {"model": "fraud", "logits": LOGITS[:9].tolist(), "operating_point": "theirs"}
    said = fraud.post("/predict", json=asked).json()["predictions"]
    mapped = softmax(LOGITS[:9] * np.array(kept["scale"]) + np.array(kept["bias"]))
    assert np.allclose([row["probabilities"] for row in said], mapped)
    for wrong in ({**kept, "scale": [1.0, -1.0]}, {**kept, "bias": [0.0]}):
        body = {"name": "wrong", "point": point, "details": {**details, "calibration": wrong}}
        refused(fraud.post("/models/fraud/operating-points", json=body), 422, "bad-point")


def test_a_staged_version_is_calibrated_by_number(fraud: TestClient) -> None:
    """With its own head; the live one is not touched."""
    register(fraud, network(2, seed=6), classes=CLASSES)
    features, logits = forward(weights(2, 6), X)
    response = call(fraud, {"features": features.tolist(), "labels": NAMES}, model_version=2)
    assert response.json()["model_version"] == 2
    expected = fit(logits=logits, labels=Y, metric="f1", evidence=False).point.bias[1]
    assert response.json()["point"]["bias"][1] == pytest.approx(expected, abs=1e-3)
    assert fraud.get("/models/fraud").json()["default"]["model_version"] == 1


GOOD = {"logits": LOGITS[:20].tolist(), "labels": [0, 1] * 10}


@pytest.mark.parametrize(
    ("data", "spec", "status", "kind", "said"),
    [
        (None, {}, 400, "bad-request", "calibrate needs data"),
        ([], {}, 400, "bad-request", "calibrate needs data"),
        ({}, {}, 422, "bad-cache", "it has nothing"),
        ({"labels": [0, 1]}, {}, 422, "bad-cache", "it has labels"),
        ({**GOOD, "label": [1]}, {}, 400, "bad-request", "probabilities, sample_weight; got 'label'"),
        ({**GOOD, "labels": [0] * 20}, {}, 422, "missing-class", "class 'fraud' has no rows"),
        ({**GOOD, "labels": [0, 2] * 10}, {}, 422, "unknown-label", "labels[1] must be an index from 0 to 1, got 2"),
        ({**GOOD, "labels": ["clear", "froud"] * 10}, {}, 422, "unknown-label", "[1] must be one of clear, fraud"),
        ({**GOOD, "labels": [0, 1]}, {}, 422, "wrong-shape", "labels: wanted 20, one per row, got 2"),
        ({**GOOD, "labels": []}, {}, 422, "no-rows", "labels: wanted at least one"),
        ({**GOOD, "labels": 3}, {}, 422, "wrong-shape", "labels: wanted 1 axis"),
        ({**GOOD, "labels": "01"}, {}, 422, "wrong-shape", "labels: wanted 1 axis"),
        ({**GOOD, "labels": ["clear", 1] * 10}, {}, 422, "unknown-label", "all of one kind"),
        ({**GOOD, "labels": [["clear"]] * 20}, {}, 422, "unknown-label", "all of one kind"),
        ({**GOOD, "labels": ["clear", "x" * 5000] * 10}, {}, 422, "unknown-label", "labels[1] must be one of"),
        ({**GOOD, "logits": "01"}, {}, 422, "wrong-shape", "logits: wanted numbers"),
        ({**GOOD, "logits": [["0", 1]] * 20}, {}, 422, "wrong-shape", "logits: wanted numbers"),
        ({**GOOD, "classes": 5}, {}, 400, "bad-request", "classes must be a list of names"),
        ({**GOOD, "classes": True}, {}, 400, "bad-request", "classes must be a list of names"),
        ({**GOOD, "classes": {}}, {}, 400, "bad-request", "classes must be a list of names"),
        ({**GOOD, "classes": "01"}, {}, 400, "bad-request", "classes must be a list of names"),
        ({**GOOD, "classes": [["clear"], "fraud"]}, {}, 400, "bad-request", "classes must be a list of names"),
        ({**GOOD, "labels": [{}] * 20}, {}, 422, "unknown-label", "labels must be"),
        ({**GOOD, "logits": [[0, None]] * 20}, {}, 422, "wrong-shape", "logits: wanted numbers"),
        ({**GOOD, "logits": [[0, 1, 2]] * 20}, {}, 422, "wrong-shape", "wanted 2 columns, one per class, got 3"),
        ({**GOOD, "logits": []}, {}, 422, "no-rows", "logits: wanted at least one row"),
        ({"labels": [0, 1], "features": [[1.0] * 5] * 2}, {}, 422, "wrong-shape", "features: wanted 6 columns, got 5"),
        ({"labels": [0, 1], "inputs": [[1.0] * 5] * 2}, {}, 422, "wrong-shape", "input 'x': wanted rows of shape (4)"),
        ({**GOOD, "classes": ["fraud", "scam"]}, {}, 422, "wrong-columns", "columns clear, fraud; got 'scam'"),
        ({**GOOD, "features": [[1.0] * 6] * 20}, {}, 400, "bad-request", "exactly one of inputs, features, logits"),
        ({**GOOD, "inputs": [[1.0] * 4]}, {}, 400, "bad-request", "got inputs and logits"),
        (GOOD, {"metric": "auc"}, 422, "unknown-metric", "metric must be one of accuracy"),
        (GOOD, {"metric": None}, 400, "bad-request", "metric: Input should be a valid string"),
        (GOOD, {"metric": "f1[x]"}, 422, "unknown-class", "got 'x'"),
        (GOOD, {"method": "magic"}, 422, "unknown-method", "method must be one of"),
        (GOOD, {"search": "grid"}, 422, "unknown-method", "search must be one of exact, committee"),
        (GOOD, {"positive": "froud"}, 422, "unknown-class", "got 'froud'"),
        (GOOD, {"prior": [1.0, 0.0]}, 422, "bad-prior", "prior of class 'fraud' must be > 0"),
        (GOOD, {"model": "nope"}, 404, "unknown-model", "no model 'nope'"),
        (GOOD, {"model_version": 5}, 404, "unknown-version", "no version 5"),
        (GOOD, {"name": "a b"}, 422, "bad-name", "an operating point must be 1 to 64 letters"),
        (GOOD, {"search": ""}, 400, "bad-request", "search: String should have at least 1 character"),
        (GOOD, {"name": "argmax"}, 422, "bad-name", "the model's own rule"),
        (GOOD, {"constraint": ["recall >= 0.9"]}, 400, "bad-request", "constraint: Extra inputs"),
        (GOOD, {"constraints": ["recall > 0.9"]}, 422, "bad-constraint", "written as recall >= 0.9"),
        (GOOD, {"metric": "tp.__class__"}, 422, "bad-expression", "at character 3"),
        (GOOD, {"metric": "mean_cost"}, 422, "missing-costs", "cost_matrix"),
        (GOOD, {"metric": "mean_cost", "cost_matrix": [[0.0]]}, 422, "bad-costs", "2 rows and 2 columns"),
        ({**GOOD, "cost_fn": ["x"] * 20}, {"metric": "recovered"}, 422, "wrong-shape", "cost_fn"),
        ({**GOOD, "sample_weight": [-1.0] * 20}, {}, 422, "bad-cache", "sample_weight[0] must be at least 0"),
        (GOOD, {"make_default": "yes"}, 400, "bad-request", "make_default"),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_publishes_nothing(
    standing: TestClient, data: Any, spec: dict[str, Any], status: int, kind: str, said: str
) -> None:
    """One problem each, which names the item; the server goes on."""
    assert said in refused(call(standing, data, **spec), status, kind)
    assert len(standing.get("/models/fraud/operating-points").json()) == 1
    alive(standing)


WHOLE = npz(logits=LOGITS, labels=Y)


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"", "bad-cache", "not a whole .npz file"),
        (WHOLE[:-100], "bad-cache", "not a whole .npz file"),
        (npz(logits=LOGITS, labels=np.array(NAMES, dtype=object)), "bad-cache", "key 'labels' is pickled"),
        (npz(logits=LOGITS, labels=Y, sample_weight=Y), "missing-class", "class 'clear' has no weight"),
        (npz(features=FEATURES + np.full(6, np.nan, np.float32), labels=Y), "not-finite", "features[0, 0] must be"),
        (npz(features=FEATURES + np.full(6, np.inf, np.float32), labels=Y), "not-finite", "features[0, "),
        (npz(features=FEATURES[:0], labels=Y[:0]), "no-rows", "features: wanted at least one row"),
        (npz(features=FEATURES, labels=Y, weight=HEAD["weight"] + 1, bias=HEAD["bias"]), "bad-cache", "another model"),
        (npz(features=FEATURES, labels=Y, weight=HEAD["weight"][:1]), "bad-cache", "another model"),
        (npz(features=FEATURES, labels=Y, weight=np.float32(1)), "wrong-shape", "weight: wanted 1 or 2 axes"),
        (npz(features=FEATURES, labels=Y, weight=np.array(["a", "b"])), "wrong-shape", "weight: wanted numbers"),
        (npz(features=FEATURES, labels=Y, weight=HEAD["weight"], bias=np.array("x")), "wrong-shape", "bias: wanted"),
        (npz(features=FEATURES, labels=Y, classes=np.array("clear")), "bad-cache", "classes: wanted 1 axis"),
        (npz(features=FEATURES[:9], logits=LOGITS, labels=Y), "wrong-shape", "features have 9 rows, logits 400"),
        (npz(features=FEATURES, logits=LOGITS[::-1], labels=Y, **HEAD), "bad-cache", "weight and bias give"),
        (npz(features=FEATURES, labels=Y, prior=np.array([1.0, 0.0])), "bad-prior", "class 'fraud' must be > 0"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_publishes_nothing(standing: TestClient, data: bytes, kind: str, said: str) -> None:
    """Truncated, pickled, not finite, empty, or of another model."""
    assert said in refused(upload(standing, data), 422, kind)
    assert len(standing.get("/models/fraud/operating-points").json()) == 1
    alive(standing)


def member(header: bytes, content: bytes = b"") -> bytes:
    """A file whose labels are an array with that header."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)
        archive.writestr("logits.npy", b"")
    return stream.getvalue()


def text_header(order: str) -> bytes:
    """The header of one text of two characters."""
    return f"{{'descr': '{order}U2', 'fortran_order': False, 'shape': (1,), }}".encode()


@pytest.mark.parametrize(
    ("header", "content", "said"),
    [
        (b"{'descr': (", b"", "is not an array"),
        (b"  {\n 1", b"", "is not an array"),
        (b"\n  x\n y", b"", "is not an array"),
        (b"(" * 9000, b"", "is not an array"),
        (b"-" * 9000 + b"1", b"", "is not an array"),
        (b"{'descr': 5, 'fortran_order': False, 'shape': (1,)}", b"", "is not an array"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, %d)}" % 2**70, b"", "not a whole .npz"),
        (text_header("<"), (0x110000).to_bytes(4, "little") + b"a\0\0\0", "holds what is not text"),
        (text_header(">"), b"\0\0\0a" + (0x110000).to_bytes(4, "big"), "holds what is not text"),
        (text_header("<"), (0xD800).to_bytes(4, "little") + b"a\0\0\0", "holds what is not text"),
    ],
)
def test_an_array_that_numpy_would_stumble_over_is_refused(
    standing: TestClient, header: bytes, content: bytes, said: str
) -> None:
    """Headers that are no Python, sizes that are no size, texts that are no text."""
    assert said in refused(upload(standing, member(header, content)), 422, "bad-cache")
    alive(standing)


def test_a_form_that_does_not_fit_is_refused(standing: TestClient) -> None:
    """The spec is missing, or no JSON."""
    files = {"data": ("v.npz", WHOLE)}
    assert "no text 'spec'" in refused(standing.post("/calibrate", files=files), 400, "bad-request")
    for spec, said in (("{", "spec is not JSON"), ("[]", "spec must be a JSON object, got a list")):
        assert said in refused(standing.post("/calibrate", files=files, data={"spec": spec}), 400, "bad-request")


def test_an_upload_that_unpacks_to_too_much_is_refused(start: Start) -> None:
    """By what it claims, before it is unpacked."""
    client = start(unpacked_bytes=2000)
    register(client, network(2), classes=CLASSES)
    assert "wanted at most 2000" in refused(upload(client, WHOLE), 422, "bad-cache")
