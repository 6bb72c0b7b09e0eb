"""Models, points and defaults over REST, and across a restart."""

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

from calibrate import OperatingPoint, fit
from calibrate.io.description import Column, Description
from service.engine.onnx import OnnxEngine
from tests.models import WIDTH, body, build, exported, forest, network, weights
from tests.service.conftest import CLASSES, Start, alive, publish, refused, register

DESCRIPTION = Description(
    ("negative", "sick"),
    (0.8, 0.2),
    (
        Column("age", "number", "the median, 54"),
        Column("sex", "category", "neither", {"F": 0, "M": 1}),
        *(Column(name, "number", "0") for name in ("TSH", "T3")),
    ),
    ("TBG was dropped",),
)


def test_registering_tells_what_was_found(client: TestClient) -> None:
    """Inputs, classes, head, provider; the first version is the default under `argmax`."""
    said = register(client, network(3), "m", classes='["a", "b", "c"]', prior="[0.5, 0.3, 0.2]")
    assert said["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4]}]
    assert said["classes"] == ["a", "b", "c"]
    assert said["head"] == {"features": "features", "logits": "logits", "width": 6}
    assert said["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert (said["model_version"], said["is_default"], said["prior"]) == (1, True, [0.5, 0.3, 0.2])
    shown = client.get("/models/m").json()
    assert shown["default"] == {"model": "m", "model_version": 1, "operating_point": "argmax@1"}
    assert shown["versions"] == [said]
    assert client.get("/models").json() == [shown]


def test_a_model_that_describes_itself_needs_no_form(client: TestClient) -> None:
    """Classes, prior, columns and notes come from its metadata; the form has the last word."""
    data = network(metadata=DESCRIPTION.to_metadata())
    said = register(client, data, "m")
    assert (said["classes"], said["prior"]) == (["negative", "sick"], [0.8, 0.2])
    assert said["columns"][1] == {"name": "sex", "kind": "category", "missing": "neither", "codes": {"F": 0, "M": 1}}
    assert said["notes"] == ["TBG was dropped"]
    assert register(client, data, "m", classes='["x", "y"]')["classes"] == ["x", "y"]


def test_classes_are_numbered_where_nobody_names_them(client: TestClient) -> None:
    """One logit is two classes."""
    assert register(client, network(1), "m")["classes"] == ["0", "1"]
    assert register(client, network(4), "m")["classes"] == ["0", "1", "2", "3"]


TREES = RandomForestClassifier(n_estimators=5, max_depth=4, random_state=0)
NAMED = {"output": "probabilities", "output_kind": "probabilities"}


@pytest.mark.parametrize("labels", [(1, 2), ("fraud", "clear"), (30, 10, 20)], ids=["numbers", "texts", "three"])
@pytest.mark.parametrize("model", [TREES, LogisticRegression()], ids=["trees", "linear"])
def test_a_model_answers_with_its_own_labels(client: TestClient, model: Any, labels: tuple[Any, ...]) -> None:
    """Whatever they are, not with column numbers: as scikit-learn itself predicts; a linear one from features too."""
    data, fitted = exported(model, labels=labels)
    shown = register(client, data, "m", **NAMED)
    assert shown["classes"] == [str(label) for label in fitted.classes_]
    rows = np.random.default_rng(5).normal(size=(40, WIDTH)).astype(np.float32)
    for what in ["inputs"] if model is TREES else ["inputs", "features"]:
        said = client.post("/predict", json={"model": "m", what: rows.tolist()}).json()
        assert [row["label"] for row in said["predictions"]] == [str(label) for label in fitted.predict(rows)]
        made = [row["probabilities"] for row in said["predictions"]]
        assert np.allclose(made, fitted.predict_proba(rows), atol=1e-4)


def test_class_names_may_replace_a_models_labels_but_not_reorder_them(client: TestClient) -> None:
    """Other names are for show; the same names in another order, or another number of them, are a mistake."""
    data, _ = exported(TREES, labels=(1, 2))
    assert register(client, data, "m", **NAMED, classes='["clear", "fraud"]')["classes"] == ["clear", "fraud"]
    assert register(client, data, "m", **NAMED, classes='["1", "2"]')["classes"] == ["1", "2"]
    for classes, said in (
        ('["2", "1"]', "classes are 2, 1, but the model's own labels are 1, 2: give them in the model's order"),
        ('["a", "b", "c"]', "2 classes apart, but 3 were named: a, b, c; its own labels are 1, 2"),
    ):
        form = {"name": "m", "classes": classes, **NAMED}
        response = client.post("/models", data=form, files={"file": ("m.onnx", data)})
        assert said in refused(response, 422, "bad-model")


@pytest.mark.parametrize(
    ("fields", "status", "kind", "said"),
    [
        ({}, 422, "bad-name", "the name of a model must be"),
        ({"name": "../x"}, 422, "bad-name", "got '../x'"),
        ({"name": "a..b"}, 422, "bad-name", "got 'a..b'"),
        ({"name": "m" * 65}, 422, "bad-name", "1 to 64 letters"),
        ({"name": "m", "classes": "clear,fraud"}, 400, "bad-request", "classes must be JSON"),
        ({"name": "m", "classes": '["a", "b", "c"]'}, 422, "bad-model", "2 classes apart, but 3 were named"),
        ({"name": "m", "classes": '["a", "a"]'}, 422, "bad-point", "'a' comes more than once"),
        ({"name": "m", "prior": "[1, 0]"}, 422, "bad-prior", "prior of class '1' must be > 0, got 0"),
        ({"name": "m", "prior": "[0.5, NaN]"}, 422, "not-finite", "prior[1] must be finite"),
        ({"name": "m", "output": "nope"}, 422, "bad-model", "no output 'nope', only probabilities"),
        ({"name": "m", "output_kind": "scores"}, 422, "bad-model", "must be logits or probabilities"),
        ({"name": "m", "color": "red"}, 400, "bad-request", "got 'color'"),
    ],
)  # fmt: skip
def test_a_registration_that_does_not_fit_changes_nothing(
    empty: TestClient, fields: dict[str, str], status: int, kind: str, said: str
) -> None:
    """One problem each."""
    response = empty.post("/models", data=fields, files={"file": ("m.onnx", network(2))})
    assert said in refused(response, status, kind)
    assert empty.get("/models").json() == []


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"", "bad-model", "no nodes or no outputs"),
        (b"hello", "bad-model", "not an ONNX"),
        (network(2)[:200], "bad-model", "not an ONNX"),
        (forest()[0], "no-head", "name an output and its output_kind"),
        (build(body()[:2], {**weights(2), "w1": np.zeros((9, 9), np.float32)}, ["h1"]), "no-head", "name an output"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_served_is_refused(standing: TestClient, data: bytes, kind: str, said: str) -> None:
    """Without a head and without an output named, or no model at all."""
    response = standing.post("/models", data={"name": "m"}, files={"file": ("m.onnx", data)})
    assert said in refused(response, 422, kind)
    alive(standing)


def functions(names: dict[str, list[str]]) -> bytes:
    """A model that calls the first function; each is a chain of calls."""
    node = helper.make_node
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ours", 1)]

    def chain(calls: list[str], first: str, last: str) -> list[onnx.NodeProto]:
        between = [first, *(f"t{i}" for i in range(1, len(calls))), last]
        return [
            node(call, [one], [other], domain="" if call == "Identity" else "ours")
            for call, one, other in zip(calls, between, between[1:], strict=False)
        ]

    model = onnx.load_model_from_string(build([*chain([next(iter(names))], "x", "q"),
        node("MatMul", ["q", "w"], ["y"])], {"w": np.ones((4, 2), np.float32)}, ["y"]))  # fmt: skip
    model.opset_import.append(helper.make_opsetid("ours", 1))
    for name, calls in names.items():
        model.functions.append(helper.make_function("ours", name, ["a"], ["b"], chain(calls, "a", "b"), opsets))
    return bytes(model.SerializeToString())


def looped_trees() -> bytes:
    """A forest, one node of which leads back to the first."""
    model = onnx.load_model_from_string(forest()[0])
    fields = {attribute.name: attribute for attribute in model.graph.node[0].attribute}
    fields["nodes_truenodeids"].ints[0] = 0
    return bytes(model.SerializeToString())


def with_input(input_type: int = TensorProto.FLOAT, shape: Sequence[int | str | None] = ("rows", 4)) -> bytes:
    """A model that casts its input, of any type and shape."""
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return build(nodes, {"w": np.ones((4, 2), np.float32)}, ["y"], input_type=input_type, input_shape=shape)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (functions({"F": ["F"]}), "function 'F' of the model calls itself"),
        (functions({"F": ["G"], "G": ["Identity", "F"]}), "of the model calls itself"),
        (functions({**{f"F{i}": [f"F{i + 1}"] * 2 for i in range(24)}, "F24": ["Identity"]}), "than 50000 nodes"),
        (looped_trees(), "leads back into itself"),
        (with_input(shape=("rows", 0)), "must have axes of at least 1"),
        (with_input(shape=("rows", -4)), "must have axes of at least 1"),
        (with_input(shape=("rows", 2**40)), "at most 16777216 numbers"),
        (with_input(shape=("rows", 2**62, 4)), "at most 16777216 numbers"),
        (with_input(shape=("rows", *[1] * 71)), "has 72 axes, wanted at most 16"),
        (with_input(TensorProto.STRING, ("rows", 2**32)), "at most 16777216 numbers"),
        *((with_input(kind), "wanted one of float16") for kind in (
            TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.UINT4, TensorProto.COMPLEX64,
            TensorProto.UNDEFINED, 99,
        )),
    ],
)  # fmt: skip
def test_a_model_that_no_server_could_run_is_refused_before_it_is_loaded(
    empty: TestClient, data: bytes, said: str
) -> None:
    """Without end, without measure, or of types that no row can be written in."""
    response = empty.post(
        "/models", data={"name": "m", "output": "probabilities" if b"TreeEns" in data else "y",
                         "output_kind": "probabilities" if b"TreeEns" in data else "logits"},
        files={"file": ("m.onnx", data)},
    )  # fmt: skip
    assert said in refused(response, 422, "bad-model")
    assert empty.get("/models").json() == []


