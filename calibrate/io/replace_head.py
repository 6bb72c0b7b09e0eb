"""An ONNX model with another last layer: the same body, the same outputs, new weights.

Decided here: what makes the logits is taken out and a new layer put in its place under the same tensor name, so
whatever lay behind the head (a softmax, an argmax, labels) stays as it was, whichever operators the old head was made
of. What nothing needs any more, the old weights above all, is dropped. The new layer has the type of the old logits,
and one column where the old head had one.
"""

import json

import numpy as np
import onnx
from jaxtyping import Float64
from onnx import TensorProto, helper, numpy_helper, shape_inference

from calibrate.errors import BadModel, NoHead
from calibrate.io.description import KEY
from calibrate.io.graph import read_model
from calibrate.io.model import Head

_FLOATS: dict[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}


def replace_head(
    data: bytes,
    weight: Float64[np.ndarray, "k d"],
    bias: Float64[np.ndarray, "k"],
    *,
    prior: Float64[np.ndarray, "k"] | None = None,
    output: str | None = None,
) -> bytes:
    """The model in the bytes of an ONNX file with this head, `logits = features @ weight.T + bias`.

    `output` says which output the head is behind, where there are several; `prior` replaces that of the model's
    description, if it has one. A head of one logit stays one: the difference of the two rows.

    Raises: `BadModel` where the file is no model that can be read, the new head does not fit the old one, or the old
    one is inside a larger operator; `NoHead` where there is none.
    """
    head = read_model(data, output=output).head
    if head is None:
        raise NoHead("the graph does not end in a linear layer that can be replaced")
    if head.weight.shape != weight.shape:
        raise BadModel(
            f"the model's head has {head.weight.shape[0]} classes and {head.weight.shape[1]} features, the new one "
            f"{weight.shape[0]} and {weight.shape[1]}"
        )
    model = onnx.load_model_from_string(data)
    graph = model.graph
    place = next((i for i, node in enumerate(graph.node) if head.logits in node.output), None)
    if place is None:
        raise BadModel(
            "the head is inside an operator that makes labels and scores of it (LinearClassifier): export the "
            "model with a linear layer of its own"
        )
    declared = _declared(model)
    kind = _FLOATS.get(declared.get(head.logits, (TensorProto.FLOAT, None))[0])
    if kind is None:
        raise BadModel("the model's logits are not floats")
    if _is_single(head, declared):
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    with np.errstate(over="ignore"):
        new_weight: np.ndarray = weight.astype(kind)
        new_bias: np.ndarray = bias.astype(kind)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        raise BadModel(f"the new head has weights that {np.dtype(kind)}, the type of the model's logits, cannot hold")
    old = graph.node[place]
    made = _layer(head, new_weight, new_bias, _names(graph), plain=old.op_type == "Gemm")
    graph.node.remove(old)
    for i, node in enumerate(made):
        graph.node.insert(place + i, node)
    _drop_unused(graph)
    if prior is not None:
        _tell_prior(model, prior)
    return bytes(model.SerializeToString())


def _declared(model: onnx.ModelProto) -> dict[str, tuple[int, int | None]]:
    """Type and last length of each tensor whose shape can be told."""
    try:
        graph = shape_inference.infer_shapes(model).graph
    except (shape_inference.InferenceError, ValueError):
        graph = model.graph
    found = {}
    for value in (*graph.value_info, *graph.output, *graph.input):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            dims = tensor.shape.dim
            found[value.name] = (tensor.elem_type, dims[-1].dim_value or None if dims else None)
    return found


def _is_single(head: Head, declared: dict[str, tuple[int, int | None]]) -> bool:
    """Whether the graph has one logit, which is read as two classes with zeros for the first."""
    zeros = head.weight.shape[0] == 2 and not head.weight[0].any() and head.bias[0] == 0
    return bool(zeros) and declared.get(head.logits, (0, None))[1] != 2


def _names(graph: onnx.GraphProto) -> tuple[str, str, str]:
    """Three names that no tensor has."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.initializer)}
    prefix = "retrained_head"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return f"{prefix}.weight", f"{prefix}.bias", f"{prefix}.product"


def _layer(
    head: Head, weight: np.ndarray, bias: np.ndarray, names: tuple[str, str, str], *, plain: bool
) -> list[onnx.NodeProto]:
    """A Gemm where the old head was one, else MatMul and Add, which also take features of more than two axes."""
    held = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ascontiguousarray(array), name))
        for name, array in ((names[0], weight if plain else weight.T), (names[1], bias))
    ]
    if plain:
        return [*held, helper.make_node("Gemm", [head.features, names[0], names[1]], [head.logits], transB=1)]
    return [
        *held,
        helper.make_node("MatMul", [head.features, names[0]], [names[2]]),
        helper.make_node("Add", [names[2], names[1]], [head.logits]),
    ]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Nodes and constants that no output needs; a graph with subgraphs is left alone, since those see outer tensors."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    held = [tensor for tensor in graph.initializer if tensor.name in needed]
    shapes = [value for value in graph.value_info if value.name in needed]
    nodes = kept[::-1]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(held)
    graph.value_info.extend(shapes)


def _tell_prior(model: onnx.ModelProto, prior: Float64[np.ndarray, "k"]) -> None:
    """Puts the prior into the model's description, if it has one: the old head's is not that of the new one."""
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = json.dumps({**json.loads(entry.value), "prior": prior.tolist()}, ensure_ascii=False)
