"""`infer` decides as `POST /predict` does, whatever form a request has."""

import gzip
import json
import time
import zlib
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from starlette.testclient import TestClient

from calibrate.logits import softmax
from tests.models import WIDTH, body, build, forward, network, weights
from tests.service.conftest import CLASSES, Start, publish, refused_v2, register
from tests.service.oip.ask import INFER, infer, read, tensor
from tests.service.oip.ask import body as written
from tests.service.oip.models import two_inputs

X = np.random.default_rng(5).normal(size=(12, WIDTH)).astype(np.float32)
FEATURES, LOGITS = forward(weights(2), X)
NAMES = np.array(["clear", "fraud"], dtype=object)
ALL = ["label", "probabilities", "adjusted", "margin", "logits", "operating_point"]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize(
    ("call", "names", "raw"),
    [
        ({}, ALL, set()),
        ({"parameters": {"binary_data_output": True}}, ALL, set(ALL)),
        ({"outputs": [{"name": "margin"}, {"name": "label"}]}, ["margin", "label"], set()),
        (
            {"outputs": [{"name": name, "parameters": {"binary_data": True}} for name in ALL]},
            ALL,
            set(ALL),
        ),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "logits"}],
            },
            ["label", "logits"],
            {"logits"},
        ),
    ],
)
def test_json_and_raw_tensors_both_ways(
    fraud: TestClient, binary_in: bool, call: dict[str, Any], names: list[str], raw: set[str]
) -> None:
    """The same numbers in all forms; an output's own wish wins over the request's."""
    publish(fraud, "high-recall", 0.5)
    call = {"parameters": {}, **call}
    call["parameters"] = {**call["parameters"], "operating_point": "high-recall"}
    said, found = read(infer(fraud, tensor("x", X, binary=binary_in), id="7", **call))
    assert (said["model_name"], said["model_version"], said["id"]) == ("fraud", "1", "7")
    assert said["parameters"]["operating_point"] == "high-recall@1"
    assert [output["name"] for output in said["outputs"]] == names
    assert {output["name"] for output in said["outputs"] if "data" not in output} == raw
    shifted = LOGITS + np.array([0, 0.5])
    expected = {
        "label": NAMES[shifted.argmax(axis=1)],
        "probabilities": softmax(LOGITS),
        "adjusted": softmax(shifted),
        "margin": shifted[:, 1] - shifted[:, 0],
        "logits": LOGITS,
        "operating_point": np.array(["high-recall@1"] * len(X), dtype=object),
    }
    for name, array in found.items():
        assert array.shape == expected[name].shape
        same = (array == expected[name]).all() if array.dtype == object else np.allclose(array, expected[name])
        assert same, name


def test_json_that_came_before_is_checked_with_each_body(start: Start) -> None:
    """Its tensors, its address and the model behind it may be others."""
    client = start()
    register(client, network(2), classes=CLASSES)
    register(client, network(3), "three", classes='["a", "b", "c"]')
    content, headers = written(tensor("x", X, binary=True), outputs=[{"name": "logits"}])
    for _ in range(2):
        for name, rows in (("fraud", X), ("three", X), ("fraud", 2 * X)):
            asked = content[: -X.nbytes] + rows.tobytes()
            _, found = read(client.post(f"/v2/models/{name}/infer", content=asked, headers=headers))
            expected = forward(weights(3 if name == "three" else 2), rows)[1]
            assert np.allclose(found["logits"], expected, atol=1e-5)
        said = refused_v2(client.post(INFER, content=content[:-4], headers=headers), 400)
        assert f"at most the {X.nbytes - 4} that are left behind the JSON; got {X.nbytes}" in said
        assert "4 bytes are left behind" in refused_v2(
            client.post(INFER, content=content + b"1234", headers=headers), 400
        )
        assert "nope" in refused_v2(client.post("/v2/models/nope/infer", content=content, headers=headers), 404)