def test_functions_within_measure_are_served(client: TestClient) -> None:
    """One that is called twice, by another."""
    register(client, functions({"F": ["G", "G"], "G": ["Identity"]}), "m")
    assert client.post("/predict", json={"model": "m", "inputs": [[1, 2, 3, 4]]}).status_code == 200


def test_a_model_that_does_not_run_on_its_own_shapes_is_refused(empty: TestClient) -> None:
    """Found by a trial run before anything is kept."""
    broken = build(body(), {**weights(2), "w1": np.zeros((9, 6), np.float32)}, ["features"])
    response = empty.post("/models", data={"name": "m", "output": "features", "output_kind": "logits"},
                           files={"file": ("m.onnx", broken)})  # fmt: skip
    refused(response, 422, "bad-model" if "refuses" in response.text else "model-failed")
    assert empty.get("/models").json() == []


def test_a_form_without_its_file_or_no_form_at_all_is_refused(empty: TestClient) -> None:
    """What was wanted is named."""
    assert "has no file 'file'" in refused(empty.post("/models", files={"name": (None, "m")}), 400, "bad-request")
    assert "multipart/form-data" in refused(empty.post("/models", json={"name": "m"}), 400, "bad-request")
    torn = empty.post("/models", content=b"--x\r\nContent", headers={"content-type": "multipart/form-data; boundary=x"})
    assert "truncated" in refused(torn, 400, "bad-request")
    unbounded = empty.post("/models", content=b"x", headers={"content-type": "multipart/form-data"})
    refused(unbounded, 400, "bad-request")


