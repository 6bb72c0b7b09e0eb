"""Models whose answers depend on chance or on the other rows of a batch, and one that is quantised and does neither."""

import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from tests.models import HIDDEN, WIDTH, body, build, network, weights

X = (np.random.default_rng(7).normal(size=(700, WIDTH)) * 2).astype(np.float32)


class _Rows(CalibrationDataReader):  # type: ignore[misc] # the runtime has no types
    """The rows that a static quantisation reads its scales from."""

    def __init__(self) -> None:
        self._left = [{"x": X[i : i + 50]} for i in range(0, 700, 50)]

    def get_next(self) -> Any:
        """The next rows, None at the end."""
        return self._left.pop() if self._left else None


@cache
def quantised(how: str, k: int = 3) -> bytes:
    """The network of `tests.models`, quantised by ONNX Runtime: "dynamic" or "static"."""
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder, "m.onnx"), Path(folder, "q.onnx")
        plain.write_bytes(network(k, softmax=False))
        if how == "dynamic":
            quantize_dynamic(plain, out)
        else:
            quantize_static(plain, out, _Rows(), quant_format=QuantFormat.QDQ)
        return out.read_bytes()


def with_node(nodes: list[NodeProto], constants: dict[str, Any], outputs: tuple[str, ...] = ("logits",)) -> bytes:
    """The network with nodes that make `f2` of its features, before its head."""
    head = helper.make_node("Gemm", ["f2", "w2", "b2"], ["logits"], transB=1)
    return build([*body(), *nodes, head], {**weights(2), **constants}, outputs)


def dropout(training: bool = True) -> bytes:
    """Dropout, left on or not; the mask is used, so no runtime can take it away."""
    node = helper.make_node
    nodes = [node("Dropout", ["features", "half", "training"], ["f1", "mask"], name="drop"),
             node("Cast", ["mask"], ["m"], to=1), node("Mul", ["f1", "m"], ["f2"])]  # fmt: skip
    return with_node(nodes, {"half": np.array(0.5, np.float32), "training": np.array(training)})


def noise() -> bytes:
    """Normal noise on the features."""
    node = helper.make_node
    return with_node([node("RandomNormalLike", ["features"], ["n"], name="noise"), node("Add", ["features", "n"],
                     ["f2"])], {})  # fmt: skip


def normalised(training: bool = True) -> bytes:
    """Batch normalisation, in training mode or not."""
    ones = {name: np.ones(HIDDEN, np.float32) for name in ("scale", "shift", "mean", "variance")}
    made = ["f2", "mean_out", "variance_out"] if training else ["f2"]
    inputs = ["features", "scale", "shift", "mean", "variance"]
    node = helper.make_node("BatchNormalization", inputs, made, name="norm", training_mode=int(training))
    return with_node([node], ones)


def centred() -> bytes:
    """The features less the mean of the batch, as an exporter writes batch statistics with plain operators."""
    node = helper.make_node
    nodes = [node("ReduceMean", ["features"], ["centre"], axes=[0], keepdims=1),
             node("Sub", ["features", "centre"], ["f2"])]  # fmt: skip
    return with_node(nodes, {})


def alone(data: bytes, output: str, x: Any = X) -> Any:
    """What ONNX Runtime itself puts out, one row at a time."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(data, options)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run([output], {name: x[i : i + 1]})[0] for i in range(len(x))])


def together(data: bytes, output: str, x: Any = X) -> Any:
    """What ONNX Runtime itself puts out for all rows at once."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(data, options)
    return session.run([output], {session.get_inputs()[0].name: x})[0]
