"""A graph cut at a tensor: what the tensor comes from, and nothing else."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import onnx

from calibrate.errors import BadModel
from calibrate.io.onnx_file import subgraphs

T = TypeVar("T", onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto)


def cut(graph: onnx.GraphProto, output: str, reserved: Callable[[str], bool]) -> str:
    """Leaves in a graph what the output comes from, and no output; gives the output's name.

    A tensor whose name is reserved gets another. Raises: `BadModel` where an input has such a name, which its callers
    know it by.
    """
    makers = {name: node for node in graph.node for name in node.output if name}
    used: set[str] = set()
    todo = [output]
    while todo:
        name = todo.pop()
        if name not in used:
            used.add(name)
            todo.extend(_taken(makers[name]) if name in makers else ())
    constants = {tensor.name for tensor in graph.initializer}
    nodes = [_copy(node) for node in graph.node if used.intersection(node.output)]
    held = [_copy(tensor) for tensor in graph.initializer if tensor.name in used]
    inputs = [_copy(value) for value in graph.input if value.name not in constants]
    for field in ("node", "initializer", "input", "output", "value_info"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(held)
    graph.input.extend(inputs)
    if taken := [value.name for value in inputs if reserved(value.name)]:
        raise BadModel(f"input {taken[0]!r} has a name that the export needs: rename it")
    names = {name for node in nodes for name in (*_taken(node), *node.output)} | used
    renamed: dict[str, str] = {}
    for name in sorted(filter(reserved, names)):
        other = f"model/{name}"
        while other in names:
            other += "_"
        renamed[name] = other
    _rename(graph, renamed)
    return renamed.get(output, output)


def _copy(message: T) -> T:
    """A part of a graph that outlives it."""
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node takes, those that its subgraphs name too."""
    yield from node.input
    for graph in subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from inner.output
            yield from _taken(inner)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Renames tensors wherever they are named, in subgraphs too."""
    for tensor in (*graph.initializer, *graph.output, *graph.input):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for inner in subgraphs(node):
            _rename(inner, names)