def test_a_form_that_was_cut_off_or_mixed_up_says_so(empty: TestClient) -> None:
    """Not that a part is missing which was on its way."""
    form = httpx2.Request("POST", "http://x", data={"name": "m"}, files={"file": ("m.onnx", network(2))})
    whole = form.read()
    for kept in (len(whole) - 10, len(whole) - 1000):
        torn = empty.post("/models", content=whole[:kept], headers={"content-type": form.headers["content-type"]})
        assert "truncated" in refused(torn, 400, "bad-request")
    as_text = empty.post("/models", files={"name": (None, "m"), "file": (None, "text")})
    assert "'file' must be sent as a file, it came as a text" in refused(as_text, 400, "bad-request")
    as_file = empty.post("/models", files={"name": ("m.txt", "m"), "file": ("m.onnx", network(2))})
    assert "'name' must be sent as a text, it came as a file" in refused(as_file, 400, "bad-request")
    assert empty.get("/models").json() == []


@pytest.mark.parametrize("entry", [{"classes": "ab"}, {"notes": "hello"}, {"prior": "12"}, {"columns": {"a": 1}}])
def test_a_description_that_is_no_list_is_not_taken_apart(empty: TestClient, entry: dict[str, object]) -> None:
    """A text is not a list of its letters."""
    response = empty.post(
        "/models", data={"name": "m"}, files={"file": ("m.onnx", network(2, metadata={"setpoint": json.dumps(entry)}))}
    )
    assert "is malformed: wanted a list" in refused(response, 422, "bad-model")