def test_the_answer_is_that_of_predict(fraud: TestClient) -> None:
    """To the last bit, also from features and logits."""
    publish(fraud, "p", 1 / 3)
    for kind, values in (("inputs", X), ("features", FEATURES), ("logits", LOGITS)):
        asked = {"model": "fraud", kind: values.astype(float).tolist(), "operating_point": "p"}
        rows = fraud.post("/predict", json=asked).json()["predictions"]
        given = tensor("x" if kind == "inputs" else kind, values, "FP32" if kind == "inputs" else "FP64", binary=True)
        _, found = read(infer(fraud, given, parameters={"operating_point": "p"}))
        for name in ("label", "probabilities", "adjusted", "margin"):
            assert found[name].tolist() == [row[name] for row in rows]


def test_the_point_is_of_the_rows_the_parameter_the_header_or_the_default(fraud: TestClient) -> None:
    """The nearest to the row wins; rows name points, or give their place in the metadata's list."""
    for name, bias in (("all", 100.0), ("none", -100.0), ("all", 50.0)):
        publish(fraud, name, bias)
    listed = json.loads(fraud.get("/v2/models/fraud").json()["properties"]["operating_points"])
    assert listed == ["argmax@1", "all@1", "none@1", "all@2"]
    header = {"Setpoint-Operating-Point": "none"}
    inputs = tensor("x", X)

    def answered(*more: tuple[dict[str, Any], bytes], **call: Any) -> tuple[str, list[str]]:
        said, found = read(infer(fraud, inputs, *more, **call))
        assert set(found["operating_point"].tolist()) == set(said["parameters"]["operating_point"].split(","))
        return said["parameters"]["operating_point"], found["label"].tolist()

    plain = NAMES[LOGITS.argmax(axis=1)].tolist()
    assert answered() == ("argmax@1", plain)
    assert answered(headers=header) == ("none@1", ["clear"] * 12)
    named = {"operating_point": "all@1"}
    assert answered(headers=header, parameters=named) == ("all@1", ["fraud"] * 12)
    asked = ["none", "all", "argmax", "all@1"] * 3
    expected = [{"n": "clear", "a": "fraud"}[name[0]] if name != "argmax" else plain[i] for i, name in enumerate(asked)]
    labels = ("none@1,all@2,argmax@1,all@1", expected)
    for binary in (False, True):
        assert answered(tensor("operating_point", asked, "BYTES", binary=binary), headers=header) == labels
        places = [listed.index(name if "@" in name else {"all": "all@2"}.get(name, f"{name}@1")) for name in asked]
        assert answered(tensor("operating_point", places, "INT32", binary=binary)) == labels
        assert answered(tensor("operating_point", [[p] for p in places], "INT64", binary=binary)) == labels


