"""Operators because of which a row's answer depends on chance, on earlier runs or on the other rows of its batch.

Decided here: what counts is what the operator does by its definition, whether or not a runtime happens to optimise it
away. Only nodes that the outputs need are read. Operators hide in subgraphs and functions, so both are searched.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from calibrate.io.onnx_file import parse, subgraphs

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_WHOLE_BATCH = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}  # one scale from all rows
_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_MAX_SHOWN = 3


@dataclass(frozen=True)
class Unstable:
    """Operators of a graph by what they do to a row's answer; `is_half` where it computes in 16-bit floats.

    `random` draw numbers or are in training mode, `batch` compute something from all rows of a batch.
    """

    random: tuple[str, ...]
    batch: tuple[str, ...]
    is_half: bool


def unstable_operators(data: bytes) -> Unstable:
    """The operators that the outputs of an ONNX model need and that make its answers unstable.

    Each is described as `Dropout in training mode (node 'drop')`. Raises: `BadModel` where the bytes are no model.
    """
    model = parse(data)
    functions = {(each.domain, each.name): each for each in model.functions}
    random: list[str] = []
    batch: list[str] = []
    constants: dict[str, onnx.NodeProto | TensorProto] = {each.name: each for each in model.graph.initializer}
    is_half = any(each.data_type in _HALF for each in model.graph.initializer)
    for node in _needed(model.graph):
        for inner, scope in _walk(node, constants, functions):
            shown = f" (node {inner.name!r})" if inner.name else ""
            if inner.op_type in _RANDOM:
                random.append(f"{inner.op_type}{shown}")
            elif _trains(inner, scope):
                random.append(f"{inner.op_type} in training mode{shown}")
                if inner.op_type == "BatchNormalization":
                    batch.append(f"{inner.op_type} in training mode{shown}")
            elif inner.op_type in _WHOLE_BATCH:
                batch.append(f"{inner.op_type}{shown}")
            is_half = is_half or (inner.op_type == "Cast" and _attribute(inner, "to") in _HALF)
        constants.update(dict.fromkeys(node.output, node))
    return Unstable(tuple(dict.fromkeys(random)), tuple(dict.fromkeys(batch)), is_half)


def shown_operators(operators: Iterable[str]) -> str:
    """The first few operators as one text."""
    listed = list(operators)
    more = len(listed) - _MAX_SHOWN
    return ", ".join(listed[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


Scope = dict[str, onnx.NodeProto | TensorProto]
Functions = dict[tuple[str, str], onnx.FunctionProto]


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the outputs of a graph come from, in the graph's order, which is one in which they can run."""
    wanted = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted |= _reads(node)
    return nodes[::-1]


def _reads(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node reads, those that its subgraphs take from outside too."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        names |= {value.name for value in graph.output}
        for inner in graph.node:
            names |= _reads(inner)
    return names


def _walk(node: onnx.NodeProto, scope: Scope, functions: Functions) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    """A node and those inside it, each with the constants that it may name."""
    yield node, scope
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        pairs = zip(function.input, node.input, strict=False)  # trailing inputs may be left out
        inside: Scope = {name: scope[outer] for name, outer in pairs if outer in scope}
        yield from _walk_all(function.node, inside, functions)
    for graph in subgraphs(node):
        yield from _walk_all(graph.node, {**scope, **{each.name: each for each in graph.initializer}}, functions)


def _walk_all(
    nodes: Iterable[onnx.NodeProto], scope: Scope, functions: Functions
) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    for node in nodes:
        yield from _walk(node, scope, functions)
        scope.update(dict.fromkeys(node.output, node))


def _trains(node: onnx.NodeProto, scope: Scope) -> bool:
    """Whether a dropout or a batch normalisation is in training mode."""
    if node.op_type == "Dropout":
        return len(node.input) > 2 and _is_true(node.input[2], scope)
    if node.op_type == "BatchNormalization":  # before opset 14 the further outputs stand for it
        return bool(_attribute(node, "training_mode")) or sum(map(bool, node.output)) > 1
    return False


def _is_true(name: str, scope: Scope) -> bool:
    """Whether a tensor is a constant that holds true; False where it is computed, which only a run can show."""
    maker = scope.get(name)
    while isinstance(maker, onnx.NodeProto) and maker.op_type == "Identity":
        maker = scope.get(maker.input[0])
    if isinstance(maker, onnx.NodeProto):
        if maker.op_type != "Constant":
            return False
        maker = _attribute(maker, "value")
    return isinstance(maker, TensorProto) and bool(numpy_helper.to_array(maker).any())


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)