def test_a_registration_that_is_refused_leaves_no_file(client: TestClient, tmp_path: Path) -> None:
    """Everything is checked before anything is kept."""
    response = client.post("/models", data={"name": "m", "prior": "[0.5, 0.1]"}, files={"file": ("m.o", network(2))})
    refused(response, 422, "bad-prior")
    assert [path for path in (tmp_path / "data" / "artifacts").rglob("*") if path.is_file()] == []


def test_of_the_staged_versions_only_those_used_last_are_in_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A staged one is loaded when it is asked for, and the default always stays."""
    for seed in range(12):
        said = register(client, network(2, seed=seed), classes=CLASSES)
    assert (said["model_version"], said["provider"]) == (
        12,
        client.get("/models/fraud").json()["versions"][0]["provider"],
    )
    loads, load = [], OnnxEngine.load

    def counted(*arguments: Any, **options: Any) -> Any:
        loads.append(1)
        return load(*arguments, **options)

    monkeypatch.setattr(OnnxEngine, "load", counted)

    def ask(version: int) -> int:
        """How many models it took to load."""
        before = len(loads)
        call = {"model": "fraud", "model_version": version, "operating_point": "argmax", "inputs": [[0, 0, 0, 0]]}
        assert client.post("/predict", json=call).status_code == 200
        return len(loads) - before

    assert [ask(version) for version in (1, 2, 2, 1)] == [0, 1, 0, 0]
    assert [ask(version) for version in range(3, 10)] == [1] * 7
    assert ask(2) == 0
    assert ask(10) == 1
    assert [ask(version) for version in (1, 2, 3)] == [0, 0, 1]
    assert client.get("/health/ready").status_code == 200


def test_a_point_fitted_elsewhere_is_published_with_its_evidence_as_submitted(fraud: TestClient) -> None:
    """Numbered by name, whole, and never passed off as ours."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 60, "kind": "held_out"}
    details = {"method": "bias_adjustment", "metric": "f1", "evidence": {"f1": interval}, "rows": 60}
    said = publish(fraud, "f1", 0.25, details=details)
    assert (said["operating_point"], said["model_version"], said["is_default"]) == ("f1@1", 1, False)
    assert said["evidence"]["f1"] == {**interval, "kind": "submitted"}
    assert (said["method"], said["metric"], said["rows"]) == ("bias_adjustment", "f1", 60)
    assert said["threshold"] == pytest.approx(1 / (1 + np.exp(0.25)))
    assert said["digest"] == OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0, 0.25])).digest
    assert publish(fraud, "f1", 0.5)["operating_point"] == "f1@2"
    assert fraud.get("/models/fraud/operating-points/f1@1").json() == said
    assert fraud.get("/models/fraud/operating-points/f1").json()["version"] == 2
    listed = fraud.get("/models/fraud/operating-points").json()
    assert [point["operating_point"] for point in listed] == ["argmax@1", "f1@1", "f1@2"]
    assert fraud.get("/models/fraud/operating-points?model_version=1").json() == listed


