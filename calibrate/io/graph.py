"""Models as ONNX graphs: finds the linear head and exposes what goes into it and what comes out.

Decided here: the served graph keeps only two outputs, logits and (where there is a head) features; what lay behind the
head, a softmax say, is cut off, because an operating point takes its place. Where no head can be found the caller names
an output and says what it holds. One self-contained file: data outside it is refused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from jaxtyping import Float
from onnx import TensorProto

from calibrate.errors import BadModel, NoHead
from calibrate.io.endless import refuse_endless
from calibrate.io.labels import read_labels, what_it_holds
from calibrate.io.linear_classifier import spell_out
from calibrate.io.model import Head, ModelGraph, OutputKind, Port
from calibrate.io.view import View

# What may stand between a head and an output without changing which class is largest.
_BEHIND_A_HEAD = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "ArgMax", "ZipMap", "Dropout"}
_RENAMES = {"ZipMap", "Identity"}
# What both numpy and the runtime's Python interface hold; the eight-bit floats and four-bit integers it does not take.
_TYPES: dict[int, str] = {
    TensorProto.FLOAT16: "float16", TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8", TensorProto.INT16: "int16", TensorProto.INT32: "int32", TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8", TensorProto.UINT16: "uint16", TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64", TensorProto.BOOL: "bool", TensorProto.STRING: "str",
}  # fmt: skip
_MOST_AXES = 16
_MOST_NUMBERS = 2**24  # in one row: 16 million, an image of 2,000 x 2,000 pixels in four colours
_NO_BIAS = np.zeros(1, dtype=np.float32)


def read_model(data: bytes, *, output: str | None = None, output_kind: str | None = None) -> ModelGraph:
    """The model in the bytes of an ONNX file.

    The head is the Gemm, MatMul with or without Add, or LinearClassifier that an output comes from; `output` says which
    output, where there are several. Without a head `output` must be named, and `output_kind` says "logits" or
    "probabilities".

    Raises: `BadModel` where the file is not one self-contained ONNX model that takes rows, `NoHead` where there is no
    head and no output named.
    """
    if output_kind not in (None, "logits", "probabilities"):
        raise BadModel(f"output_kind must be logits or probabilities, got {output_kind!r}")
    model = _parse(data)
    graph = model.graph
    _refuse_external_data(model)
    refuse_endless(model)
    named = {value.name: value for value in graph.output}
    tensors = {name for node in graph.node for name in node.output if name}
    if output is not None and output not in named and output not in tensors:
        raise BadModel(f"the model has no output {output!r}, only {', '.join(named)}")
    spelled = spell_out(model)
    view = View(graph)
    labels = read_labels(view, dict.fromkeys([output, *named] if output is not None else named))
    found = [_behind(view, spelled, name) for name in ([output] if output is not None else named)]
    heads = {tail.head.logits: tail for tail in found if tail.head is not None}
    if len(heads) > 1:
        raise NoHead(f"several linear heads were found, behind {', '.join(heads)}: name one output")
    for tail in heads.values():
        if tail.head is not None:
            _check_kind(tail, output, output_kind)
            return _served(model, tail.head.logits, "logits", tail.head, labels)
    if output is None:
        scores = [name for name, value in named.items() if what_it_holds(view, value) is None]
        raise NoHead(
            "the graph does not end in a linear layer; name an output and its output_kind (logits or probabilities), "
            f"of {', '.join(f'{name} (from {view.maker(name)})' for name in scores)}"
            if scores
            else "the graph does not end in a linear layer, and all that it puts out are labels: "
            + ", ".join(f"{name} holds {what_it_holds(view, value)}" for name, value in named.items())
        )
    if output_kind is None:
        raise NoHead(f"no linear layer was found behind output {output!r}: say output_kind, logits or probabilities")
    _check_scores(view, graph, output, found[0].tensor, output_kind)
    return _served(model, found[0].tensor, "logits" if output_kind == "logits" else "probabilities", None, labels)


@dataclass(frozen=True, eq=False)
class _Tail:
    """What lies behind an output: the operators down to the head, the head, and the tensor that the output renames."""

    operators: tuple[str, ...]
    tensor: str
    head: Head | None


def _behind(view: View, spelled: Mapping[str, tuple[str, str | None]], output: str) -> _Tail:
    operators: list[str] = []
    tensor, renamed = output, output
    while (node := view.node(tensor)) is not None and _is_behind(view, node):
        if len(operators) > len(_BEHIND_A_HEAD):
            break  # longer than any classifier's tail: a chain without end, if the graph has a cycle
        if node.op_type in _RENAMES and not set(operators) - _RENAMES:
            renamed = node.input[0]
        operators.append(node.op_type)
        tensor = node.input[0]
    if node is not None and node.output[0] in spelled:
        logits, squash = spelled[node.output[0]]
        operators.append("ArgMax" if tensor == node.output[0] else squash or "Identity")
        node = view.node(logits)
    head = None if node is None else _linear(view, node)
    if head is not None and "Sigmoid" in operators and _width(head) > 1:
        raise BadModel(f"output {output!r} is a sigmoid over {_width(head)} logits: classes must exclude each other")
    return _Tail(tuple(operators), renamed, None if head is None else _two_columns(head))


def _is_behind(view: View, node: onnx.NodeProto) -> bool:
    """Whether a node may stand between a head and an output; a Normalizer where it leaves what it gets as it is."""
    if node.op_type == "Normalizer" and node.input:
        return view.maker(node.input[0]) == "LinearClassifier"
    return node.op_type in _BEHIND_A_HEAD and bool(node.input)


def _width(head: Head) -> int:
    """The number of logits that a head makes."""
    return int(head.weight.shape[0])


def _linear(view: View, node: onnx.NodeProto) -> Head | None:
    """The head that a node is, or None."""
    if node.op_type == "Gemm" and len(node.input) >= 2:
        options = {attribute.name: attribute for attribute in node.attribute}
        weight = view.constant(node.input[1])
        if weight is None or weight.ndim != 2 or ("transA" in options and options["transA"].i):
            return None
        weight = weight if "transB" in options and options["transB"].i else weight.T
        bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else _NO_BIAS
        if "alpha" in options:
            weight = weight * np.float32(options["alpha"].f)
        if "beta" in options and bias is not None:
            bias = bias * np.float32(options["beta"].f)
        return _head(weight, bias, node.input[0], node.output[0])
    if node.op_type == "MatMul":
        return _product(view, node, _NO_BIAS, node.output[0])
    if node.op_type == "Add" and len(node.input) == 2:
        for one, other in ((0, 1), (1, 0)):
            product = view.node(node.input[one])
            if product is not None and product.op_type == "MatMul":
                return _product(view, product, view.constant(node.input[other]), node.output[0])
    return None


def _product(view: View, node: onnx.NodeProto, bias: Float[np.ndarray, "..."] | None, logits: str) -> Head | None:
    """The head of a MatMul and what is added to it."""
    weight = view.constant(node.input[1]) if len(node.input) == 2 else None
    return None if weight is None or weight.ndim != 2 else _head(weight.T, bias, node.input[0], logits)


def _head(
    weight: Float[np.ndarray, "k d"], bias: Float[np.ndarray, "..."] | None, features: str, logits: str
) -> Head | None:
    k = weight.shape[0]
    if bias is None or bias.size not in (1, k):
        return None
    return Head(np.ascontiguousarray(weight), np.broadcast_to(bias.reshape(-1), (k,)).copy(), features, logits)


def _two_columns(head: Head) -> Head:
    """A head of one logit as two classes."""
    if _width(head) > 1:
        return head
    return Head(
        np.concatenate([np.zeros_like(head.weight), head.weight]),
        np.concatenate([np.zeros_like(head.bias), head.bias]),
        head.features,
        head.logits,
    )


def _check_kind(tail: _Tail, output: str | None, output_kind: str | None) -> None:
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
    model: onnx.ModelProto, output: str, kind: OutputKind, head: Head | None, labels: tuple[str, ...] | None
) -> ModelGraph:
    """The graph with just the outputs that are served; the runtime drops what they do not need."""
    graph = model.graph
    types = {value.name: value for value in [*graph.output, *graph.value_info]}
    if output in types and types[output].type.WhichOneof("value") not in (None, "tensor_type"):
        raise BadModel(f"output {output!r} must be a tensor, it is a {types[output].type.WhichOneof('value')}")
    constants = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_port(value) for value in graph.input if value.name not in constants)
    if not inputs:
        raise BadModel("the model has no inputs")
    numbers = sum(math.prod(length or 1 for length in port.shape) for port in inputs)
    if numbers > _MOST_NUMBERS:
        raise BadModel(f"a row of the inputs must have at most {_MOST_NUMBERS} numbers together, got {numbers}")
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
    return ModelGraph(data, inputs, output, kind, head, metadata, labels)


def _port(value: onnx.ValueInfoProto) -> Port:
    if not value.type.HasField("tensor_type"):
        raise BadModel(f"input {value.name!r} must be a tensor, it is a {value.type.WhichOneof('value')}")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        known = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in TensorProto.DataType.values() else ""
        raise BadModel(
            f"input {value.name!r} has the type {known.lower() or tensor.elem_type}, wanted one of "
            f"{', '.join(_TYPES.values())}"
        )
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    if not shape:
        raise BadModel(f"input {value.name!r} must have an axis of rows, its shape is ()")
    if shape[0] is not None:
        raise BadModel(
            f"input {value.name!r} takes {shape[0]} rows and no other number: export it with a free first axis, "
            "with torch by dynamic_shapes=, or dynamic_axes= where dynamo=False"
        )
    if len(shape) > _MOST_AXES:
        raise BadModel(f"input {value.name!r} has {len(shape)} axes, wanted at most {_MOST_AXES}")
    lengths = [length for length in shape if length is not None]
    if min(lengths, default=1) <= 0 or math.prod(lengths) > _MOST_NUMBERS:
        raise BadModel(
            f"a row of input {value.name!r} must have axes of at least 1 and at most {_MOST_NUMBERS} numbers, its "
            f"shape is {shape[1:]}"
        )
    return Port(value.name, _TYPES[tensor.elem_type], shape)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise BadModel(f"this is not an ONNX file: {error}") from None
    graph = model.graph
    if not graph.node or not graph.output:
        raise BadModel("this is not an ONNX model: it has no nodes or no outputs")
    names = chain(
        (value.name for value in chain(graph.input, graph.output, graph.initializer, graph.value_info)),
        chain.from_iterable((node.op_type, *node.input, *node.output) for node in graph.node),
        (attribute.name for node in graph.node for attribute in node.attribute),
        chain.from_iterable((entry.key, entry.value) for entry in model.metadata_props),
    )
    if not all(isinstance(name, str) for name in names):  # protobuf hands out bytes where a text is not UTF-8
        raise BadModel("this is not an ONNX model: a name in it is not text")
    return model


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BadModel(
                f"tensor {tensor.name!r} is kept outside the file; export the model as one file, with torch by "
                "external_data=False"
            )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, those in subgraphs, functions and attributes too."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
        while nodes:
            for attribute in nodes.pop().attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in [*attribute.sparse_tensors, attribute.sparse_tensor]:
                    yield from (sparse.values, sparse.indices)
                graphs += attribute.graphs
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
