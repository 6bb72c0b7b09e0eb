"""Small real ONNX models: built node by node, or exported by scikit-learn."""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
WIDTH, HIDDEN = 4, 6


def weights(k: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """One hidden layer and a head of k logits."""
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(size=(WIDTH, HIDDEN)).astype(np.float32),
        "b1": rng.normal(size=HIDDEN).astype(np.float32),
        "w2": rng.normal(size=(k, HIDDEN)).astype(np.float32),
        "b2": rng.normal(size=k).astype(np.float32),
    }


def forward(values: dict[str, NDArray[np.float32]], x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features and logits of the same network in numpy."""
    features = np.maximum(x @ values["w1"] + values["b1"], 0)
    return features, features @ values["w2"].T + values["b2"]


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    outputs: Sequence[str],
    *,
    input_shape: Sequence[int | str | None] = ("rows", WIDTH),
    input_type: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A model of these nodes, its input `x`."""
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info("x", input_type, list(input_shape))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=9)
    helper.set_model_props(model, metadata or {})
    return bytes(model.SerializeToString())


def body() -> list[onnx.NodeProto]:
    """From `x` to `features`."""
    node = helper.make_node
    return [node("MatMul", ["x", "w1"], ["h"]), node("Add", ["h", "b1"], ["h1"]), node("Relu", ["h1"], ["features"])]


def network(k: int = 2, *, seed: int = 0, softmax: bool = True, metadata: dict[str, str] | None = None) -> bytes:
    """The network of `weights` and `forward` as torch exports it: Gemm with a transposed weight, softmax behind it."""
    node = helper.make_node
    nodes = [*body(), node("Gemm", ["features", "w2", "b2"], ["logits"], transB=1)]
    if softmax:
        squash = "Softmax" if k > 1 else "Sigmoid"
        nodes.append(node(squash, ["logits"], ["probabilities"]))
    return build(nodes, weights(k, seed), ["probabilities" if softmax else "logits"], metadata=metadata)


@cache
def exported(
    model: Any, *, labels: tuple[Any, ...] = (0, 1), zipmap: bool = False, **options: Any
) -> tuple[bytes, Any]:
    """A classifier of scikit-learn as ONNX, and itself, fitted on 300 rows with as many classes as there are labels."""
    from skl2onnx import to_onnx

    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, WIDTH)).astype(np.float32)
    y = np.digitize(x[:, 0] + rng.normal(size=300), np.linspace(0, 1.5, len(labels))[1:])
    fitted = model.fit(x, np.array(labels)[y])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of scikit-learn about what skl2onnx asks of it
        made = to_onnx(fitted, x[:1], options={id(fitted): {"zipmap": zipmap, **options}})
    return made.SerializeToString(), fitted


@cache
def forest(zipmap: bool = False) -> tuple[bytes, Any]:
    """A random forest of scikit-learn as ONNX, and itself: label and probabilities, no linear layer."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, WIDTH)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=300) > 1.5).astype(int)
    trees = RandomForestClassifier(n_estimators=7, max_depth=4, random_state=0).fit(x, y)
    return to_onnx(trees, x[:1], options={"zipmap": zipmap}).SerializeToString(), trees
