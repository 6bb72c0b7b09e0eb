"""`POST /predict`: decisions are the point's, whatever form the rows come in."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from calibrate import OperatingPoint, feature_cache, fit
from calibrate.logits import softmax
from calibrate.operating_point import OperatingPoint as Point
from tests.models import WIDTH, build, forest, forward, network, weights
from tests.service.conftest import CLASSES, Start, alive, publish, refused, register

X = np.random.default_rng(5).normal(size=(40, WIDTH)).astype(np.float32)
FEATURES, LOGITS = forward(weights(2), X)


def ask(client: TestClient, **call: object) -> dict[str, object]:
    """A good answer."""
    response = client.post("/predict", json={"model": "fraud", **call})
    assert response.status_code == 200, response.text
    return dict(response.json())


def column(reply: dict[str, object], field: str) -> np.ndarray:
    """One field of every prediction."""
    predictions = reply["predictions"]
    assert isinstance(predictions, list)
    return np.array([row[field] for row in predictions])


def test_inputs_features_and_logits_are_decided_alike(standing: TestClient) -> None:
    """Under the default, which is argmax at first; probabilities are the model's own."""
    for rows in ({"inputs": X.tolist()}, {"inputs": {"x": X.tolist()}}, {"features": FEATURES.tolist()},
                 {"logits": LOGITS.tolist()}):  # fmt: skip
        reply = ask(standing, **rows)
        assert (reply["model_version"], reply["operating_point"]) == (1, "argmax@1")
        assert reply["classes"] == ["clear", "fraud"]
        assert column(reply, "label").tolist() == [["clear", "fraud"][i] for i in LOGITS.argmax(axis=1)]
        assert np.allclose(column(reply, "probabilities"), softmax(LOGITS), atol=1e-6)
        assert np.allclose(column(reply, "adjusted"), softmax(LOGITS), atol=1e-6)
        assert np.allclose(column(reply, "margin"), LOGITS[:, 1] - LOGITS[:, 0], atol=1e-5)


def test_rows_are_answered_alone_as_together(fraud: TestClient) -> None:
    """A row, a few and many take different ways to the same numbers."""
    publish(fraud, "p", 0.7)
    logits = LOGITS.astype(np.float64)
    whole = ask(fraud, logits=logits.tolist(), operating_point="p")["predictions"]
    for n in (1, 7):
        parts = [ask(fraud, logits=logits[i : i + n].tolist(), operating_point="p") for i in range(0, 35, n)]
        assert [row for part in parts for row in part["predictions"]] == whole[:35]  # type: ignore[index, attr-defined]
    mixed = ask(fraud, logits=logits.tolist(), operating_point=["p", "argmax"] * 20)["predictions"]
    plain = ask(fraud, logits=logits.tolist())["predictions"]
    assert mixed == [(whole, plain)[i % 2][i] for i in range(40)]  # type: ignore[index]


def test_a_long_body_and_a_long_answer_are_the_same_answer(standing: TestClient) -> None:
    """They are read and written in a thread."""
    rows = np.random.default_rng(3).normal(size=(9000, WIDTH)).round(6)
    assert len(json.dumps(rows.tolist())) > 2**18
    whole = column(ask(standing, inputs=rows.tolist()), "margin")
    parts = [column(ask(standing, inputs=rows[i : i + 500].tolist()), "margin") for i in range(0, 9000, 500)]
    assert np.allclose(whole, np.concatenate(parts), atol=1e-5)


def test_one_logit_a_row_is_taken_for_two_classes(standing: TestClient) -> None:
    """As the margin towards the second."""
    assert column(ask(standing, logits=[-1.0, 2.0]), "label").tolist() == ["clear", "fraud"]


def test_a_published_point_decides_every_row_as_in_python(fraud: TestClient) -> None:
    """Label, margin and adjusted probability, bit for bit on the same logits; `probabilities` stay the model's."""
    bias = 1.0 / 3.0
    publish(fraud, "high-recall", bias)
    point = OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0.0, bias]))
    reply = ask(fraud, logits=LOGITS.astype(np.float64).tolist(), operating_point="high-recall")
    assert reply["operating_point"] == "high-recall@1"
    assert column(reply, "label").tolist() == [point.classes[i] for i in point.decide(LOGITS.astype(np.float64))]
    assert column(reply, "margin").tolist() == point.margin(LOGITS.astype(np.float64)).tolist()
    assert column(reply, "adjusted").tolist() == point.adjusted(LOGITS.astype(np.float64)).tolist()
    assert np.allclose(column(reply, "probabilities"), softmax(LOGITS))