def test_scores_and_gains_from_elsewhere_are_submitted_too(fraud: TestClient) -> None:
    """A bare number, which an earlier version wrote for a score, is kept as it is."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 60, "kind": "held_out"}
    details = {"gain": {"f1": interval}, "model_scores": {"roc_auc": interval, "brier": 0.1}, "survives": ["recall"]}
    said = publish(fraud, "f1", 0.25, details=details)
    assert said["gain"]["f1"] == said["model_scores"]["roc_auc"] == {**interval, "kind": "submitted"}
    assert said["model_scores"]["brier"] == 0.1
    assert said["survives"] == ["recall"]


def test_a_guarantee_from_elsewhere_is_submitted_too(fraud: TestClient) -> None:
    """Its numbers stay, its interval is no longer called certified; what is none is refused."""
    margins = np.repeat([-1.0, 1.0], 40)
    result = fit(
        logits=margins,
        labels=np.repeat([0, 1], 40),
        classes=["clear", "fraud"],
        metric="f1",
        constraints="recall >= 0.9 @ 95%",
        evidence=False,
    )
    (guarantee,) = result.to_dict()["guarantees"]
    (said,) = publish(fraud, "safe", 0.25, details={"guarantees": [guarantee]})["guarantees"]
    assert said["interval"]["kind"] == "submitted"
    assert {**said, "interval": None} == {**guarantee, "interval": None}
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 0.0]}
    body = {"name": "x", "point": point, "details": {"guarantees": [{"constraint": "recall >= 0.9 @ 95%"}]}}
    refused(fraud.post("/models/fraud/operating-points", json=body), 400, "bad-request")


def nested(depth: int) -> list[object]:
    """Lists in lists."""
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


INTERVAL = {"value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 60, "kind": "held_out"}
POINT = {"classes": ["clear", "fraud"], "scale": [1, 1], "bias": [0, 1]}


@pytest.mark.parametrize(
    ("wanted", "status", "kind", "said"),
    [
        ({}, 400, "bad-request", "name: Field required; point: Field required"),
        ({"name": "p"}, 400, "bad-request", "point: Field required"),
        ({"name": "a/b", "point": POINT}, 422, "bad-name", "an operating point must be 1 to 64 letters"),
        ({"name": 5, "point": POINT}, 400, "bad-request", "name: Input should be a valid string"),
        ({"name": "a..b", "point": POINT}, 422, "bad-name", "got 'a..b'"),
        ({"name": "argmax", "point": POINT}, 422, "bad-name", "the model's own rule"),
        ({"name": "p", "point": {**POINT, "classes": ["fraud", "clear"]}}, 422, "bad-point", "has clear, fraud"),
        ({"name": "p", "point": {**POINT, "scale": [1, -1]}}, 422, "bad-point", "scale of class 'fraud' must be > 0"),
        ({"name": "p", "point": {**POINT, "bias": [0]}}, 422, "bad-point", "bias: wanted 2 entries"),
        ({"name": "p", "point": {**POINT, "weights": [1, 1]}}, 400, "bad-request", "point.weights"),
        ({"name": "p", "point": {**POINT, "weight": [1, 1]}}, 422, "bad-point", "weight and offset belong together"),
        ({"name": "p", "point": POINT, "model_version": 9}, 404, "unknown-version", "no version 9, only 1"),
        ({"name": "p", "point": POINT, "details": {"evidence": {"f1": 1}}}, 400, "bad-request", "details.evidence.f1"),
        ({"name": "p", "point": POINT, "details": {"metric": 5}}, 400, "bad-request", "details.metric"),
        ({"name": "p", "point": {**POINT, "bias": [0, "1"]}}, 400, "bad-request", "point.bias.1"),
        ({"name": "p", "point": {**POINT, "scale": [1, True]}}, 400, "bad-request", "point.scale.1"),
        ({"name": "p", "point": POINT, "model_version": "1"}, 400, "bad-request", "model_version"),
        ({"name": "p", "point": POINT, "model_version": True}, 400, "bad-request", "model_version"),
        ({"name": "p", "point": POINT, "details": {"mis_before": ["inf", 1]}}, 400, "bad-request", "mis_before.0"),
        ({"name": "p", "point": POINT, "details": {"evidence": {"f1": {**INTERVAL, "confidence": "nan"}}}}, 400,
         "bad-request", "details.evidence.f1.confidence"),
        ({"name": "p", "point": POINT, "details": {"before": {"f1": {**INTERVAL, "value": "1e400"}}}}, 400,
         "bad-request", "details.before.f1.value"),
        ({"name": "p", "point": POINT, "details": {"evidence": {"f1": {**INTERVAL, "low": 0.95}}}}, 422, "bad-point",
         "details.evidence.f1: wanted an interval, got low 0.95 above high 0.9"),
        ({"name": "p", "point": POINT, "details": {"before": {"recall": {**INTERVAL, "value": 7}}}}, 422, "bad-point",
         "details.before.recall is a share, wanted numbers from 0 to 1, got 7"),
        ({"name": "p", "point": POINT, "details": {"x": nested(21)}}, 422, "bad-point", "nested 20 deep"),
        ({"name": "p", "point": POINT, "details": {"x": nested(900)}}, 400, "bad-request", "nested 32 deep"),
        ({"name": "p", "point": POINT, "details": {"x": "y" * 70_000}}, 422, "bad-point", "65536 bytes, got 70008"),
        ({"name": "p", "point": POINT, "operating_point": 1}, 400, "bad-request", "operating_point"),
    ],
)  # fmt: skip
def test_a_point_that_does_not_fit_is_not_published(
    standing: TestClient, wanted: dict[str, object], status: int, kind: str, said: str
) -> None:
    """One problem each; nothing is there afterwards."""
    assert said in refused(standing.post("/models/fraud/operating-points", json=wanted), status, kind)
    assert len(standing.get("/models/fraud/operating-points").json()) == 1
    alive(standing)


def test_a_stored_point_that_cannot_be_read_does_not_hide_the_others(fraud: TestClient, tmp_path: Path) -> None:
    """It is listed without its details; an older server may have kept what this one refuses."""
    publish(fraud, "p", 1.0)
    publish(fraud, "q", 2.0)
    with closing(sqlite3.connect(tmp_path / "data" / "setpoint.db")) as database:
        database.execute("UPDATE operating_points SET details = '{\"mis_before\": [null, 1]}' WHERE name = 'p'")
        database.commit()
    publish(fraud, "q", 3.0)  # the model is read anew
    listed = fraud.get("/models/fraud/operating-points").json()
    assert [point["operating_point"] for point in listed] == ["argmax@1", "p@1", "q@1", "q@2"]
    assert listed[1]["warnings"] == ["the stored details cannot be read"]
    assert listed[1]["point"]["bias"] == [0, 1]


@pytest.mark.parametrize("change", ["point = replace(point, '1.5', '-9.5')", "point = '{broken'", "state = 'weird'"])
def test_a_default_point_that_was_changed_in_the_store_does_not_answer(
    start: Start, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Readiness and the log say so; other points and other models answer, and another default mends it."""
    first = start()
    register(first, network(2), classes=CLASSES)
    register(first, network(2, seed=3), "other", classes=CLASSES)
    publish(first, "q", 0.5)
    publish(first, "p", 1.5)
    call = {"operating_point": "p", "reason": "because"}
    assert first.put("/models/fraud/default", json=call).status_code == 200
    with closing(sqlite3.connect(tmp_path / "data" / "setpoint.db")) as database:
        database.execute(f"UPDATE operating_points SET {change} WHERE name = 'p'")  # noqa: S608 - of this test
        database.commit()
    second = start()
    said = "the stored point p@1 of model 'fraud' cannot be read: "
    told = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert said in told[-1]
    (reason,) = second.get("/health/ready").json()["reasons"]
    assert reason.startswith(f"the default of model 'fraud' does not answer: {said}")
    ask = {"model": "fraud", "inputs": [[0.0, 0.0, 0.0, 0.0]]}
    for named in ({}, {"operating_point": "p"}, {"operating_point": "p@1"}, {"compare": ["p"]}):
        body = {**ask, "operating_point": "q", **named} if "compare" in named else {**ask, **named}
        assert said in refused(second.post("/predict", json=body), 503, "storage-failed")
    for body in ({**ask, "operating_point": "q"}, {**ask, "model": "other"}):
        assert second.post("/predict", json=body).status_code == 200
    assert said in refused(second.get("/models/fraud/operating-points/p@1"), 503, "storage-failed")
    assert [point["operating_point"] for point in second.get("/models/fraud/operating-points").json()] == [
        "argmax@1", "q@1",
    ]  # fmt: skip
    config = second.get("/v2/models/fraud").json()
    assert json.loads(config["properties"]["operating_points"]) == ["argmax@1", "q@1", "p@1"]
    call = {"operating_point": "q", "reason": "p is broken"}
    assert second.put("/models/fraud/default", json=call).status_code == 200
    assert second.get("/health/ready").status_code == 200
    alive(second)


