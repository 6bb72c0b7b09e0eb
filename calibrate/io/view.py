"""A graph by the names of its tensors."""

import numpy as np
import onnx
from jaxtyping import Float
from onnx import TensorProto, numpy_helper

from calibrate.errors import BadModel


class View:
    """A graph by tensor name: the node that makes each tensor, and the constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t"):
                self._constants[node.output[0]] = node.attribute[0].t

    def node(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, None for inputs and constants."""
        return None if tensor in self._constants else self._makers.get(tensor)

    def maker(self, tensor: str) -> str:
        """The operator that makes a tensor, for messages."""
        node = self.node(tensor)
        return "an input" if node is None else node.op_type

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """A constant of any type as it is held, None where there is none of that name."""
        return self._constants.get(name)

    def constant(self, tensor: str) -> Float[np.ndarray, "..."] | None:
        """A float constant, None where the tensor is not one."""
        held = self._constants.get(tensor)
        if held is None or held.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            return None
        try:
            return np.asarray(numpy_helper.to_array(held)).astype(np.float32)
        except (ValueError, TypeError) as error:
            raise BadModel(f"constant {tensor!r} cannot be read: {error}") from None
