"""Refuses graphs that would never come to an end in the runtime, or not in this life.

Decided here: only what a runtime cannot be told to stop. It inlines functions while it loads a model, so functions that
call themselves, or double at every level, are counted first, and with them all nodes. It walks a tree inside one
operator, so a tree must be a tree. A loop is no matter: a run that takes too long is ended between two operators.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import onnx

from calibrate.errors import BadModel

_MOST_NODES = 50_000  # written out; the runtime takes 12 s to load 100,000, and the square of that


def refuse_endless(model: onnx.ModelProto) -> None:
    """Raises `BadModel` for functions that cannot be written out and for trees that lead back into themselves."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    for key in functions:
        _measure(key, functions, sizes)
    if sum(sizes.get((node.domain, node.op_type), 1) for node in _nodes(model.graph.node)) > _MOST_NODES:
        raise BadModel(f"the model has more than {_MOST_NODES} nodes, its functions written out")
    for node in _nodes([*model.graph.node, *(node for function in model.functions for node in function.node)]):
        if node.op_type.startswith("TreeEnsemble"):
            _check_trees(node)


def _measure(
    key: tuple[str, str], functions: dict[tuple[str, str], onnx.FunctionProto], sizes: dict[tuple[str, str], int]
) -> None:
    """Writes down how many nodes a function becomes, and those that it calls, each after all that it calls itself."""
    path = [(key, {(node.domain, node.op_type) for node in _nodes(functions[key].node)} & functions.keys())]
    while path:
        here, calls = path[-1]
        if todo := calls - sizes.keys():
            following = todo.pop()
            if following in {name for name, _ in path}:
                raise BadModel(f"function {following[1]!r} of the model calls itself")
            called = {(node.domain, node.op_type) for node in _nodes(functions[following].node)}
            path.append((following, called & functions.keys()))
            continue
        sizes[here] = sum(sizes.get((node.domain, node.op_type), 1) for node in _nodes(functions[here].node))
        if sizes[here] > _MOST_NODES:
            raise BadModel(f"function {here[1]!r} of the model writes out to more than {_MOST_NODES} nodes")
        path.pop()


def _nodes(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes and those in their subgraphs."""
    found = list(nodes)
    for node in found:  # grows as it goes
        for attribute in node.attribute:
            found += attribute.g.node
            for graph in attribute.graphs:
                found += graph.node
    return found


def _check_trees(node: onnx.NodeProto) -> None:
    fields = {attribute.name: attribute for attribute in node.attribute}
    wanted = ("nodes_treeids", "nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids")
    if not all(name in fields for name in wanted):
        return  # the newer operator, or one that the runtime refuses
    trees, names, *branches = (np.array(fields[name].ints, dtype=np.int64) for name in wanted)
    inner = np.array([mode != b"LEAF" for mode in fields["nodes_modes"].strings] if "nodes_modes" in fields else [])
    if len({len(column) for column in (trees, names, *branches, inner)}) != 1:
        raise BadModel(f"the trees of node {node.name!r} are malformed: their columns differ in length")
    edges = [np.stack([trees[inner], names[inner], branch[inner]], axis=1) for branch in branches]
    _, first = np.unique(trees, return_index=True)
    arrived = np.concatenate([np.concatenate(edges)[:, [0, 2]], np.stack([trees[first], names[first]], axis=1)])
    order = np.lexsort(arrived.T)
    if not (arrived[order][1:] == arrived[order][:-1]).all(axis=1).any():
        return  # no place is come to twice, as in every tree that a library grew; so no walk comes back
    if not _comes_to_an_end(np.concatenate(edges).tolist()):
        raise BadModel(f"a tree of node {node.name!r} leads back into itself")


def _comes_to_an_end(edges: list[list[int]]) -> bool:
    """Whether every walk along the edges (tree, from, to) ends: places that nothing leads to are taken out in turn."""
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    arrivals: Counter[tuple[int, int]] = Counter()
    for tree, here, there in edges:
        following.setdefault((tree, here), []).append((tree, there))
        arrivals[tree, there] += 1
    free = [place for place in following if not arrivals[place]]
    left = sum(arrivals.values())
    while free:
        for place in following.get(free.pop(), ()):
            arrivals[place] -= 1
            left -= 1
            if not arrivals[place]:
                free.append(place)
    return left == 0
