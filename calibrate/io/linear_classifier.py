"""LinearClassifier of ai.onnx.ml, as scikit-learn's linear models are exported, spelled out as a Gemm.

The node makes labels and squashed scores, so its logits are nowhere in the graph. A Gemm beside it makes them, and is a
head like any other; the runtime drops the node itself, which nothing needs any more.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GEMM = 9  # the first operator set whose Gemm, Cast and Constant are those used here
# What the node does to its logits, as the operator that would do the same.
_SQUASHES = {b"NONE": None, b"LOGISTIC": "Sigmoid", b"SOFTMAX": "Softmax"}


def spell_out(model: onnx.ModelProto) -> dict[str, tuple[str, str | None]]:
    """Adds a Gemm for each LinearClassifier that has logits.

    Gives, by the node's first output, the Gemm's output and the operator that makes the node's scores of it.
    """
    graph = model.graph
    opsets = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if opsets and max(opsets) < _GEMM:
        return {}
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.initializer)}
    found: dict[str, tuple[str, str | None]] = {}
    for node in [node for node in graph.node if node.op_type == "LinearClassifier"]:
        if not node.input or len(node.output) != 2:
            continue
        options = {attribute.name: attribute for attribute in node.attribute}
        parts = _weight_and_bias(options)
        if parts is None:
            continue
        prefix = f"{node.output[1] or node.output[0]}_head"
        while any(name.startswith(prefix) for name in taken):
            prefix += "_"
        names = [f"{prefix}_{part}" for part in ("features", "weight", "bias", "logits")]
        taken |= set(names)
        features, weight, bias, logits = names
        if _is_float(graph, node.input[0]):
            features = node.input[0]
        else:  # the node takes doubles and integers too, a Gemm only what its weight is
            graph.node.append(helper.make_node("Cast", [node.input[0]], [features], to=TensorProto.FLOAT))
        for name, part in ((weight, parts[0]), (bias, parts[1])):
            graph.node.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(part, name)))
        graph.node.append(helper.make_node("Gemm", [features, weight, bias], [logits], transB=1))
        found[node.output[0]] = logits, _SQUASHES[_squash(options)]
    if found and not opsets:
        model.opset_import.append(helper.make_opsetid("", _GEMM))
    return found


def _weight_and_bias(options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight (k, d) and bias (k,), one row for two classes of which one score is the other's negative; or None."""
    if "coefficients" not in options or _squash(options) not in _SQUASHES:
        return None
    bias = np.array(options["intercepts"].floats if "intercepts" in options else [], dtype=np.float32)
    weight = np.array(options["coefficients"].floats, dtype=np.float32)
    k = len(bias)
    if k == 0 or weight.size == 0 or weight.size % k:
        return None
    weight = weight.reshape(k, -1)
    if _squash(options) == b"SOFTMAX":
        return (weight, bias) if k > 1 else None
    mirrored = k == 2 and np.array_equal(weight[0], -weight[1]) and bias[0] == -bias[1]
    if mirrored:
        return weight[1:], bias[1:]
    # Sigmoids over several scores do not exclude each other; a single row is read differently by different runtimes.
    return (weight, bias) if k > 1 and _squash(options) == b"NONE" else None


def _squash(options: Mapping[str, Any]) -> bytes:
    return bytes(options["post_transform"].s) if "post_transform" in options else b"NONE"


def _is_float(graph: onnx.GraphProto, tensor: str) -> bool:
    """Whether a tensor is declared to be float32."""
    declared = [value for value in (*graph.input, *graph.value_info) if value.name == tensor]
    return bool(declared) and declared[0].type.tensor_type.elem_type == TensorProto.FLOAT
