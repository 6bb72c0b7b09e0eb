"""What stands between a linear head and an output: squashes, casts, new shapes, choices; and the head behind them.

Decided here: a tail changes neither which class is largest nor which column is whose. A softmax is known by its own
operator and by the small ones that converters write it as. A reshape is let through where it leaves the classes of a
row in one line; a quantisation of the logits, because the numbers before it are the same and finer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from calibrate.errors import BadModel
from calibrate.io.layers import Layer, linear_layer
from calibrate.io.view import View, option

_SQUASHES = {"Softmax", "LogSoftmax", "Sigmoid"}
_RENAMES = {"ZipMap", "Identity"}
_RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_PASSED = {*_SQUASHES, *_RENAMES, *_RESHAPES, "Cast", "ArgMax", "Dropout", "QuantizeLinear", "DequantizeLinear"}
_CHANGES_AXES = {*_RESHAPES, "ZipMap", "ArgMax", "Normalizer"}
_BROADCASTS = {*_RESHAPES, "Expand", "Identity", "Cast", "Max", "StopGradient"}
_LONGEST = 16  # nodes of a tail: longer than any classifier's; a cycle ends here too


@dataclass(frozen=True, eq=False)
class Tail:
    """What lies behind an output: the operators down to the layer, the layer, the pool between a convolution and its
    end, the tensor that the output only renames, and tensors of the shape that the logits have."""

    operators: tuple[str, ...]
    tensor: str
    layer: Layer | None
    pool: onnx.NodeProto | None
    alike: tuple[str, ...] = ()


def tail_behind(view: View, spelled: Mapping[str, tuple[str, str | None]], output: str) -> Tail:
    """The tail of an output. Raises: `BadModel` where it is a sigmoid over several logits."""
    passed: list[tuple[str, onnx.NodeProto]] = []
    tensor, renamed = output, output
    while len(passed) < _LONGEST and (node := view.node(tensor)) is not None:
        if node.output[0] in spelled:
            logits, squash = spelled[node.output[0]]
            passed.append(("ArgMax" if tensor == node.output[0] else squash or "Identity", node))
            tensor = logits
            break
        step = _step(view, node)
        if step is None:
            break
        if step[0] in _RENAMES and all(operator in _RENAMES for operator, _ in passed):
            renamed = step[1]
        passed.append((step[0], node))
        tensor = step[1]
    operators = tuple(operator for operator, _ in passed)
    pool = view.node(tensor)
    if pool is not None and not _is_mean_of_places(view, pool):
        pool = None
    layer = linear_layer(view, tensor if pool is None else pool.input[0], averaged=pool is not None)
    if layer is None or (pool is not None and not layer.channels):
        return Tail(operators, renamed, None, None)
    if "Sigmoid" in operators and layer.columns > 1:
        raise BadModel(f"output {output!r} is a sigmoid over {layer.columns} logits: classes must exclude each other")
    choices = {"Softmax", "LogSoftmax", "ArgMax"}
    ends = layer.columns == 1 and any(node.op_type in choices for _, node in passed)  # of one number, always the same
    mirrored = "Concat" in operators and not ("Sigmoid" in operators and layer.columns == 1)
    if ends or mirrored or not all(_keeps_rows(view, node, layer.columns) for _, node in passed):
        return Tail(operators, renamed, None, None)
    alike = list[str]()
    for operator, node in reversed(passed):
        if operator in _CHANGES_AXES:
            break
        alike.append(node.output[0])
    return Tail(operators, renamed, layer, pool, tuple(alike))


def _step(view: View, node: onnx.NodeProto) -> tuple[str, str] | None:
    """What a node of a tail does, as the operator that would do the same, and the tensor before it."""
    if not node.input or not node.output:
        return None
    if node.op_type == "Normalizer":  # it leaves the scores of a linear classifier as they are
        return ("Normalizer", node.input[0]) if view.maker(node.input[0]) == "LinearClassifier" else None
    if node.op_type in _PASSED:
        return node.op_type, node.input[0]
    return _softmax(view, node) or _log_softmax(view, node) or _sigmoid(view, node) or _both_columns(view, node)


def _softmax(view: View, node: onnx.NodeProto) -> tuple[str, str] | None:
    """`Exp(z - max) / ReduceSum(Exp(z - max))`, or the same as a product with a reciprocal."""
    top = bottom = ""
    if node.op_type == "Div":
        top, bottom = _pair(node)
    elif node.op_type == "Mul":
        for one, other in (_pair(node), _pair(node)[::-1]):
            reciprocal = view.node(other)
            if reciprocal is not None and reciprocal.op_type == "Reciprocal":
                top, bottom = one, _first(reciprocal)
    exp = view.node(top)
    if exp is None or exp.op_type != "Exp" or not _reduces(view, bottom, "ReduceSum", top):
        return None
    return "Softmax", _unshifted(view, _first(exp))


def _log_softmax(view: View, node: onnx.NodeProto) -> tuple[str, str] | None:
    """`z - Log(ReduceSum(Exp(z)))`, or `z - ReduceLogSumExp(z)`."""
    if node.op_type != "Sub":
        return None
    scores, total = _pair(node)
    log = view.node(total)
    if _reduces(view, total, "ReduceLogSumExp", scores):
        return "LogSoftmax", _unshifted(view, scores)
    exp = next((made for made in view.users(scores) if made.op_type == "Exp"), None)
    if (
        log is None
        or log.op_type != "Log"
        or exp is None
        or not _reduces(view, _first(log), "ReduceSum", exp.output[0])
    ):
        return None
    return "LogSoftmax", _unshifted(view, scores)


def _sigmoid(view: View, node: onnx.NodeProto) -> tuple[str, str] | None:
    """`1 / (1 + Exp(-x))`."""
    if node.op_type == "Div" and _is_one(view, _pair(node)[0]):
        below = view.node(_pair(node)[1])
    else:
        below = view.node(_first(node)) if node.op_type == "Reciprocal" else None
    if below is None or below.op_type != "Add":
        return None
    for one, other in (_pair(below), _pair(below)[::-1]):
        exp = view.node(other)
        if _is_one(view, one) and exp is not None and exp.op_type == "Exp":
            negative = view.node(_first(exp))
            if negative is not None and negative.op_type == "Neg":
                return "Sigmoid", _first(negative)
    return None


def _both_columns(view: View, node: onnx.NodeProto) -> tuple[str, str] | None:
    """`Concat(1 - p, p)`: both columns of one probability."""
    if node.op_type != "Concat" or len(node.input) != 2:
        return None
    other = view.node(node.input[0])
    if (
        other is None
        or other.op_type != "Sub"
        or _pair(other)[1] != node.input[1]
        or not _is_one(view, _pair(other)[0])
    ):
        return None
    return "Concat", node.input[1]


def _unshifted(view: View, tensor: str) -> str:
    """z of `z - max(z)`."""
    node = view.node(tensor)
    if node is None or node.op_type != "Sub":
        return tensor
    scores, top = _pair(node)
    return scores if _reduces(view, top, "ReduceMax", scores) else tensor


def _first(node: onnx.NodeProto) -> str:
    """A node's first input, nothing where it has none."""
    return node.input[0] if node.input else ""


