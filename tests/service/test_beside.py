"""Shadows and comparisons across model versions: both run on the same rows, or are refused with the difference."""

from collections import Counter
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service import shadows as module
from service.domain import ModelVersion, Principal
from service.errors import Forbidden, ModelFailed
from service.inference import Rows, answer
from service.shadows import Shadows
from service.web.beside import find_beside
from service.web.state import Parts
from tests.models import WIDTH, build, network
from tests.service.conftest import CLASSES, publish, refused, register
from tests.unstable import alone, quantised

X = np.random.default_rng(8).normal(size=(120, WIDTH)).astype(np.float32)
NAMES = np.array(["clear", "fraud"])
SHADOW = "/models/fraud/operating-points/retrained@1/shadow"
WHY = {"reason": "test"}


def decided(seed: int, bias: float = 0.0, x: Any = X) -> list[str]:
    """What a network of `tests.models` decides with a bias on fraud, by ONNX Runtime itself."""
    session = ort.InferenceSession(network(2, seed=seed, softmax=False))
    logits = session.run(None, {"x": x})[0].astype(np.float64)
    return list(NAMES[(logits[:, 1] + bias > logits[:, 0]).astype(int)])


def predict(client: TestClient, status: int = 200, **fields: Any) -> Any:
    """An answer."""
    response = client.post("/predict", json={"model": "fraud", "inputs": X.tolist(), **fields})
    if status != 200:
        return response
    assert response.status_code == 200, response.text
    return response.json()


def parts_of(client: TestClient) -> Parts:
    """The parts behind a service in process."""
    return client.app._parts  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def two(fraud: TestClient) -> TestClient:
    """`fraud` in two versions with the point `retrained@1` of the second, which is staged."""
    assert register(fraud, network(2, seed=1), classes=CLASSES)["model_version"] == 2
    publish(fraud, "retrained", 0.7, model_version=2)
    return fraud


@pytest.fixture
def shadowed(two: TestClient) -> TestClient:
    """The same, with that point in the shadow."""
    response = two.post(SHADOW, json=WHY)
    assert response.status_code == 200, response.text
    return two


def test_a_shadow_of_a_staged_version_is_counted_on_what_the_default_answers(shadowed: TestClient) -> None:
    """Of both protocols, one request or many, exactly as ONNX Runtime decides; the answers are the default's."""
    reply = predict(shadowed)
    assert [row["label"] for row in reply["predictions"]] == decided(0)
    for i in range(0, 40, 8):
        predict(shadowed, inputs=X[i : i + 8].tolist())
    tensor = {"name": "x", "shape": [20, WIDTH], "datatype": "FP32", "data": X[:20].ravel().tolist()}
    assert shadowed.post("/v2/models/fraud/infer", json={"inputs": [tensor]}).status_code == 200
    pairs = [*zip(decided(0), decided(1, 0.7), strict=True)]
    expected = Counter(pairs) + Counter(pairs[:40]) + Counter(pairs[:20])
    said = shadowed.get(SHADOW).json()
    assert {(row["answered"], row["shadow"]): row["rows"] for row in said["pairs"]} == expected
    assert {row["answered_by"] for row in said["pairs"]} == {"argmax@1"}
    differ = sum(rows for pair, rows in expected.items() if pair[0] != pair[1])
    assert 0 < differ < 180
    assert (said["rows"], said["differ"], said["skipped"], said["without_inputs"]) == (180, differ, 0, 0)
    assert said["not_run"] is None


def test_rows_without_inputs_are_told_as_such(shadowed: TestClient) -> None:
    """Another version's logits cannot be made of them."""
    ask = {"model": "fraud", "logits": [[0.0, 1.0]] * 7}
    assert shadowed.post("/predict", json=ask).status_code == 200
    said = shadowed.get(SHADOW).json()
    assert (said["rows"], said["skipped"], said["without_inputs"]) == (0, 7, 7)


