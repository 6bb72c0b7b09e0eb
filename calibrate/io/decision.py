"""Operating points as nodes of an ONNX graph: a table, a row's index into it, and the arithmetic of a decision.

Decided here: the added nodes compute in DOUBLE and in the order of `OperatingPoint`, so two classes get exactly its
margin, `(s1 z1 - s0 z0) + (b1 - b0)`. A graph cannot raise an error for one row of a batch: where `decide` would, or
where an index is in no row of the table, the label is -1 and the numbers are NaN. Every operator is of operator set 11.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibrate.logits import SMALLEST_PROBABILITY
from calibrate.operating_point import OperatingPoint

INDEX = "operating_point"
OUTPUTS = ("label", "probabilities", "adjusted", "margin", "logits")
PREFIX = "setpoint/"  # of the names of all that is added


class _Nodes:
    """Nodes and constants that are being added to a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._made = 0

    def __call__(self, operator: str, *inputs: Any, to: str = "", **attributes: Any) -> str:
        """A node's first output; an input is a tensor's name or a constant."""
        self._made += 1
        name = to or f"{PREFIX}{operator.lower()}_{self._made}"
        names = [part if isinstance(part, str) else self._constant(part) for part in inputs]
        outputs = [name, f"{name}_at"] if operator == "TopK" else [name]
        self._graph.node.append(helper.make_node(operator, names, outputs, **attributes))
        return name

    def cast(self, tensor: str, kind: int) -> str:
        """A tensor in another type."""
        made = self("Cast", tensor)
        self._graph.node[-1].attribute.append(helper.make_attribute("to", kind))
        return made

    def _constant(self, value: Any) -> str:
        self._made += 1
        name = f"{PREFIX}constant_{self._made}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def add_decision(
    graph: onnx.GraphProto,
    tensor: str,
    columns: int,
    *,
    of_probabilities: bool,
    points: Sequence[OperatingPoint],
    default: int,
) -> None:
    """Adds the input `operating_point` and the outputs of a decision on a tensor of logits or probabilities.

    `columns` is the tensor's width, 1 for one logit of two classes; `default` the index that counts where none is sent.
    """
    k = len(points[0].classes)
    node = _Nodes(graph)
    graph.input.append(helper.make_tensor_value_info(INDEX, TensorProto.INT64, ["points"]))
    graph.initializer.append(numpy_helper.from_array(np.array([default], dtype=np.int64), INDEX))
    logits = _logits(node, tensor, columns, of_probabilities)

    # A row past the last of the table stands for every index that is in none: NaN, and so is all that comes of it.
    known = node("And", node("Not", node("Less", INDEX, np.int64(0))), node("Less", INDEX, np.int64(len(points))))
    row = node("Where", known, INDEX, np.int64(len(points)))
    scale = node("Gather", _table([point.scale for point in points]), row, axis=0)
    bias = node("Gather", _table([point.bias for point in points]), row, axis=0)
    scaled = node("Mul", logits, scale)
    scores = node("Add", scaled, bias)
    q = node("Softmax", scores, axis=1)
    # 0 where every score of a row is finite, else NaN, as 0 times infinity is.
    doubt = node("MatMul", node("Mul", scores, 0.0), np.ones((k, 1)))
    worth = _worth(node, points, row, scores, q)
    if k == 2:
        one, other = (node("Gather", scaled, np.int64(i), axis=1) for i in (0, 1))
        bias_margin = node("Gather", _table([np.asarray(point.bias[1] - point.bias[0]) for point in points]), row)
        margin = node("Add", node("Sub", other, one), bias_margin)
        if worth != scores:
            one, other = (node("Gather", worth, np.int64(i), axis=1) for i in (0, 1))
            affine = node("Gather", np.array([*(point.is_affine for point in points), True]), row)
            margin = node("Where", affine, margin, node("Sub", other, one))
        decided = node.cast(node("Greater", margin, 0.0), TensorProto.INT64)
    else:
        top = node("TopK", worth, np.array([2]), axis=1)
        one, other = (node("Gather", top, np.int64(i), axis=1) for i in (0, 1))
        margin = node("Sub", one, other)
        decided = node("ArgMax", worth, axis=1, keepdims=0)
    margin = node("Add", margin, node("Reshape", doubt, np.array([-1])), to="margin")
    node("Where", node("Less", node("Abs", margin), np.inf), decided, np.int64(-1), to="label")
    node("Softmax", logits, axis=1, to="probabilities")
    node("Add", q, doubt, to="adjusted")
    wide = {"probabilities", "adjusted", "logits"}
    graph.output.extend(
        helper.make_tensor_value_info(
            name,
            TensorProto.INT64 if name == "label" else TensorProto.DOUBLE,
            ["rows", k] if name in wide else ["rows"],
        )
        for name in OUTPUTS
    )


def _logits(node: _Nodes, tensor: str, columns: int, of_probabilities: bool) -> str:
    """`logits` in DOUBLE with a column for each class, as `to_columns` and `logits_from_probabilities` make them."""
    rows = node("Reshape", node.cast(tensor, TensorProto.DOUBLE), np.array([-1, columns]))
    if not of_probabilities:
        spread = ("Mul", rows, np.array([[0.0, 1.0]])) if columns == 1 else ("Identity", rows)
        return node(*spread, to="logits")
    if columns == 1:
        rows = node("Add", node("Mul", rows, np.array([[-1.0, 1.0]])), np.array([[1.0, 0.0]]))
    held = node("Log", node("Max", rows, SMALLEST_PROBABILITY))
    return node("Add", held, node("Mul", rows, 0.0), to="logits")  # a NaN stays one, whatever Max makes of it


def _worth(node: _Nodes, points: Sequence[OperatingPoint], row: str, scores: str, q: str) -> str:
    """What the rule of each row's point takes the largest of: scores, weighted probabilities, or costs with a minus."""
    worth = scores
    weights = [(point.weight, point.offset) for point in points]
    if any(weight is not None for weight, _ in weights):
        k = len(points[0].classes)
        weight = _table([np.ones(k) if one is None else one for one, _ in weights])
        offset = _table([np.zeros(k) if one is None else one for _, one in weights])
        weighted = node("Add", node("Mul", node("Gather", weight, row, axis=0), q), node("Gather", offset, row, axis=0))
        weighs = np.array([[weight is not None] for weight, _ in weights] + [[False]])
        worth = node("Where", node("Gather", weighs, row, axis=0), weighted, worth)
    line = node("Reshape", row, np.array([-1, 1]))
    for i, point in enumerate(points):
        if point.cost is not None:
            expected = node("MatMul", q, np.ascontiguousarray(point.cost.T))
            worth = node("Where", node("Equal", line, np.int64(i)), node("Neg", expected), worth)
    return worth


def _table(rows: Sequence[np.ndarray]) -> np.ndarray:
    """A row for each point, and one of NaN."""
    return np.stack([*(np.asarray(row, dtype=np.float64) for row in rows), np.full(np.shape(rows[0]), np.nan)])