def _pair(node: onnx.NodeProto) -> tuple[str, str]:
    """Both inputs of a node, nothing where it has not two."""
    return (node.input[0], node.input[1]) if len(node.input) == 2 else ("", "")


def _reduces(view: View, tensor: str, operator: str, source: str) -> bool:
    """Whether a tensor is a reduction of the source, spread out again."""
    for _ in range(_LONGEST):
        node = view.node(tensor)
        if node is None or not node.input:
            return False
        if node.op_type == operator:
            return bool(node.input[0] == source)
        if node.op_type not in _BROADCASTS:
            return False
        tensor = next((name for name in node.input if view.node(name) is not None), node.input[0])
    return False


def _is_one(view: View, tensor: str) -> bool:
    value = view.constant(tensor)
    return value is not None and value.size == 1 and bool(value.reshape(-1)[0] == 1)


def _is_mean_of_places(view: View, node: onnx.NodeProto) -> bool:
    """Whether a node takes the mean over all axes but those of rows and channels."""
    if node.op_type != "ReduceMean" or not node.input:
        return bool(node.op_type == "GlobalAveragePool" and node.input)
    given = view.integers(node.input[1]) if len(node.input) > 1 else None
    axes = option(node, "axes", []) if given is None else given.tolist()
    shape = view.shape(node.input[0])
    return (
        shape is not None
        and len(shape) > 2
        and sorted(axis % len(shape) for axis in axes) == list(range(2, len(shape)))
    )


def _keeps_rows(view: View, node: onnx.NodeProto, columns: int) -> bool:
    """Whether a node that reshapes leaves the classes of a row in one line."""
    if node.op_type == "Flatten":
        return bool(option(node, "axis", 1) == 1)
    if node.op_type != "Reshape":
        return True
    wanted = view.integers(node.input[1]) if len(node.input) > 1 else None
    if wanted is None:
        shape = view.shape(node.output[0])
        return shape is not None and len(shape) <= 2
    lengths = wanted.tolist()
    named = [length for length in lengths if length > 1]
    return named == ([columns] if columns > 1 else []) or lengths == [0, -1]
