"""A graph by the names of its tensors.

Decided here: a constant is what exporters write one as, an initializer, a Constant node, or one of these behind a few
operators that move, cast or dequantise numbers and never make more of them. It is computed when it is asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from calibrate.errors import BadModel

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32)
_DEEPEST = 8  # operators between a constant and its use; a cycle ends here too


class View:
    """A graph by tensor name: the node that makes each tensor, the constants, and the shapes so far as told."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        graph = model.graph
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._lists: dict[str, np.ndarray] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and node.attribute:
                held = node.attribute[0]
                if held.HasField("t"):
                    self._constants[node.output[0]] = held.t
                elif held.name in ("value_int", "value_ints", "value_float", "value_floats"):
                    value = helper.get_attribute_value(held)
                    self._lists[node.output[0]] = np.array(value, np.float32 if "float" in held.name else np.int64)
        self._shapes: dict[str, tuple[int | None, ...]] | None = None

    def node(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, None for inputs and constants."""
        return None if tensor in self._constants or tensor in self._lists else self._makers.get(tensor)

    def users(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor."""
        return [node for node in self._model.graph.node if tensor in node.input]

    def maker(self, tensor: str) -> str:
        """The operator that makes a tensor, for messages."""
        node = self.node(tensor)
        return "an input" if node is None else node.op_type

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """A constant of any type as it is held, None where there is none of that name."""
        return self._constants.get(name)

    def constant(self, tensor: str) -> Float[np.ndarray, "..."] | None:
        """A constant of floats, or of integers that are dequantised, as float32; None where the tensor is not one."""
        held = self._constants.get(tensor)
        if held is not None and held.data_type not in _FLOATS:
            return None
        value = self._value(tensor)
        return None if value is None or value.dtype.kind in "iub" else value.astype(np.float32)

    def integers(self, tensor: str) -> np.ndarray | None:
        """A constant of integers, None where the tensor is not one."""
        value = self._value(tensor)
        return None if value is None or value.dtype.kind not in "iu" else value

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """The shape of a tensor, None for each length that is free; None where not even the axes are known."""
        if self._shapes is None:
            try:
                inferred = onnx.shape_inference.infer_shapes(self._model).graph
            except Exception:  # whatever it stumbles on, the runtime has the last word
                inferred = self._model.graph
            self._shapes = {
                value.name: tuple(
                    length.dim_value if length.HasField("dim_value") else None
                    for length in value.type.tensor_type.shape.dim
                )
                for value in (*inferred.value_info, *inferred.input, *inferred.output)
                if value.type.tensor_type.HasField("shape")
            }
        return self._shapes.get(tensor)

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Appends a node with one output to the graph and gives the output's name, `name` or the next that is free."""
        graph = self._model.graph
        taken = {value.name for value in (*graph.input, *graph.initializer)} | self._makers.keys()
        while name in taken:
            name += "_"
        made = helper.make_node(operator, list(inputs), [name], **attributes)
        graph.node.append(made)
        self._makers[name] = made
        return name

    def _value(self, tensor: str, depth: int = 0) -> np.ndarray | None:
        if tensor in self._lists:
            return self._lists[tensor]
        held = self._constants.get(tensor)
        if held is not None:
            if held.data_type not in (*_FLOATS, *_INTEGERS, TensorProto.INT64):
                return None
            try:
                return np.asarray(numpy_helper.to_array(held))
            except (ValueError, TypeError) as error:
                raise BadModel(f"constant {tensor!r} cannot be read: {error}") from None
        node = self._makers.get(tensor)
        if node is None or depth == _DEEPEST or node.op_type not in _FOLDED or not node.input:
            return None
        parts = [self._value(name, depth + 1) if name else None for name in node.input]
        if parts[0] is None or any(part is None and name for part, name in zip(parts, node.input, strict=True)):
            return None
        try:
            return np.asarray(_FOLDED[node.op_type](node, *parts))
        except (ValueError, TypeError, IndexError, KeyError):
            return None  # malformed: the runtime says how


def option(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    """A number of a node's attributes, or a list of integers; `otherwise` where there is none, or of another kind."""
    for attribute in node.attribute:
        if attribute.name == name:
            wanted = (
                {AttributeProto.INTS} if isinstance(otherwise, list) else {AttributeProto.INT, AttributeProto.FLOAT}
            )
            return helper.get_attribute_value(attribute) if attribute.type in wanted else otherwise
    return otherwise


def _transpose(node: onnx.NodeProto, value: np.ndarray) -> np.ndarray:
    return value.transpose(option(node, "perm", []) or None)


def _reshape(_: onnx.NodeProto, value: np.ndarray, shape: np.ndarray) -> np.ndarray:
    wanted = [value.shape[i] if length == 0 else length for i, length in enumerate(shape.tolist())]
    return value.reshape(wanted)


def _squeeze(node: onnx.NodeProto, value: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    chosen = option(node, "axes", []) if axes is None else axes.tolist()
    return value.squeeze(tuple(chosen) or None)


def _cast(node: onnx.NodeProto, value: np.ndarray) -> np.ndarray:
    return value.astype(helper.tensor_dtype_to_np_dtype(option(node, "to", TensorProto.FLOAT)))


def _dequantize(
    node: onnx.NodeProto, value: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
    """`(value - zero) * scale`, one scale for all, for each index of an axis, or for each block along it."""
    axis, block = option(node, "axis", 1), option(node, "block_size", 0)
    parts = [scale.astype(np.float32), np.zeros(1) if zero is None else zero.astype(np.float32)]
    if block:
        block = min(block, max(value.shape))
        parts = [np.repeat(part, block, axis=axis) if part.ndim == value.ndim else part for part in parts]
        index = tuple(slice(length) for length in value.shape)
        parts = [part[index] if part.ndim == value.ndim else part for part in parts]
    else:
        along = [1] * value.ndim
        if value.ndim:
            along[axis if value.ndim > 1 else 0] = -1
        if any(part.size not in (1, value.shape[axis if value.ndim > 1 else 0]) for part in parts):
            raise ValueError("a scale for each of something else")
        parts = [part.reshape(along) if part.size > 1 else part.reshape(-1) for part in parts]
    return np.asarray((value.astype(np.float32) - parts[1]) * parts[0], dtype=np.float32).reshape(value.shape)


_FOLDED: dict[str, Callable[..., np.ndarray]] = {
    "Identity": lambda node, value: value,  # noqa: ARG005
    "Dropout": lambda node, value, *_: value,  # noqa: ARG005
    "Squeeze": _squeeze,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "DequantizeLinear": _dequantize,
}