def test_the_fitted_and_the_served_decision_agree_on_every_fitting_row(fraud: TestClient) -> None:
    """Fitted in Python on cached features in float64; served from raw inputs in float32."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(3000, WIDTH)).astype(np.float32)
    features, logits = forward(weights(2), x)
    labels = (rng.random(3000) < softmax(logits - [0, 2.0])[:, 1]).astype(int)
    values = weights(2)
    cache = feature_cache(features=features, weight=values["w2"], bias=values["b2"], labels=labels,
                          classes=["clear", "fraud"], prior=[0.9, 0.1])  # fmt: skip
    for metric in ("f1", "g_mean", "accuracy", "fbeta(2)"):
        point = fit(cache, metric=metric, evidence=False).point
        publish(fraud, "fitted", float(point.bias[1]))
        reply = ask(fraud, inputs=x.tolist(), operating_point="fitted")
        assert column(reply, "label").tolist() == [point.classes[i] for i in point.decide(cache.logits)]


def test_a_list_gives_each_row_its_own_point(fraud: TestClient) -> None:
    """From one run of the model, by name and by name@version, in the order of the rows."""
    publish(fraud, "all", 100.0)
    publish(fraud, "none", -100.0)
    publish(fraud, "all", 50.0)
    names = ["all", "none", "argmax", "all@1", "none@1"] * 8
    reply = ask(fraud, inputs=X.tolist(), operating_point=names)
    assert reply["operating_point"] == ["all@2", "none@1", "argmax@1", "all@1", "none@1"] * 8
    plain = LOGITS.argmax(axis=1)
    expected = [{"all": 1, "none": 0, "argmax": plain[i]}[name.split("@")[0]] for i, name in enumerate(names)]
    assert column(reply, "label").tolist() == [["clear", "fraud"][i] for i in expected]
    assert column(reply, "margin")[3] - column(reply, "margin")[0] != 50


def test_compare_tells_what_other_points_would_say(fraud: TestClient) -> None:
    """Beside the answer of the default."""
    publish(fraud, "all", 100.0)
    publish(fraud, "none", -100.0)
    reply = ask(fraud, inputs=X.tolist(), compare=["all", "none@1"])
    assert reply["compare"] == {"all": ["fraud"] * 40, "none@1": ["clear"] * 40}
    assert reply["operating_point"] == "argmax@1"
    assert "compare" not in ask(fraud, inputs=X.tolist())


def test_few_rows_are_answered_as_among_many(fraud: TestClient) -> None:
    """Under one point, under one each, and by every point compared."""
    names = ["p0", "p1", "p2", "p3"]
    for i, name in enumerate(names):
        publish(fraud, name, i - 1.5)
    one, each = "p1", names * 10
    for all_points, first_points in ((one, one), (each, each[:5])):
        many: Any = ask(fraud, logits=LOGITS.tolist(), operating_point=all_points, compare=names)
        assert len({tuple(labels) for labels in many["compare"].values()}) > 1
        few: Any = ask(fraud, logits=LOGITS[:5].tolist(), operating_point=first_points, compare=names)
        assert few["compare"] == {name: labels[:5] for name, labels in many["compare"].items()}
        assert few["predictions"] == many["predictions"][:5]


def test_compare_is_bounded(standing: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that comes again costs nothing; points, and rows times points, have a limit."""
    logits = [[0, 1]] * 5000
    many = {"model": "fraud", "logits": logits, "compare": ["argmax"] * 16_000}
    assert standing.post("/predict", json=many).json()["compare"] == {"argmax": ["fraud"] * 5000}
    assert peak_bytes(lambda: standing.post("/predict", json=many)) < 50_000_000
    body = {"model": "fraud", "logits": [[0, 1]], "compare": [f"p@{i}" for i in range(101)]}
    assert "at most 100 points, got 101" in refused(standing.post("/predict", json=body), 413, "too-large")
    body["compare"] = body["compare"][:100]
    refused(standing.post("/predict", json=body), 404, "unknown-point")
    monkeypatch.setattr("service.web.predict.MOST_NUMBERS", 20)
    for rows, status in ((6, 200), (7, 413)):
        body = {"model": "fraud", "logits": [[0, 1]] * rows, "compare": ["argmax", "argmax@1"]}
        answer = standing.post("/predict", json=body)
        assert answer.status_code == status
    assert "compares 2 points may have at most 6 rows, got 7" in refused(answer, 413, "too-large")
    alive(standing)