def test_a_change_is_refused_once_the_data_folder_is_gone(fraud: TestClient, tmp_path: Path) -> None:
    """Predictions go on, and the service says that it is not ready."""
    publish(fraud, "p", 1.0)
    shutil.rmtree(tmp_path / "data")
    call = {"operating_point": "p", "reason": "because"}
    said = refused(fraud.put("/models/fraud/default", json=call), 503, "storage-failed")
    assert "its file was deleted" in said
    assert str(tmp_path) not in said
    response = fraud.post("/models", data={"name": "n"}, files={"file": ("model.onnx", network(2))})
    refused(response, 503, "storage-failed")
    assert fraud.get("/models/fraud").json()["default"]["operating_point"] == "argmax@1"
    assert said in fraud.get("/health/ready").json()["reasons"]
    alive(fraud)


def test_details_cannot_pass_for_what_the_server_says_itself(fraud: TestClient) -> None:
    """A submitted `version` or `is_default` does not shadow the real one."""
    said = publish(fraud, "p", 1.0, details={"version": 99, "is_default": True, "model": "other", "digest": "x"})
    assert (said["version"], said["is_default"], said["model"]) == (1, False, "fraud")
    assert said["digest"] != "x"


def test_the_default_needs_a_reason_and_a_point_of_that_version(fraud: TestClient) -> None:
    """A refused move moves nothing."""
    register(fraud, network(2, seed=4), classes=CLASSES)
    publish(fraud, "p", 1.0)
    call = {"model_version": 1, "operating_point": "p", "reason": "because"}
    changes: list[tuple[dict[str, object], int, str, str]] = [
        ({"reason": ""}, 400, "bad-request", "reason"),
        ({"reason": "  "}, 400, "bad-request", "reason must say"),
        ({"model_version": 2}, 404, "unknown-point", "version 2 of model 'fraud' has no operating point 'p'"),
        ({"model_version": 3}, 404, "unknown-version", "no version 3, only 1, 2"),
        ({"model_version": "1"}, 400, "bad-request", "model_version"),
        ({"operating_point": "q"}, 404, "unknown-point", "'q'"),
        ({"operating_point": "argmax@2"}, 404, "unknown-point", "'argmax@2'"),
    ]
    for change, status, kind, said in changes:
        response = fraud.put("/models/fraud/default", json={**call, **change})
        assert said in refused(response, status, kind)
    refused(fraud.put("/models/nope/default", json=call), 404, "unknown-model")
    assert fraud.get("/models/fraud").json()["default"]["operating_point"] == "argmax@1"
    assert fraud.put("/models/fraud/default", json=call).json()["operating_point"] == "p@1"
    assert fraud.get("/models/fraud/operating-points/p").json()["is_default"] is True
    newest = fraud.get("/audit?limit=1").json()
    assert [(entry["action"], entry["details"]["reason"]) for entry in newest] == [("set default", "because")]
    refused(fraud.get("/audit?limit=0"), 400, "bad-request")
    refused(fraud.get("/audit?limit=x"), 400, "bad-request")


