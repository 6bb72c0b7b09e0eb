"""A row's answer does not depend on its company: what a registration finds out, and how such models are served."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from calibrate import feature_cache, fit
from calibrate.errors import BadModel
from calibrate.io.unstable import unstable_operators
from service.cli import app
from service.engine import trial
from service.engine.onnx import OnnxEngine
from tests.models import forest, network
from tests.servers import running
from tests.service.conftest import Start, refused, register
from tests.unstable import X, alone, centred, dropout, noise, normalised, quantised, together

CLASSES = json.dumps(["a", "b", "c"])
LABELS = np.random.default_rng(1).integers(0, 3, size=700)
RANDOM = {
    "Dropout in training mode (node 'drop')": dropout(),
    "RandomNormalLike (node 'noise')": noise(),
    "BatchNormalization in training mode (node 'norm')": normalised(),
}
STABLE = {
    "three": network(3),
    "two": network(2),
    "static": quantised("static"),
    "dropout": dropout(training=False),
    "norm": normalised(training=False),
}


def labels_of(client: TestClient, x: Any, **fields: Any) -> list[str]:
    """The labels that `/predict` gives."""
    response = client.post("/predict", json={"model": "m", "inputs": x.tolist(), **fields})
    assert response.status_code == 200, response.text
    return [row["label"] for row in response.json()["predictions"]]


@pytest.fixture
def dynamic(start: Start) -> TestClient:
    """A service with the dynamically quantised model `m`."""
    client = start()
    register(client, quantised("dynamic"), "m", classes=CLASSES)
    return client


def test_a_row_is_answered_alike_alone_in_a_batch_and_in_both_protocols(dynamic: TestClient) -> None:
    """As ONNX Runtime answers it alone, where together it answers some rows otherwise."""
    by_itself = alone(quantised("dynamic"), "logits").argmax(axis=1)
    assert (together(quantised("dynamic"), "logits").argmax(axis=1) != by_itself).sum() > 0
    expected = np.array(["a", "b", "c"])[by_itself].tolist()
    assert labels_of(dynamic, X) == expected
    assert [labels_of(dynamic, X[i : i + 1])[0] for i in range(20)] == expected[:20]
    tensor = {"name": "x", "shape": list(X.shape), "datatype": "FP32", "data": X.ravel().tolist()}
    outputs = [{"name": "label"}]
    reply = dynamic.post("/v2/models/m/infer", json={"inputs": [tensor], "outputs": outputs})
    assert reply.status_code == 200, reply.text
    assert reply.json()["outputs"][0]["data"] == expected


def test_a_calibration_runs_the_rows_as_they_will_be_served(dynamic: TestClient) -> None:
    """The point is the one that `fit` finds on the logits of rows run alone, and says that they were."""
    data = {"inputs": X.tolist(), "labels": LABELS.tolist()}
    spec = {"model": "m", "name": "p", "metric": "balanced_accuracy", "method": "bias_adjustment"}
    reply = dynamic.post("/calibrate", json={**spec, "data": data})
    assert reply.status_code == 201, reply.text

    def fitted(logits: Any) -> Any:
        cache = feature_cache(logits=logits, labels=LABELS, classes=("a", "b", "c"))
        return fit(cache, metric="balanced_accuracy", method="bias_adjustment")

    by_itself, beside = (fitted(run(quantised("dynamic"), "logits")) for run in (alone, together))
    assert by_itself.point.digest != beside.point.digest
    assert reply.json()["digest"] == by_itself.point.digest
    assert any("DynamicQuantizeLinear" in text for text in reply.json()["warnings"])


def test_a_model_whose_rows_depend_on_their_batch_is_marked_everywhere(dynamic: TestClient) -> None:
    """In the version, each of its points, the default and the audit trail; also after a restart."""
    (version,) = dynamic.get("/models/m").json()["versions"]
    assert (version["depends_on_batch"], version["is_random"]) == (True, False)
    (warning,) = version["warnings"]
    assert "DynamicQuantizeLinear" in warning
    assert "each row is run by itself" in warning
    assert warning in dynamic.get("/models/m/operating-points/argmax").json()["warnings"]
    assert warning in dynamic.get("/models/m/default").json()["warnings"]
    (entry,) = dynamic.get("/audit").json()
    assert entry["details"]["warnings"] == [warning]
    assert "allow_random" not in entry["details"]


def test_the_mark_outlives_the_server(start: Start) -> None:
    """Rows are run apart by a server that only reads the store."""
    first = start()
    register(first, quantised("dynamic"), "m", classes=CLASSES)
    first.__exit__(None, None, None)
    again = start()
    expected = alone(quantised("dynamic"), "logits").argmax(axis=1)
    assert labels_of(again, X) == np.array(["a", "b", "c"])[expected].tolist()
    assert again.get("/models/m").json()["versions"][0]["depends_on_batch"] is True


@pytest.mark.parametrize("data", STABLE.values(), ids=STABLE)
def test_models_that_treat_each_row_by_itself_are_not_marked(client: TestClient, data: bytes) -> None:
    """Floats that are rounded otherwise, fixed scales, dropout and normalisation of evaluation."""
    said = register(client, data, "m")
    assert (said["depends_on_batch"], said["is_random"], said["warnings"]) == (False, False, [])


def test_trees_are_not_marked(client: TestClient) -> None:
    """Probabilities near 0 and 1 differ in their logits by rounding alone."""
    said = register(client, forest()[0], "m", output="probabilities", output_kind="probabilities")
    assert said["depends_on_batch"] is False


def test_statistics_of_the_batch_are_found_by_running_it(client: TestClient) -> None:
    """Where plain operators take the mean over rows; alone, every row gets the same answer, which is told."""
    said = register(client, centred(), "m")
    assert said["depends_on_batch"] is True
    assert "rows differ by" in said["warnings"][0]
    assert "decides no single row" in said["warnings"][1]
    assert not np.ptp(alone(centred(), "logits", X[:9]), axis=0).any()


@pytest.mark.parametrize("operator", RANDOM)
def test_a_model_that_answers_at_random_is_refused_by_operator(client: TestClient, operator: str) -> None:
    """Nothing is kept; what to do is told."""
    response = client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", RANDOM[operator])})
    said = refused(response, 422, "bad-model")
    assert operator in said
    assert "model.eval()" in said
    assert "'allow_random': true" in said
    assert client.get("/models").json() == []
    assert client.get("/audit").json() == []


@pytest.mark.parametrize("operator", RANDOM)
def test_a_model_that_answers_at_random_may_be_allowed(client: TestClient, operator: str) -> None:
    """It is marked, and who allowed it is kept."""
    said = register(client, RANDOM[operator], "m", allow_random="true")
    assert said["is_random"] is True
    assert operator in said["warnings"][-1]
    assert client.get("/audit").json()[0]["details"]["allow_random"] is True
    assert said["warnings"] == client.get("/models/m/operating-points/argmax").json()["warnings"]


def test_allow_random_is_true_or_false(client: TestClient) -> None:
    """And changes nothing for a model that does not answer at random."""
    files = {"file": ("m.onnx", network(2))}
    response = client.post("/models", data={"name": "m", "allow_random": "perhaps"}, files=files)
    assert "allow_random" in refused(response, 400, "bad-request")
    said = register(client, network(2), "m", allow_random="true")
    assert said["is_random"] is False
    assert "allow_random" not in client.get("/audit").json()[0]["details"]


def test_a_slow_model_is_judged_by_its_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The further runs are left out, so that it is not refused for their time."""
    engine = OnnxEngine()
    monkeypatch.setattr(trial, "_SLOW_S", 0.0)
    assert trial.try_out(engine, network(2), None, None).depends_on_batch is None
    assert trial.try_out(engine, centred(), None, None).depends_on_batch is None
    assert trial.try_out(engine, quantised("dynamic"), None, None).depends_on_batch is True
    with pytest.raises(BadModel, match="Dropout in training mode"):
        trial.try_out(engine, dropout(), None, None)