def test_a_shadow_follows_the_default(shadowed: TestClient) -> None:
    """With its own version as the default it decides the very logits of the answer, counted once."""
    move = {"operating_point": "argmax@2", **WHY}
    assert shadowed.put("/models/fraud/default", json=move).status_code == 200
    predict(shadowed)
    said = shadowed.get(SHADOW).json()
    assert {(row["answered"], row["shadow"]): row["rows"] for row in said["pairs"]} == Counter(
        zip(decided(1), decided(1, 0.7), strict=True)
    )
    assert {row["answered_by"] for row in said["pairs"]} == {"argmax@2"}


def test_a_shadow_that_could_not_run_is_refused_with_the_reason(two: TestClient) -> None:
    """Inputs of another shape, classes in another order; a default that moves to such a version later is told."""
    assert two.post(SHADOW, json=WHY).status_code == 200
    narrow = build([helper.make_node("MatMul", ["x", "w"], ["logits"])], {"w": np.eye(3, 2, dtype=np.float32)},
                   ["logits"], input_shape=("rows", 3))  # fmt: skip
    register(two, narrow, classes=CLASSES)
    register(two, network(2, seed=2), classes='["fraud", "clear"]')
    publish(two, "narrow", 0.0, model_version=3)
    point = {"classes": ["fraud", "clear"], "scale": [1.0, 1.0], "bias": [0.0, 0.0]}
    ask = {"name": "swapped", "point": point, "model_version": 4}
    assert two.post("/models/fraud/operating-points", json=ask).status_code == 201
    said = refused(two.post("/models/fraud/operating-points/narrow@1/shadow", json=WHY), 409, "conflict")
    assert "input 'x' of version 1 of model 'fraud' is float32 (?, 4), of version 3 of model 'fraud'" in said
    said = refused(two.post("/models/fraud/operating-points/swapped@1/shadow", json=WHY), 409, "conflict")
    assert "has the classes clear, fraud, version 4 of model 'fraud' fraud, clear" in said
    assert two.put("/models/fraud/default", json={"operating_point": "argmax@3", **WHY}).status_code == 200
    predict(two, inputs=X[:, :3].tolist())
    told = two.get(SHADOW).json()
    assert told["rows"] == 0
    assert "float32 (?, 3)" in told["not_run"]


def test_a_comparison_runs_other_versions(two: TestClient) -> None:
    """By `name@version` or an alias, a draft or a shadow too, beside points of its own version, in the order asked."""
    alias = {"operating_point": "retrained@1", **WHY}
    assert two.put("/models/fraud/aliases/new", json=alias).status_code == 200
    publish(two, "own", -0.5, model_version=1)
    reply = predict(two, compare=["retrained@1", "own", "new", "argmax@2"])
    assert list(reply["compare"]) == ["retrained@1", "own", "new", "argmax@2"]
    assert reply["compare"] == {
        "retrained@1": decided(1, 0.7), "own": decided(0, -0.5), "new": decided(1, 0.7), "argmax@2": decided(1),
    }  # fmt: skip
    assert [row["label"] for row in reply["predictions"]] == decided(0)
    back = predict(two, model_version=2, operating_point="retrained", compare=["own@1"])
    assert (back["compare"]["own@1"], back["model_version"]) == (decided(0, -0.5), 2)


def test_a_comparison_runs_other_models(two: TestClient) -> None:
    """By a point of any of their versions, or a bare name of the default one."""
    register(two, network(2, seed=5), "other", classes=CLASSES)
    register(two, network(2, seed=6), "other", classes=CLASSES)
    reply = predict(two, compare=["other/argmax", "other/argmax@2", "argmax"])
    expected = {"other/argmax": decided(5), "other/argmax@2": decided(6), "argmax": decided(0)}
    assert reply["compare"] == expected


def test_a_comparison_that_could_not_run_is_refused_with_the_reason(two: TestClient) -> None:
    """Rows without inputs, other classes, a retired point, too many versions, a model or a point that is not there."""
    response = two.post("/predict", json={"model": "fraud", "logits": [[0.0, 1.0]], "compare": ["retrained@1"]})
    said = refused(response, 400, "bad-request")
    assert "'retrained@1' is of version 2 of model 'fraud', which has to be run on the rows: send inputs" in said
    register(two, network(3), "three", classes='["a", "b", "c"]')
    said = refused(predict(two, 400, compare=["three/argmax"]), 400, "bad-request")
    assert "has the classes clear, fraud, version 1 of model 'three' a, b, c" in said
    refused(predict(two, 404, compare=["nothing/argmax"]), 404, "unknown-model")
    refused(predict(two, 404, compare=["three/other"]), 404, "unknown-point")
    assert "answers this call itself" in refused(predict(two, 400, compare=["fraud/argmax"]), 400, "bad-request")
    assert two.post("/models/fraud/operating-points/retrained@1/retire", json=WHY).status_code == 200
    refused(predict(two, 409, compare=["retrained@1"]), 409, "not-approved")