def test_unknown_names_are_404(fraud: TestClient) -> None:
    """In every address that takes one."""
    refused(fraud.get("/models/nope"), 404, "unknown-model")
    refused(fraud.get("/models/nope/operating-points"), 404, "unknown-model")
    refused(fraud.get("/models/fraud/operating-points/nope"), 404, "unknown-point")
    refused(fraud.get("/models/fraud/operating-points?model_version=7"), 404, "unknown-version")
    refused(fraud.get("/models/"), 404, "unknown-route")


def test_everything_survives_a_restart(start: Start) -> None:
    """Models, points, default, and the decisions themselves, from the folder alone."""
    first = start()
    register(first, network(2), classes=CLASSES, prior="[0.9, 0.1]")
    register(first, network(2, seed=3), classes=CLASSES)
    publish(first, "p", 0.7, model_version=2)
    call = {"model_version": 2, "operating_point": "p", "reason": "because"}
    assert first.put("/models/fraud/default", json=call).status_code == 200
    ask = {"model": "fraud", "inputs": [[0.1, 0.2, 0.3, 0.4]], "compare": ["argmax"]}
    before = first.post("/predict", json=ask).json()
    second = start()
    after = second.post("/predict", json=ask).json()
    assert {**after, "request_id": ""} == {**before, "request_id": ""}
    assert second.get("/audit").json() == first.get("/audit").json()
    points = [client.get("/models/fraud/operating-points").json() for client in (first, second)]
    assert points[0] == points[1]
    staged = {**ask, "model_version": 1, "operating_point": "argmax", "features": [[0.0] * 6], "compare": []}
    del staged["inputs"]
    assert second.post("/predict", json=staged).status_code == 200


def test_a_model_file_that_rotted_is_not_served_and_the_others_are(start: Start, tmp_path: Path) -> None:
    """Ready tells the truth; the model's callers get 503."""
    first = start()
    register(first, network(2), "rotten")
    register(first, network(2, seed=8), classes=CLASSES)
    digest = first.get("/models/rotten").json()["versions"][0]["digest"]
    served = {path for path in (tmp_path / "data" / "artifacts").rglob("*") if path.is_file()}
    rotten = register(first, network(2), "same")["digest"]
    assert rotten == digest
    for path in served:
        if b"w1" in path.read_bytes() and path.name != digest:
            path.write_bytes(path.read_bytes()[:-1])
    second = start()
    ready = second.get("/health/ready")
    assert ready.status_code == 503
    assert "the default version of model 'rotten' is not loaded" in ready.json()["reasons"]
    response = second.post("/predict", json={"model": "rotten", "inputs": [[0, 0, 0, 0]]})
    assert "has changed on disk" in refused(response, 503, "storage-failed")
    assert response.headers["retry-after"] == "1"