def test_a_classification_names_the_classes(fraud: TestClient) -> None:
    """`value:index:label`, the largest first, as many as there are."""
    wanted = [{"name": "probabilities", "parameters": {"classification": 9, "binary_data": True}},
              {"name": "logits", "parameters": {"classification": 1}}]  # fmt: skip
    said, found = read(infer(fraud, tensor("x", X), outputs=wanted))
    assert {output["datatype"] for output in said["outputs"]} == {"BYTES"}
    assert (found["probabilities"].shape, found["logits"].shape) == ((12, 2), (12, 1))
    for row, words in zip(softmax(LOGITS), found["probabilities"], strict=True):
        told = [word.split(":") for word in words]
        assert [int(index) for _, index, _ in told] == np.argsort(-row).tolist()
        assert [label for *_, label in told] == NAMES[np.argsort(-row)].tolist()
        assert np.allclose([float(value) for value, *_ in told], np.sort(row)[::-1], atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_no_rows_are_answered_with_no_rows(fraud: TestClient, binary: bool) -> None:
    """In the right shapes; the point must be there all the same."""
    empty = tensor("x", np.empty((0, WIDTH)), binary=binary)
    said, found = read(infer(fraud, empty))
    assert {name: array.shape for name, array in found.items()} == {
        "label": (0,), "probabilities": (0, 2), "adjusted": (0, 2), "margin": (0,), "logits": (0, 2),
        "operating_point": (0,),
    }  # fmt: skip
    assert said["parameters"]["operating_point"] == "argmax@1"
    read(infer(fraud, empty, tensor("operating_point", np.empty(0), "INT32", binary=binary)))
    refused_v2(infer(fraud, empty, parameters={"operating_point": "nope"}), 404)


def test_several_inputs_and_texts(client: TestClient) -> None:
    """In any order, some raw and some as JSON; a text may be empty or not ASCII."""
    register(client, two_inputs(), classes=CLASSES)
    assert client.get("/v2/models/fraud").json()["inputs"][1] == {"name": "kind", "datatype": "BYTES", "shape": [-1, 1]}
    x, kinds = X[:4, :2], [["a"], ["bé"], [""], ["else"]]
    expected = np.column_stack([x, [1, 2, 3, 0]]) @ weights(2)["w2"][:, :3].T + weights(2)["b2"]
    for x_raw in (False, True):
        for kind_raw in (False, True):
            inputs = [tensor("kind", kinds, "BYTES", binary=kind_raw), tensor("x", x, binary=x_raw)]
            _, found = read(infer(client, *inputs))
            assert np.allclose(found["logits"], expected, atol=1e-6)
    assert "the model takes the inputs x, kind" in refused_v2(infer(client, tensor("x", x)), 400)
    said = refused_v2(infer(client, tensor("x", x), tensor("kind", kinds[:3], "BYTES")), 400)
    assert "the same number of rows, got {'x': 4, 'kind': 3}" in said
    bad = refused_v2(infer(client, tensor("x", x), tensor("kind", [[b"\xff"]] * 4, "BYTES", binary=True)), 400)
    assert bad == "input 'kind': element 0 is not UTF-8"


def test_a_model_keeps_an_input_of_its_own_that_is_called_operating_point(client: TestClient) -> None:
    """Such as one that was exported with its points."""
    graph = build(body(), weights(2), ["features"])
    import onnx

    model = onnx.load_from_string(graph)
    model.graph.input.append(helper.make_tensor_value_info("operating_point", TensorProto.FLOAT, ["rows", 1]))
    node = helper.make_node
    model.graph.node.extend([node("Mul", ["features", "operating_point"], ["f"]),
                             node("Gemm", ["f", "w2", "b2"], ["z"], transB=1)])  # fmt: skip
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="z"))
    register(client, model.SerializeToString(), classes=CLASSES)
    _, found = read(infer(client, tensor("x", X), tensor("operating_point", np.full((12, 1), 2.0))))
    assert np.allclose(found["logits"], 2 * FEATURES @ weights(2)["w2"].T + weights(2)["b2"], atol=1e-5)


def test_a_whole_body_may_be_the_one_row(fraud: TestClient, client: TestClient) -> None:
    """With a header length of zero; everything is answered raw."""
    headers = {"inference-header-content-length": "0"}
    said, found = read(fraud.post(INFER, content=X[0].tobytes(), headers=headers))
    assert np.allclose(found["logits"], LOGITS[:1], atol=1e-6)
    assert all("data" not in output for output in said["outputs"])
    none = refused_v2(fraud.post(INFER, content=b"", headers=headers), 400)
    assert none == "input 'x': FP32 of shape [1, 4] is 16 bytes, got 0"
    register(client, two_inputs(), "two", classes=CLASSES)
    two = client.post("/v2/models/two/infer", content=b"1", headers=headers)
    assert "is one tensor, the model takes 2 inputs" in refused_v2(two, 400)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_both_ways(fraud: TestClient, encoding: str) -> None:
    """The header's length counts what is unpacked; an answer is compressed where it is worth it."""
    rows = np.repeat(X, 20, axis=0)
    content, headers = written(tensor("x", rows, binary=True), parameters={"binary_data_output": True})
    packed = gzip.compress(content) if encoding == "gzip" else zlib.compress(content)
    response = fraud.post(
        INFER, content=packed, headers={**headers, "content-encoding": encoding, "accept-encoding": encoding}
    )
    assert response.headers["content-encoding"] == encoding
    assert response.headers["vary"] == "accept-encoding"
    _, found = read(response)
    assert np.allclose(found["logits"], np.repeat(LOGITS, 20, axis=0), atol=1e-6)
    for accepted in ("identity", "br", "gzip;q=0, br", ""):
        plain = fraud.post(INFER, content=content, headers={**headers, "accept-encoding": accepted})
        assert "content-encoding" not in plain.headers
        read(plain)