def test_a_comparison_needs_the_right_to_the_other_model(two: TestClient) -> None:
    """A key for one model does not show what another decides, nor whether there is one."""
    register(two, network(2, seed=5), "other", classes=CLASSES)
    registry = parts_of(two).registry
    model, rows = registry.model("fraud"), Rows(inputs={"x": X})
    bound = Principal("ann", models=frozenset({"fraud"}))
    for name in ("other", "nothing"):
        with pytest.raises(Forbidden, match=f"ann may not use model '{name}'"):
            find_beside([f"{name}/argmax"], model, model.version(None), registry, bound, rows)
    assert len(find_beside(["other/argmax"], model, model.version(None), registry, Principal("bob"), rows)) == 1


def test_a_model_run_row_by_row_is_so_in_the_shadow(client: TestClient) -> None:
    """Its decisions do not depend on which rows came together."""
    register(client, network(2), classes=CLASSES)
    register(client, quantised("dynamic", 2), classes=CLASSES)
    publish(client, "retrained", 0.0, model_version=2)
    assert client.post(SHADOW, json=WHY).status_code == 200
    for i in range(0, 120, 40):
        predict(client, inputs=X[i : i + 40].tolist())
    would = NAMES[alone(quantised("dynamic", 2), "logits", X).argmax(axis=1)]
    said = client.get(SHADOW).json()
    assert {(row["answered"], row["shadow"]): row["rows"] for row in said["pairs"]} == Counter(
        zip(decided(0), would.tolist(), strict=True)
    )


class _Failing:
    """A session that cannot run."""

    is_batchable = True

    def run(self, _: Any) -> Any:
        """Fails."""
        raise ModelFailed("no")


class _Book:
    """Counts that are kept nowhere."""

    def add(self, counts: Any) -> None:
        """Takes them."""

    def counts(self, *_: str) -> list[Any]:
        """None."""
        return []


def test_what_fails_or_does_not_fit_is_skipped(two: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of it, and told; the answers go on."""
    assert two.post(SHADOW, json=WHY).status_code == 200
    model = parts_of(two).registry.model("fraud")
    logits = np.zeros((5, 2))
    found = answer(logits, model, model.version(None), None)

    def failing(_: ModelVersion) -> Any:
        return _Failing()

    shadows = Shadows(_Book(), failing)
    shadows.offer(model, logits, found, {"x": X[:5]})
    shadows.counts("fraud", "retrained@1")
    assert shadows.skipped("fraud", "retrained@1") == (5, 0)
    monkeypatch.setattr(module, "MAX_INPUT_BYTES", X[:5].nbytes - 1)
    shadows.offer(model, logits, found, {"x": X[:5]})
    assert shadows.skipped("fraud", "retrained@1") == (10, 0)
    assert shadows.totals() == {}
    shadows.close()


def test_without_a_shadow_of_another_version_nothing_is_kept(two: TestClient) -> None:
    """No thread, no inputs; nor where the rows are those of a version that is not the default."""
    shadows = parts_of(two).shadows
    predict(two)
    assert (shadows._thread, shadows._beside) == (None, [])
    assert two.post(SHADOW, json=WHY).status_code == 200
    publish(two, "other", 0.0, model_version=1)
    assert two.post("/models/fraud/operating-points/other@1/shadow", json=WHY).status_code == 200
    predict(two, model_version=2, operating_point="argmax")
    assert two.get("/models/fraud/operating-points/other@1/shadow").json()["rows"] == 0
    assert {pair["answered_by"] for pair in two.get(SHADOW).json()["pairs"]} == {"argmax@2"}