def test_health_tells_live_and_ready(fraud: TestClient) -> None:
    """Without models too."""
    for path in ("/health/live", "/health/startup"):
        assert fraud.get(path).json() == {"status": "ok", "reasons": [], "providers": {}}
    assert fraud.get("/health/ready").json() == {
        "status": "ok",
        "reasons": [],
        "providers": {"fraud": "CPUExecutionProvider"},
    }


def test_a_published_result_file_is_what_fit_saved(fraud: TestClient, tmp_path: Path) -> None:
    """What `FitResult.save` wrote goes over the wire as it is."""
    from calibrate import fit

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    result = fit(logits=rng.normal(labels).astype(np.float32), labels=labels, classes=["clear", "fraud"], metric="f1")
    result.save(tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    details = {key: value for key, value in saved.items() if key not in ("point", "threshold")}
    said = publish(fraud, "fitted", float(result.point.bias[1]), details=details)
    assert said["mis_after"] == result.mis_after.tolist()
    assert said["evidence"]["f1"]["value"] == result.evidence["f1"].value
    assert said["evidence"]["f1"]["kind"] == "submitted"


def test_models_share_the_memory_that_they_may_take(start: Start) -> None:
    """The least recently used is let go, ready all the while, and loaded again when it is asked for."""
    size = len(network(2))
    client = start(models_bytes=int(2.5 * size))
    for name in ("a", "b", "c"):
        register(client, network(2), name, classes=CLASSES)
    registry = client.app._parts.registry  # type: ignore[attr-defined]
    loaded = registry._loaded._sessions

    def ask(name: str) -> None:
        assert client.post("/predict", json={"model": name, "inputs": [[1, 2, 3, 4]]}).status_code == 200

    registry.refresh()  # which sees all three as changed, and neither loads nor uses any
    assert [name for name, _ in loaded] == ["b", "c"]
    ask("b")
    ask("a")
    assert [name for name, _ in loaded] == ["b", "a"]
    assert client.get("/health/ready").json()["status"] == "ok"
    ask("c")
    assert [name for name, _ in loaded] == ["a", "c"]
    again = start(models_bytes=int(2.5 * size))
    assert len(again.app._parts.registry._loaded._sessions) == 2  # type: ignore[attr-defined]
    assert again.get("/health/ready").json()["status"] == "ok"


def test_a_model_larger_than_all_may_take_is_served_alone(start: Start) -> None:
    """It takes the place of all others."""
    client = start(models_bytes=10)
    for name in ("a", "b"):
        register(client, network(2), name, classes=CLASSES)
    for name in ("a", "b", "a"):
        assert client.post("/predict", json={"model": name, "inputs": [[1, 2, 3, 4]]}).status_code == 200
        assert len(client.app._parts.registry._loaded._sessions) == 1  # type: ignore[attr-defined]


def test_evidence_from_elsewhere_is_no_longer_than_anybody_reads(fraud: TestClient) -> None:
    """A thousand numbers of a kind, two a class, names of 200 characters; the field is named, and nothing is kept."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 60, "kind": "held_out"}
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 0.5]}
    names = [f"n{i}".ljust(200, "x") for i in range(1005)]
    for field in ("evidence", "before", "gain", "model_scores"):
        for given, how in (
            (dict.fromkeys(names, interval), (422, "bad-point")),
            ({"n" * 201: interval}, (400, "bad-request")),
        ):
            body = {"name": "big", "point": point, "details": {field: given}}
            said = refused(fraud.post("/models/fraud/operating-points", json=body), *how)
            assert said.startswith(f"details.{field}")
    assert fraud.get("/models/fraud").json()["operating_points"] == ["argmax@1"]
    whole = publish(fraud, "big", 0.5, details={"evidence": dict.fromkeys(names[:1004], interval)})
    assert fraud.get("/models/fraud/operating-points/big@1").json() == whole


def test_a_model_cannot_have_a_name_that_addresses_take(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """`GET /v2/models/stats` tells of all models; one that an older release let in goes on."""
    form: dict[str, Any] = {"data": {"name": "stats"}, "files": {"file": ("m.onnx", network(2))}}
    assert "GET /v2/models/stats" in refused(client.post("/models", **form), 422, "bad-name")
    with monkeypatch.context() as patch:
        patch.setattr("service.registry.TAKEN", ())
        register(client, network(2), "stats")
    assert register(client, network(2), "stats")["model_version"] == 2