def test_a_staged_version_answers_only_where_it_is_named(fraud: TestClient) -> None:
    """With a point of its own; nothing that is live changes until the default is moved, both in one step."""
    before = ask(fraud, inputs=X.tolist())
    said = register(fraud, network(2, seed=9), classes=CLASSES)
    assert (said["model_version"], said["is_default"]) == (2, False)
    publish(fraud, "high-recall", 1.0, model_version=2)
    assert ask(fraud, inputs=X.tolist())["predictions"] == before["predictions"]
    response = fraud.post("/predict", json={"model": "fraud", "inputs": X.tolist(), "operating_point": "high-recall"})
    assert "has no operating point 'high-recall', only argmax@1" in refused(response, 404, "unknown-point")
    response = fraud.post("/predict", json={"model": "fraud", "inputs": X.tolist(), "model_version": 2})
    assert "is staged and has no default: name an operating point, of argmax@2, high-recall@1" in refused(
        response, 404, "unknown-point"
    )
    staged = ask(fraud, inputs=X.tolist(), model_version=2, operating_point="high-recall")
    assert np.allclose(column(staged, "probabilities"), softmax(forward(weights(2, 9), X)[1]), atol=1e-5)
    moved = fraud.put("/models/fraud/default",
                      json={"model_version": 2, "operating_point": "high-recall", "reason": "better"})  # fmt: skip
    assert (moved.json()["model_version"], moved.json()["operating_point"]) == (2, "high-recall@1")
    now = ask(fraud, inputs=X.tolist())
    assert (now["model_version"], now["operating_point"]) == (2, "high-recall@1")
    assert now["predictions"] == staged["predictions"]
    back = fraud.put("/models/fraud/default", json={"model_version": 1, "operating_point": "argmax", "reason": "back"})
    assert back.status_code == 200
    assert ask(fraud, inputs=X.tolist())["predictions"] == before["predictions"]


def test_trees_work_in_all_but_features(client: TestClient) -> None:
    """Probabilities from a named output; null where the model takes missing values is for the model to judge."""
    data, trees = forest()
    said = register(client, data, "trees", output="probabilities", output_kind="probabilities")
    assert said["head"] is None
    reply = client.post("/predict", json={"model": "trees", "inputs": X.tolist()}).json()
    assert np.allclose(column(reply, "probabilities"), trees.predict_proba(X), atol=1e-6)
    response = client.post("/predict", json={"model": "trees", "features": FEATURES.tolist()})
    assert "has no linear head: send inputs or logits" in refused(response, 400, "bad-request")


def test_a_linear_model_takes_its_inputs_as_features(client: TestClient) -> None:
    """The head is the whole model."""
    from onnx import helper

    values = {"w": weights(3)["w2"][:, :WIDTH].copy(), "b": weights(3)["b2"]}
    register(client, build([helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1)], values, ["z"]), "fraud")
    replies = [ask(client, **{kind: X.tolist()}) for kind in ("inputs", "features")]
    for field in ("probabilities", "adjusted", "margin"):
        assert np.allclose(column(replies[0], field), column(replies[1], field), atol=1e-5)
    margin = np.sort(X @ values["w"].T + values["b"], axis=1)
    assert np.allclose(column(replies[0], "margin"), margin[:, -1] - margin[:, -2], atol=1e-5)


