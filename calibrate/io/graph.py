"""Models as ONNX graphs: finds the linear head and exposes what goes into it and what comes out.

Decided here: the served graph keeps only two outputs, logits and (where there is a head) features; what lay behind the
head, a softmax say, is cut off, because an operating point takes its place. Where no head can be found the caller names
an output and says what it holds. A row gets one line of logits: axes of length 1 are taken away; others, time steps
say, are refused, because nobody but the model's owner knows which step decides.
"""

from collections import deque

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from jaxtyping import Float

from calibrate.errors import BadModel, NoHead
from calibrate.io.labels import read_labels, what_it_holds
from calibrate.io.layers import Layer
from calibrate.io.linear_classifier import spell_out
from calibrate.io.model import Head, ModelGraph, OutputKind, Port
from calibrate.io.onnx_file import parse
from calibrate.io.ports import read_ports, shown_shape
from calibrate.io.tail import Tail, tail_behind
from calibrate.io.view import View

_SHOWN_NODES = 6


def read_model(data: bytes, *, output: str | None = None, output_kind: str | None = None) -> ModelGraph:
    """The model in the bytes of an ONNX file.

    The head is the linear layer that an output comes from (`calibrate.io.layers`, behind what `calibrate.io.tail` lets
    through); `output` says which output, where there are several. Without a head `output` must be named, and
    `output_kind` says "logits" or "probabilities".

    Raises: `BadModel` where the file is not one self-contained ONNX model that takes rows, `NoHead` where there is no
    head and no output named.
    """
    if output_kind not in (None, "logits", "probabilities"):
        raise BadModel(f"output_kind must be logits or probabilities, got {output_kind!r}")
    model = parse(data)
    graph = model.graph
    inputs = read_ports(graph)
    named = {value.name: value for value in graph.output}
    tensors = {name for node in graph.node for name in node.output if name}
    if output is not None and output not in named and output not in tensors:
        raise BadModel(f"the model has no output {output!r}, only {', '.join(named)}")
    spelled = spell_out(model)
    view = View(model)
    labels = read_labels(view, dict.fromkeys([output, *named] if output is not None else named))
    found = [tail_behind(view, spelled, name) for name in ([output] if output is not None else named)]
    heads = {tail.layer.logits: (tail, tail.layer) for tail in found if tail.layer is not None}
    if len(heads) > 1:
        raise NoHead(f"several linear heads were found, behind {', '.join(heads)}: name one output")
    for tail, layer in heads.values():
        _check_kind(tail, output, output_kind)
        head = _exposed(view, tail, layer)
        return _served(model, inputs, head.logits, layer.columns, "logits", head, labels)
    if output is None:
        raise NoHead(_no_head(view, graph))
    if output_kind is None:
        raise NoHead(f"no linear layer was found behind output {output!r}: say output_kind, logits or probabilities")
    _check_scores(view, graph, output, found[0].tensor, output_kind)
    tensor = _one_line(view, found[0].tensor)
    shape = view.shape(found[0].tensor)
    columns = None if shape is None else 1 if len(shape) == 1 else shape[-1] if len(shape) == 2 else None
    kind: OutputKind = "logits" if output_kind == "logits" else "probabilities"
    return _served(model, inputs, tensor, columns, kind, None, labels)


def _exposed(view: View, tail: Tail, layer: Layer) -> Head:
    """The head of a layer: its two tensors, a row to a line, each made where the graph does not have it itself."""
    features, logits = layer.features[0], layer.logits
    if len(layer.features) == 3:  # quantised numbers, their scale and zero point
        features = view.add("DequantizeLinear", layer.features, f"{logits}_features")
    if tail.pool is not None:  # the mean of what a layer makes is what it makes of the mean
        options = {option.name: onnx.helper.get_attribute_value(option) for option in tail.pool.attribute}
        features = view.add(tail.pool.op_type, [features, *tail.pool.input[1:]], f"{features}_mean", **options)
        logits = tail.pool.output[0]
    if layer.channels:
        features, logits = (view.add("Flatten", [name], f"{name}_flat", axis=1) for name in (features, logits))
    else:
        logits, features = _one_line(view, logits, tail.alike), _one_line(view, features)
    weight, bias = layer.weight, layer.bias
    if layer.columns == 1:  # one logit is two classes
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros_like(bias), bias])
    return Head(_contiguous(weight), _contiguous(bias), features, logits)


