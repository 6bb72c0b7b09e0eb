"""The linear layers that a head can be: Gemm, MatMul with or without Add, a 1x1 convolution, a quantised product.

Decided here: a layer is what the graph computes in floats. Quantised weights are read as the numbers they stand for; a
product whose features are quantised on the way (DynamicQuantizeLinear) has these quantised features, in floats, so that
features times weight are the logits that the graph itself makes.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from jaxtyping import Float

from calibrate.io.view import View, option

_NO_BIAS = np.zeros(1, dtype=np.float32)
_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
_CASTS = {"Identity", "Cast", "Dropout"}


@dataclass(frozen=True, eq=False)
class Layer:
    """`logits = features @ weight.T + bias` with weight (k, d) and bias (k,), by tensor names.

    `features` are one tensor, or three: quantised numbers, their scale and zero point. `channels`: of a convolution, so
    classes and features lie on axis 1 and the axes behind it have length 1, or are averaged behind the layer.
    """

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, "k"]
    features: tuple[str, ...]
    logits: str
    channels: bool = False

    @property
    def columns(self) -> int:
        """The number of logits."""
        return int(self.weight.shape[0])


def linear_layer(view: View, tensor: str, *, averaged: bool = False) -> Layer | None:
    """The linear layer that makes a tensor, None where none does; `averaged`: a mean over all but axis 1 follows."""
    node = view.node(tensor)
    if node is None:
        return None
    if node.op_type == "Add" and len(node.input) == 2:
        for one, other in ((0, 1), (1, 0)):
            bias = view.constant(node.input[other])
            if bias is not None:
                layer = _product(view, _behind_casts(view, node.input[one]), averaged)
                return None if layer is None else _with_bias(layer, bias, tensor)
        return None
    return _product(view, tensor, averaged)


def _product(view: View, tensor: str, averaged: bool) -> Layer | None:
    """A layer without the Add behind it."""
    node = view.node(tensor)
    if node is None or len(node.input) < 2:
        return None
    if node.op_type == "Gemm":
        return _gemm(view, node)
    if node.op_type == "MatMul":
        return _layer(view.constant(node.input[1]), _NO_BIAS, (node.input[0],), tensor)
    if node.op_type == "Conv":
        return _convolution(view, node, averaged)
    if node.op_type == "Mul":
        return _quantized(view, node)
    return None


def _gemm(view: View, node: onnx.NodeProto) -> Layer | None:
    weight = view.constant(node.input[1])
    if weight is None or option(node, "transA", 0):
        return None
    bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else _NO_BIAS
    if bias is None:
        return None
    weight = weight.T if option(node, "transB", 0) else weight
    weight, bias = weight * np.float32(option(node, "alpha", 1)), bias * np.float32(option(node, "beta", 1))
    return _layer(weight, bias, (node.input[0],), node.output[0])


def _convolution(view: View, node: onnx.NodeProto, averaged: bool) -> Layer | None:
    """A convolution of one point by one, on one point, or with all its points averaged: then it is linear in theirs."""
    weight = view.constant(node.input[1])
    if weight is None or weight.ndim < 3 or weight[0, 0].size != 1 or option(node, "group", 1) != 1:
        return None
    if any(option(node, "pads", [])) or any(step != 1 for step in option(node, "strides", [])):
        return None
    shape = view.shape(node.input[0])
    on_one_point = view.maker(node.input[0]) in _POOLS or (shape is not None and all(n == 1 for n in shape[2:]))
    if not (averaged or on_one_point):
        return None
    bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else _NO_BIAS
    flat = weight.reshape(weight.shape[:2]).T
    layer = _layer(flat, _NO_BIAS, (node.input[0],), node.output[0], channels=True)
    return None if layer is None or bias is None else _with_bias(layer, bias.reshape(-1, *[1] * (weight.ndim - 2)))


def _quantized(view: View, node: onnx.NodeProto) -> Layer | None:
    """`Cast(MatMulInteger(q, W)) * (scale of q * scale of W)`, with q of DynamicQuantizeLinear."""
    for one, other in ((0, 1), (1, 0)):
        product = view.node(_behind_casts(view, node.input[one]))
        scales = view.node(node.input[other])
        if (
            product is None
            or scales is None
            or len(product.input) < 2
            or product.op_type != "MatMulInteger"
            or scales.op_type != "Mul"
        ):
            continue
        quantize = view.node(product.input[0])
        whole = view.integers(product.input[1])
        if quantize is None or quantize.op_type != "DynamicQuantizeLinear" or whole is None or whole.ndim != 2:
            continue
        if len(quantize.output) != 3 or not quantize.input:
            continue
        numbers, scale, zero = quantize.output
        known = [view.constant(name) for name in scales.input if name != scale]
        given = [*product.input, "", ""]
        zeros = view.integers(given[3]) if given[3] else np.zeros(1, np.int64)
        if given[2] != zero or len(known) != 1 or known[0] is None or zeros is None:
            continue
        if any(part.ndim > 1 or part.size not in (1, whole.shape[1]) for part in (zeros, known[0])):
            continue
        weight = (whole.astype(np.float32) - zeros.astype(np.float32)) * known[0]
        return _layer(weight, _NO_BIAS, (numbers, scale, zero), node.output[0])
    return None


def _behind_casts(view: View, tensor: str) -> str:
    for _ in range(4):
        node = view.node(tensor)
        if node is None or node.op_type not in _CASTS or not node.input:
            break
        tensor = node.input[0]
    return tensor


def _layer(
    weight: Float[np.ndarray, "..."] | None,
    bias: Float[np.ndarray, "..."],
    features: tuple[str, ...],
    logits: str,
    *,
    channels: bool = False,
) -> Layer | None:
    """A layer of a weight (d, k)."""
    if weight is None or weight.ndim != 2 or 0 in weight.shape:
        return None
    none = np.zeros(weight.shape[1], dtype=np.float32)
    return _with_bias(Layer(np.ascontiguousarray(weight.T), none, features, logits, channels), bias)


def _with_bias(layer: Layer, bias: Float[np.ndarray, "..."], logits: str | None = None) -> Layer | None:
    """The layer with a bias that is the same for every row; None where what is added is something else."""
    if layer.channels and bias.ndim > 1:  # (k, 1, 1) or (1, k, 1, 1)
        bias = bias.reshape(-1) if bias.size == max(bias.shape) else bias
    if bias.size != 1 and bias.shape != (*[1] * (bias.ndim - 1), layer.columns):
        return None
    added = layer.bias + np.broadcast_to(bias.reshape(-1), (layer.columns,))
    return Layer(layer.weight, added.astype(np.float32), layer.features, logits or layer.logits, layer.channels)