def test_inputs_of_other_types_and_several_of_them(client: TestClient) -> None:
    """A whole-number input beside a float one; each is read as its own type."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node, info = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Cast", ["codes"], ["as_float"], to=1), node("Concat", ["x", "as_float"], ["all"], axis=1),
         node("Gemm", ["all", "w", "b"], ["z"], transB=1)],
        "two", [info("x", TensorProto.FLOAT, ["n", 2]), info("codes", TensorProto.INT64, ["n", 1])],
        [onnx.ValueInfoProto(name="z")],
        [numpy_helper.from_array(weights(2)["w2"][:, :3].copy(), "w"), numpy_helper.from_array(weights(2)["b2"], "b")],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    said = register(client, data, "fraud")
    assert said["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": [None, 2]},
        {"name": "codes", "dtype": "int64", "shape": [None, 1]},
    ]
    reply = ask(client, inputs={"x": [[0.5, -1.0]], "codes": [[3]]})
    expected = np.array([[0.5, -1.0, 3.0]]) @ weights(2)["w2"][:, :3].T + weights(2)["b2"]
    assert np.allclose(column(reply, "margin"), expected[:, 1] - expected[:, 0], atol=1e-5)
    for inputs, said_of in [
        ([[1.0, 2.0]], "an object with the names x, codes, got a list"),
        ({"x": [[1.0, 2.0]]}, "must have the names x, codes; got x"),
        ({"x": [[1.0, 2.0]], "codes": [[0.5]]}, r"input 'codes'[0, 0] has to be a whole number, got 0.5"),
        ({"x": [[1.0, 2.0]], "codes": [[None]]}, r"input 'codes'[0, 0] must be a number, got null"),
        ({"x": [[1.0, 2.0]], "codes": [[1e30]]}, r"input 'codes'[0, 0] has to fit int64"),
    ]:
        response = client.post("/predict", json={"model": "fraud", "inputs": inputs})
        assert said_of in refused(response, 400, "bad-request")
    response = client.post("/predict", json={"model": "fraud", "inputs": {"x": [[1.0, 2.0]] * 2, "codes": [[1]]}})
    assert "the same number of rows, got {'x': 2, 'codes': 1}" in refused(response, 422, "wrong-shape")


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        (b"", 400, "bad-request", "not JSON"),
        (b"{", 400, "bad-request", "not JSON"),
        (b"[]", 400, "bad-request", "must be a JSON object, got a list"),
        (b'{"model": "fraud", "inputs": [[NaN]]}', 400, "bad-request", "not JSON"),
        (b'{"a":' * 5000, 400, "bad-request", "not JSON"),
        (b"\xff\xfe", 400, "bad-request", "not JSON"),
        ({}, 400, "bad-request", "model must be a text, it is missing"),
        ({"model": 3}, 400, "bad-request", "model must be a text"),
        ({"model": "nope", "inputs": [[1]]}, 404, "unknown-model", "there is no model 'nope'"),
        ({"model": "fraud"}, 400, "bad-request", "features, logits, probabilities, margins; got none"),
        ({"model": "fraud", "inputs": [[1]], "logits": [[1]]}, 400, "bad-request", "got inputs and logits"),
        ({"model": "fraud", "inputs": [[1, 2, 3, 4]], "theshold": 1}, 400, "bad-request", "got 'theshold'"),
        ({"model": "fraud", "inputs": []}, 422, "no-rows", "input 'x': wanted at least one row"),
        ({"model": "fraud", "inputs": "abc"}, 422, "wrong-shape", "wanted a list of rows, got a text"),
        ({"model": "fraud", "inputs": [1, 2, 3, 4]}, 422, "wrong-shape", "wanted rows of shape (4), got shape ()"),
        ({"model": "fraud", "inputs": [[1, 2, 3]]}, 422, "wrong-shape", "got shape (3,) for 1 rows"),
        ({"model": "fraud", "inputs": [[1, 2, 3, 4], [1]]}, 422, "wrong-shape", "row 0 and 1 items in row 1"),
        ({"model": "fraud", "inputs": [[[1, 2, 3, 4]]]}, 422, "wrong-shape", "got shape (1, 4)"),
        ({"model": "fraud", "inputs": [[1, 2, "3", 4]]}, 400, "bad-request",
         "input 'x'[0, 2] must be a number or null, got a text"),
        ({"model": "fraud", "inputs": [[1, 2, {}, 4]]}, 400, "bad-request", "got an object"),
        ({"model": "fraud", "inputs": [[1, 2, 3, 1e39]]}, 400, "bad-request", "[0, 3] has to fit float32, got 1e+39"),
        ({"model": "fraud", "inputs": [[1, 2, None, 4]]}, 422, "not-finite", "it may not take a missing value"),
        ({"model": "fraud", "features": [[1, 2]]}, 422, "wrong-shape", "features: wanted 6 columns, got 2"),
        ({"model": "fraud", "features": [[None] * 6]}, 422, "wrong-shape", "features: wanted numbers"),
        ({"model": "fraud", "logits": [[1, 2, 3]]}, 422, "wrong-shape", "wanted 2 columns, one per class, got 3"),
        ({"model": "fraud", "logits": []}, 422, "no-rows", "logits: wanted at least one row"),
        ({"model": "fraud", "logits": [[1e308, -1e400]]}, 400, "bad-request", "not JSON"),
        ({"model": "fraud", "logits": [[1, 2]], "model_version": 2}, 404, "unknown-version", "no version 2, only 1"),
        ({"model": "fraud", "logits": [[1, 2]], "model_version": "1"}, 400, "bad-request", "whole number"),
        ({"model": "fraud", "logits": [[1, 2]], "model_version": True}, 400, "bad-request", "whole number"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": "x"}, 404, "unknown-point", "'x', only argmax@1"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": "argmax@9"}, 404, "unknown-point", "'argmax@9'"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": ["argmax"] * 2}, 400, "bad-request", "(1), got 2"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": [1]}, 400, "bad-request", "a list of names"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": ["p", None]}, 400, "bad-request", "null in place 1"),
        ({"model": "fraud", "logits": [[1, 2]], "operating_point": {}}, 400, "bad-request", "got an object"),
        ({"model": 5, "logits": [[1, 2]]}, 400, "bad-request", "model must be a text, got a number"),
        ({"model": "fraud", "logits": [[1, 2]], "priority": -1}, 400, "bad-request", "priority must be a whole number"),
        ({"model": "fraud", "logits": [[1, 2]], "timeout_ms": 0}, 400, "bad-request", "timeout_ms must be a numb"),
        ({"model": "fraud", "logits": [[1, 2]], "compare": "argmax"}, 400, "bad-request", "compare must be a list"),
        ({"model": "fraud", "logits": [[1, 2]], "compare": ["x"]}, 404, "unknown-point", "'x'"),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_is_refused_and_the_next_is_answered(
    standing: TestClient, body: object, status: int, kind: str, said: str
) -> None:
    """One problem each, which names the item."""
    content = body if isinstance(body, bytes) else json.dumps(body).replace("-Infinity", "-1e400").encode()
    assert said in refused(standing.post("/predict", content=content), status, kind)
    alive(standing)


def test_many_points_at_once_never_mix(fraud: TestClient) -> None:
    """Concurrent callers under different points each get their own point's decisions."""
    from concurrent.futures import ThreadPoolExecutor

    for name, bias in (("low", -1.0), ("mid", 0.3), ("high", 2.0)):
        publish(fraud, name, bias)

    def call(i: int) -> bool:
        name, bias = [("low", -1.0), ("mid", 0.3), ("high", 2.0)][i % 3]
        rows = np.random.default_rng(i).normal(size=(1 + i % 5, WIDTH)).astype(np.float32)
        reply = ask(fraud, inputs=rows.tolist(), operating_point=name)
        point = Point(("clear", "fraud"), np.ones(2), np.array([0.0, bias]))
        logits = forward(weights(2), rows)[1]
        return reply["operating_point"] == f"{name}@1" and column(reply, "label").tolist() == [
            point.classes[k] for k in point.decide(logits)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(120)))