def test_what_unpacks_to_too_much_is_refused(start: Start) -> None:
    """Bounded as an unpacked body is; nothing of it is kept."""
    client = start(body_bytes=20_000)
    register(client, network(2), classes=CLASSES)
    response = client.post(INFER, content=gzip.compress(b" " * 1_000_000), headers={"content-encoding": "gzip"})
    assert "at most 20000 bytes, it unpacks to more" in refused_v2(response, 413)
    assert "at most 20000 bytes" in refused_v2(client.post(INFER, content=b" " * 30_000), 413)
    read(infer(client, tensor("x", X)))


def test_too_many_rows_are_refused(start: Start) -> None:
    """As in predict; the configuration tells how many one call may have."""
    client = start(predict_rows=10)
    register(client, network(2), classes=CLASSES)
    assert client.get("/v2/models/fraud/config").json()["max_batch_size"] == 10
    assert "at most 10 rows of 2 classes, got 12" in refused_v2(infer(client, tensor("x", X, binary=True)), 413)


def test_a_staged_version_answers_where_version_and_point_are_named(fraud: TestClient) -> None:
    """Not without a point."""
    register(fraud, network(2, seed=9), classes=CLASSES)
    path = "/v2/models/fraud/versions/2/infer"
    assert "is staged and has no default" in refused_v2(infer(fraud, tensor("x", X), path=path), 404)
    said, found = read(infer(fraud, tensor("x", X), path=path, parameters={"operating_point": "argmax"}))
    assert (said["model_version"], said["parameters"]["operating_point"]) == ("2", "argmax@2")
    assert np.allclose(found["logits"], forward(weights(2, 9), X)[1], atol=1e-5)


def test_what_clients_send_beyond_the_protocol_is_passed_over(fraud: TestClient) -> None:
    """Also a content type that says something else, or none."""
    for content_type in ("application/json", "application/octet-stream", "text/plain", ""):
        said, _ = read(
            infer(fraud, tensor("x", X, binary=True), model_name="else", id="", headers={"content-type": content_type},
                  parameters={"priority": 1, "timeout": 60_000_000, "mine": 3.5})
        )  # fmt: skip
        assert said["model_name"] == "fraud"
        assert said["id"] == ""


def test_a_request_whose_time_is_over_is_not_run(fraud: TestClient) -> None:
    """503, and the client may try again."""
    response = infer(fraud, tensor("x", X), parameters={"timeout": 1})
    assert "timeout of 1 microseconds was over" in refused_v2(response, 503)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("mode", ["best_effort", "required"])
def test_decisions_are_logged_as_those_of_predict(start: Start, mode: str) -> None:
    """Row by row, with the point, under the request's id; none for no rows."""
    client = start(decision_log=mode)
    register(client, network(2), classes=CLASSES)
    publish(client, "all", 100.0)
    infer(client, tensor("x", X[:0]), headers={"x-request-id": "empty"})
    points = tensor("operating_point", ["all", "argmax"] * 6, "BYTES", binary=True)
    _, found = read(infer(client, tensor("x", X, binary=True), points, headers={"x-request-id": "ours"}))
    entries: list[dict[str, Any]] = []
    until = time.monotonic() + 10
    while len(entries) < len(X) and time.monotonic() < until:
        entries = client.get("/decisions?request_id=ours").json()
    assert [entry["label"] for entry in entries] == found["label"].tolist()
    assert [entry["point"] for entry in entries] == found["operating_point"].tolist()
    assert client.get("/decisions?request_id=empty").json() == []