def test_operators_are_found_where_they_hide() -> None:
    """In a branch, in a function, behind an identity; not where no output needs them."""
    import onnx
    from onnx import TensorProto, helper

    node, info = helper.make_node, helper.make_tensor_value_info
    drop = [node("Constant", [], ["one"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])),
            node("Identity", ["one"], ["on"]), node("Dropout", ["x", "", "on"], ["y"], name="deep")]  # fmt: skip
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def model(nodes: list[Any], functions: list[Any] | None = None) -> bytes:
        inputs = [info("x", TensorProto.FLOAT, ["n", 2]), info("go", TensorProto.BOOL, [])]
        graph = helper.make_graph(nodes, "g", inputs, [info("y", TensorProto.FLOAT, ["n", 2])])
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, functions=functions or [])
        return bytes(made.SerializeToString())

    function = helper.make_function("own", "Layer", ["x"], ["y"], drop, [helper.make_opsetid("", 17)])
    branch = helper.make_graph(drop, "then", [], [info("y", TensorProto.FLOAT, None)])
    other = helper.make_graph([node("Identity", ["x"], ["z"])], "else", [], [info("z", TensorProto.FLOAT, None)])
    expected = ("Dropout in training mode (node 'deep')",)
    assert unstable_operators(model(drop)).random == expected
    assert unstable_operators(model([node("Layer", ["x"], ["y"], domain="own")], [function])).random == expected
    assert unstable_operators(model([node("If", ["go"], ["y"], then_branch=branch, else_branch=other)])).random == (
        expected
    )
    unused = [node("RandomNormalLike", ["x"], ["noise"]), node("Identity", ["x"], ["y"])]
    assert unstable_operators(model(unused)).random == ()


def test_the_command_line_refuses_allows_and_warns(tmp_path: Path) -> None:
    """`--allow-random` is what the refusal names; warnings come after what was done."""
    (tmp_path / "drop.onnx").write_bytes(dropout())
    (tmp_path / "int8.onnx").write_bytes(quantised("dynamic"))
    with running(tmp_path) as server:

        def run(file: str, *options: str) -> Any:
            arguments = ["publish", str(tmp_path / file), "--model", "m", *options, "--server", server.address]
            return CliRunner().invoke(app, arguments)

        stopped = run("drop.onnx")
        assert "--allow-random" in str(stopped.exception)
        allowed = run("drop.onnx", "--allow-random")
        assert allowed.exit_code == 0
        assert "warning: answers depend on chance" in allowed.output
        assert "warning: a row's answer depends on the other rows" in run("int8.onnx").output