def test_too_many_rows_are_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a setting, and where there are many classes by the size of the answer."""
    client = start(predict_rows=50)
    register(client, network(2), classes=CLASSES)
    assert client.post("/predict", json={"model": "fraud", "logits": [0.5] * 50}).status_code == 200
    for rows in ({"logits": [0.5] * 51}, {"inputs": {"x": [[1, 2, 3, 4]] * 51}}, {"features": [[1] * 6] * 51}):
        response = client.post("/predict", json={"model": "fraud", **rows})
        assert "at most 50 rows of 2 classes, got 51" in refused(response, 413, "too-large")
    monkeypatch.setattr("service.web.predict.MOST_NUMBERS", 20)
    response = client.post("/predict", json={"model": "fraud", "logits": [0.5] * 11})
    assert "at most 10 rows of 2 classes, got 11" in refused(response, 413, "too-large")
    alive(client)


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that Python and numpy held at once during a run, beyond what was held before."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("field", ["inputs", "features", "logits"])
def test_a_long_text_among_numbers_takes_no_memory_of_its_own(standing: TestClient, field: str) -> None:
    """It is refused before an array as wide as the text is made."""
    width = 6 if field == "features" else WIDTH
    rows: list[Any] = [["a" * 1_000_000, *[1] * (width - 1)], *[[1] * width] * 200]
    body = json.dumps({"model": "fraud", field: rows}).encode()
    assert peak_bytes(lambda: standing.post("/predict", content=body)) < 20_000_000
    assert standing.post("/predict", content=body).status_code in (400, 422)
    alive(standing)


def test_running_out_of_memory_is_the_callers_to_mend(fraud: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """413, with what to do; the next call is answered."""

    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 64 GiB")

    with monkeypatch.context() as patch:
        patch.setattr("service.web.predict.read_rows", full)
        response = fraud.post("/predict", json={"model": "fraud", "inputs": [[1, 2, 3, 4]]})
    assert "send fewer rows" in refused(response, 413, "too-large")
    alive(fraud)