def _contiguous(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _one_line(view: View, tensor: str, alike: tuple[str, ...] = ()) -> str:
    """The tensor with one line of numbers a row, axes of length 1 taken away; `alike` have its shape.

    Raises: `BadModel` where there are longer axes.
    """
    shape = next((shape for name in (tensor, *alike) if (shape := view.shape(name)) is not None), None)
    if shape is None or len(shape) <= 2:
        return tensor
    if sum(length != 1 for length in shape[1:]) <= 1 and (shape[0] != 1):
        return view.add("Flatten", [tensor], f"{tensor}_flat", axis=1)
    raise BadModel(
        f"tensor {tensor!r} has {len(shape)} axes, {shown_shape(shape)}, wanted one line of logits for each row, "
        "(rows, classes). Where the steps of a row are decided together, let the graph take the last step or their "
        "mean and register that; where each step is decided by itself, write the steps' logits into a feature cache, a "
        "step a row, and fit and evaluate on that"
    )


def _no_head(view: View, graph: onnx.GraphProto) -> str:
    """Why there is no head, the last nodes, and what to say instead."""
    scores = [value.name for value in graph.output if what_it_holds(view, value) is None]
    if not scores:
        held = ", ".join(f"{value.name} holds {what_it_holds(view, value)}" for value in graph.output)
        return f"the graph does not end in a linear layer, and all that it puts out are labels: {held}"
    nodes, todo = list[str](), deque(scores)
    seen: set[str] = set()
    while todo and len(nodes) < _SHOWN_NODES:
        node = view.node(todo.popleft())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            nodes.append(f"{node.op_type} -> {node.output[0]}")
            todo.extend(name for name in node.input if name)
    return (
        "the graph does not end in a linear layer; name an output and its output_kind (logits or probabilities), of "
        f"{', '.join(f'{name} (from {view.maker(name)})' for name in scores)}, or any inner tensor. Its last nodes, "
        f"backwards: {'; '.join(nodes)}. For example output={scores[0]!r}, output_kind='probabilities'"
    )


def _check_kind(tail: Tail, output: str | None, output_kind: str | None) -> None:
    """A caller who calls probabilities logits, or the other way round, is told."""
    squashed = {"Softmax", "Sigmoid"} & set(tail.operators)
    if output is None or output_kind is None:
        return
    if "ArgMax" in tail.operators:
        raise BadModel(f"output {output!r} comes from ArgMax: it holds labels, not {output_kind}")
    if output_kind == "logits" and squashed:
        raise BadModel(f"output {output!r} comes from {squashed.pop()}: it holds probabilities, not logits")
    if output_kind == "probabilities" and not squashed:
        raise BadModel(f"output {output!r} comes straight from a linear layer: it holds logits, not probabilities")


def _check_scores(view: View, graph: onnx.GraphProto, output: str, tensor: str, output_kind: str) -> None:
    """A caller who takes labels for scores is told."""
    declared = {value.name: value for value in [*graph.value_info, *graph.output]}
    for name in (output, tensor):
        held = what_it_holds(view, declared.get(name, onnx.ValueInfoProto(name=name)))
        if held is not None:
            raise BadModel(f"output {output!r} holds {held}, not {output_kind}")


def _served(
    model: onnx.ModelProto,
    inputs: tuple[Port, ...],
    output: str,
    columns: int | None,
    kind: OutputKind,
    head: Head | None,
    labels: tuple[str, ...] | None,
) -> ModelGraph:
    """The graph with just the outputs that are served; the runtime drops what they do not need."""
    graph = model.graph
    types = {value.name: value for value in [*graph.output, *graph.value_info]}
    if output in types and types[output].type.WhichOneof("value") not in (None, "tensor_type"):
        raise BadModel(f"output {output!r} must be a tensor, it is a {types[output].type.WhichOneof('value')}")
    if head is not None and head.features in {port.name for port in inputs}:
        exposed = [head.logits]  # a linear model: its features are its inputs
    else:
        exposed = [output] if head is None else [head.logits, head.features]
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in exposed)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        data = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise BadModel(f"the model cannot be written as one file: {error}") from None
    return ModelGraph(data, inputs, output, kind, head, metadata, labels, columns)
