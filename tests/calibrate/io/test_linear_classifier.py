"""Scikit-learn's linear models have a head: what it makes is what they say themselves."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from calibrate.errors import BadModel, NoHead
from calibrate.io.graph import read_model
from calibrate.logits import softmax, to_columns
from tests.models import OPSET, WIDTH, build, exported

X = np.random.default_rng(1).normal(size=(20, WIDTH)).astype(np.float32)


def logits(data: bytes, rows: np.ndarray = X) -> np.ndarray:
    """What the served graph computes, which is also what its head makes of the features."""
    model = read_model(data)
    assert model.head is not None
    session = ort.InferenceSession(model.data, providers=["CPUExecutionProvider"])
    made = dict(
        zip(
            [o.name for o in session.get_outputs()],
            session.run(None, {session.get_inputs()[0].name: rows}),
            strict=True,
        )
    )
    features = made.get(model.head.features, rows)
    served = to_columns(made[model.head.logits])
    assert np.allclose(features @ model.head.weight.T + model.head.bias, served, atol=1e-5)
    again = read_model(model.data, output=model.output).head
    assert again is not None
    assert np.array_equal(again.weight, model.head.weight)
    return served


@pytest.mark.parametrize("labels", [(1, 2), ("a", "b", "c")], ids=["two", "three"])
@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_logistic_regression(zipmap: bool, scaled: bool, labels: tuple[Any, ...]) -> None:
    """The softmax of the head's logits is `predict_proba`, behind a scaler too, and the labels are its own."""
    model = make_pipeline(StandardScaler(), LogisticRegression()) if scaled else LogisticRegression()
    data, fitted = exported(model, labels=labels, zipmap=zipmap)
    assert np.allclose(softmax(logits(data)), fitted.predict_proba(X), atol=1e-5)
    assert read_model(data).labels == tuple(map(str, fitted.classes_))
    if not zipmap:
        assert read_model(data, output="probabilities", output_kind="probabilities").head is not None
        with pytest.raises(BadModel, match="it holds probabilities, not logits"):
            read_model(data, output="probabilities", output_kind="logits")


@pytest.mark.parametrize("labels", [(1, 2), (1, 2, 3)], ids=["two", "three"])
def test_raw_scores(labels: tuple[int, ...]) -> None:
    """They are the decision function; one score of two classes is one logit."""
    data, fitted = exported(LogisticRegression(), labels=labels, raw_scores=True)
    assert np.allclose(logits(data), to_columns(fitted.decision_function(X)), atol=1e-5)
    with pytest.raises(BadModel, match="it holds logits, not probabilities"):
        read_model(data, output="probabilities", output_kind="probabilities")


def test_a_support_vector_machine_without_kernel() -> None:
    """Its head is found behind the labels."""
    from skl2onnx import to_onnx

    fitted = LinearSVC().fit(X, X[:, 0] > 0)
    data = to_onnx(fitted, X[:1]).SerializeToString()
    assert np.allclose(logits(data), to_columns(fitted.decision_function(X)), atol=1e-5)


def classifier(
    coefficients: list[float], intercepts: list[float], squash: str, labels: list[int], kind: int = TensorProto.FLOAT
) -> bytes:
    """A LinearClassifier by itself."""
    numbers: dict[str, Any] = {
        name: held for name, held in (("coefficients", coefficients), ("intercepts", intercepts)) if held
    }
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", post_transform=squash,
        classlabels_ints=labels, **numbers,
    )  # fmt: skip
    return build([node], {}, ["label", "scores"], input_type=kind)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.DOUBLE, np.float64), (TensorProto.INT64, np.int64)])
def test_inputs_that_are_no_float32(kind: int, dtype: Any) -> None:
    """The node takes them, so the head does."""
    data = classifier([-1.0] * 4 + [1.0] * 4, [2.0, -2.0], "LOGISTIC", [1, 2], kind)
    rows = (X * 10).astype(dtype)
    assert np.allclose(logits(data, rows)[:, 1], rows.sum(axis=1) - 2, atol=1e-4)


@pytest.mark.parametrize(
    "data",
    [
        classifier([1.0] * 12, [0.0] * 3, "LOGISTIC", [1, 2, 3]),
        classifier([1.0] * 8, [0.0] * 2, "LOGISTIC", [1, 2]),
        classifier([1.0] * 8, [0.0] * 2, "PROBIT", [1, 2]),
        classifier([1.0] * 4, [0.0], "LOGISTIC", [1, 2]),
        classifier([1.0] * 7, [0.0] * 2, "SOFTMAX", [1, 2]),
        classifier([], [], "SOFTMAX", [1, 2]),
    ],
    ids=["one against the rest", "two sigmoids", "probit", "one row", "a number missing", "nothing"],
)
def test_what_has_no_logits_has_no_head(data: bytes) -> None:
    """Its scores may still be named."""
    with pytest.raises(NoHead, match=r"of scores \(from LinearClassifier\)"):
        read_model(data)


def test_an_operator_set_without_such_a_gemm_has_no_head() -> None:
    """Where there is none declared, one is added."""
    model = onnx.load_model_from_string(classifier([1.0] * 8, [0.0] * 2, "SOFTMAX", [1, 2]))
    del model.opset_import[:]
    model.opset_import.append(OPSET[1])
    assert np.allclose(logits(model.SerializeToString()), np.repeat(X.sum(axis=1)[:, None], 2, axis=1), atol=1e-5)
    model.opset_import.append(helper.make_opsetid("", 6))
    with pytest.raises(NoHead):
        read_model(model.SerializeToString())
