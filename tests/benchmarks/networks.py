"""Networks to serve: dense layers for rows of a table, and a residual network as large as a ResNet-18 for pictures."""

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def weights(self, *shape: int) -> NDArray[np.float32]:
        """Drawn so that numbers keep their size from layer to layer."""
        drawn = self._rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        return np.asarray(drawn, dtype=np.float32)

    def add(self, kind: str, inputs: list[str], *constants: NDArray[np.float32], **attributes: Any) -> str:
        """A node of that kind, whose output is named."""
        made = f"t{len(self.nodes)}"
        names = [f"{made}_{i}" for i in range(len(constants))]
        self.constants += [numpy_helper.from_array(value, name) for value, name in zip(constants, names, strict=True)]
        self.nodes.append(helper.make_node(kind, [*inputs, *names], [made], **attributes))
        return made

    def model(self, last: str, shape: list[int | str], width: int) -> bytes:
        """The model, from `x` to `z`."""
        self.nodes.append(helper.make_node("Identity", [last], ["z"]))
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "net", [info("x", TensorProto.FLOAT, shape)],
                                  [info("z", TensorProto.FLOAT, ["n", width])], self.constants)  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def mlp(*widths: int) -> bytes:
    """Dense layers."""
    graph, last = _Graph(), "x"
    for i, (above, below) in enumerate(pairwise(widths)):
        last = graph.add("Gemm", [last], graph.weights(below, above), np.zeros(below, np.float32), transB=1)
        if i < len(widths) - 2:
            last = graph.add("Relu", [last])
    return graph.model(last, ["n", widths[0]], widths[-1])


def resnet18(side: int, classes: int = 2) -> bytes:
    """Eleven million weights in eighteen layers, on pictures of 3 colours and `side` points a side."""
    graph = _Graph()

    def conv(last: str, out: int, into: int, kernel: int, stride: int) -> str:
        edge = kernel // 2
        return graph.add(
            "Conv", [last], graph.weights(out, into, kernel, kernel), np.zeros(out, np.float32),
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[edge] * 4,
        )  # fmt: skip

    last = graph.add("Relu", [conv("x", 64, 3, 7, 2)])
    last = graph.add("MaxPool", [last], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    into = 64
    for out in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and out > 64 else 1
            body = graph.add("Relu", [conv(last, out, into, 3, stride)])
            body = conv(body, out, out, 3, 1)
            short = last if into == out and stride == 1 else conv(last, out, into, 1, stride)
            last, into = graph.add("Relu", [graph.add("Add", [body, short])]), out
    last = graph.add("Flatten", [graph.add("GlobalAveragePool", [last])])
    last = graph.add("Gemm", [last], graph.weights(classes, 512), np.zeros(classes, np.float32), transB=1)
    return graph.model(last, ["n", 3, side, side], classes)
