"""Heads as exporters and converters write them: each is found, and is what the graph computes."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from calibrate.errors import BadModel, InputError, NoHead
from calibrate.io.graph import read_model
from calibrate.logits import softmax, to_columns
from tests.models import HIDDEN, WIDTH, body, build, exported, network, weights

node = helper.make_node
X = np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)
LINES = np.array([1])


def run(data: bytes, names: list[str]) -> list[Any]:
    """What ONNX Runtime computes."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(names or None, {session.get_inputs()[0].name: X}))


def made(nodes: list[onnx.NodeProto], output: str, k: int = 3, *, transposed: bool = True, **more: Any) -> bytes:
    """The body with these nodes behind it; `w2` is (d, k) where it is transposed."""
    constants: dict[str, Any] = {**weights(k), "axis": LINES, "one": np.ones(1, np.float32)} | more
    if transposed:
        constants["w2"] = np.ascontiguousarray(constants["w2"].T)
    used = {name for each in (*body(), *nodes) for name in each.input}
    return build([*body(), *nodes], {name: value for name, value in constants.items() if name in used}, [output])


LINEAR = [node("MatMul", ["features", "w2"], ["product"]), node("Add", ["product", "b2"], ["z"])]
SHIFT = [node("ReduceMax", ["z"], ["top"], axes=[1], keepdims=1), node("Sub", ["z", "top"], ["s"])]
EXPS = [node("Exp", ["s"], ["e"]), node("ReduceSum", ["e", "axis"], ["total"], keepdims=1)]


def quantised(name: str) -> list[onnx.NodeProto]:
    """The weight from eight bits, a scale for each class."""
    return [node("DequantizeLinear", ["q", "qs", "qz"], [name], axis=1)]


def eight_bits(weight: np.ndarray) -> dict[str, Any]:
    """A weight (d, k) in eight bits."""
    scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
    return {"q": np.round(weight / scale).astype(np.int8), "qs": scale, "qz": np.zeros(len(scale), np.int8)}


def half(k: int) -> bytes:
    """The last layer in float16, and the softmax in float32 again."""
    constants = weights(k)
    held: dict[str, Any] = {"w2": constants["w2"].T.astype(np.float16), "b2": constants["b2"].astype(np.float16)}
    nodes = [node("Cast", ["features"], ["f16"], to=TensorProto.FLOAT16), node("MatMul", ["f16", "w2"], ["product"]),
             node("Add", ["product", "b2"], ["z"]), node("Cast", ["z"], ["z32"], to=TensorProto.FLOAT),
             node("Softmax", ["z32"], ["p"], axis=-1)]  # fmt: skip
    return made(nodes, "p", k, transposed=False, **held)


def dynamically_quantised(k: int) -> bytes:
    """What ONNX Runtime's own tool makes of the network."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    buffer = io.BytesIO()
    quantize_dynamic(onnx.load_model_from_string(network(k)), buffer, weight_type=QuantType.QInt8)
    return buffer.getvalue()


def convolution(*, pool_first: bool, reduce: bool = False) -> bytes:
    """A convolution of one point as the last layer of an image model, the pool before or behind it."""
    constants = weights(3)
    conv: dict[str, Any] = {"cw": constants["w2"][:, :, None, None], "cb": constants["b2"],
            "wide": np.array([1, 1, 2, 3])}  # fmt: skip
    nodes = [node("Reshape", ["features", "to4"], ["point"]), node("Expand", ["point", "wide"], ["flat"]),
             node("Mul", ["flat", "ramp"], ["image"])]  # fmt: skip
    ramp = np.linspace(0.5, 1.5, 6, dtype=np.float32).reshape(1, 1, 2, 3)

    def pool(one: str, other: str) -> onnx.NodeProto:
        if reduce:
            return node("ReduceMean", [one], [other], axes=[-2, -1], keepdims=0)
        return node("GlobalAveragePool", [one], [other])

    last = [pool("image", "pooled"), node("Conv", ["pooled", "cw", "cb"], ["c"])] if pool_first else [
        node("Conv", ["image", "cw", "cb"], ["c0"]), pool("c0", "c")]  # fmt: skip
    behind = [] if reduce else [node("Flatten", ["c"], ["line"])]
    end = node("Softmax", ["c" if reduce else "line"], ["p"], axis=1)
    return made([*nodes, *last, *behind, end], "p", **conv, to4=np.array([0, HIDDEN, 1, 1]), ramp=ramp)


def sigmoid(nodes: list[onnx.NodeProto], output: str) -> bytes:
    """One logit and these nodes behind it."""
    return made([*LINEAR, *nodes], output, 1)


SPLIT_SIGMOID = [node("Neg", ["z"], ["m"]), node("Exp", ["m"], ["e"]), node("Add", ["e", "one"], ["d"])]
BOTH = [node("Sub", ["one", "p"], ["n"]), node("Concat", ["n", "p"], ["both"], axis=1)]

FOUND: dict[str, Callable[[], bytes]] = {
    "weight behind Transpose": lambda: made([node("Transpose", ["w2"], ["wt"]),
        node("MatMul", ["features", "wt"], ["product"]), LINEAR[1]], "z", transposed=False),
    "weight behind Identity, Cast and Reshape": lambda: made([node("Identity", ["w2"], ["i"]),
        node("Cast", ["i"], ["w32"], to=TensorProto.FLOAT), node("Reshape", ["w32", "to"], ["w"]),
        node("MatMul", ["features", "w"], ["product"]), LINEAR[1]], "z", w2=weights(3)["w2"].astype(np.float64),
        to=np.array([HIDDEN, -1])),
    "bias in a list of a Constant": lambda: made([node("Constant", [], ["b"], value_floats=[0.1, 0.2, 0.3]), LINEAR[0],
        node("Add", ["b", "product"], ["z"])], "z"),
    "gemm without bias and Add": lambda: made([node("Gemm", ["features", "w2"], ["product"]), LINEAR[1]], "z"),
    "weight in eight bits": lambda: made([*quantised("w"), node("Gemm", ["features", "w", "b2"], ["z"]),
        node("Softmax", ["z"], ["p"])], "p", **eight_bits(weights(3)["w2"].T)),
    "logits quantised behind the head": lambda: made([*LINEAR, node("QuantizeLinear", ["z", "s8", "z8"], ["zq"]),
        node("DequantizeLinear", ["zq", "s8", "z8"], ["zf"]), node("Softmax", ["zf"], ["p"])], "p",
        s8=np.float32(0.06), z8=np.int8(0)),
    "dynamically quantised": lambda: dynamically_quantised(3),
    "float16": lambda: half(3),
    "float16, two classes": lambda: half(2),
    "softmax in small operators": lambda: made([*LINEAR, *SHIFT, *EXPS, node("Div", ["e", "total"], ["p"])], "p"),
    "softmax with a reciprocal": lambda: made([*LINEAR, node("Exp", ["z"], ["e"]), EXPS[1],
        node("Reciprocal", ["total"], ["r"]), node("Mul", ["r", "e"], ["p"])], "p"),
    "log-softmax in small operators": lambda: made([*LINEAR, *SHIFT, *EXPS, node("Log", ["total"], ["l"]),
        node("Sub", ["s", "l"], ["p"])], "p"),
    "log-softmax with a reduction": lambda: made([*LINEAR, node("ReduceLogSumExp", ["z"], ["l"], axes=[1]),
        node("Sub", ["z", "l"], ["p"])], "p"),
    "sigmoid": lambda: sigmoid([node("Sigmoid", ["z"], ["p"])], "p"),
    "sigmoid, squeezed": lambda: sigmoid([node("Sigmoid", ["z"], ["p"]), node("Squeeze", ["p", "axis"], ["q"])], "q"),
    "sigmoid, reshaped": lambda: made([*LINEAR, node("Reshape", ["z", "to"], ["y"]), node("Sigmoid", ["y"], ["p"])],
        "p", 1, to=np.array([-1])),
    "sigmoid in small operators": lambda: sigmoid([*SPLIT_SIGMOID, node("Div", ["one", "d"], ["p"])], "p"),
    "sigmoid with a reciprocal": lambda: sigmoid([*SPLIT_SIGMOID, node("Reciprocal", ["d"], ["p"])], "p"),
    "both columns of a sigmoid": lambda: sigmoid([node("Sigmoid", ["z"], ["p"]), *BOTH], "both"),
    "a layer of three axes of length 1": lambda: made([node("Unsqueeze", ["features", "axis"], ["f3"]),
        node("MatMul", ["f3", "w2"], ["product"]), LINEAR[1], node("Squeeze", ["z", "axis"], ["y"])], "y"),
    "convolution behind the pool": lambda: convolution(pool_first=True),
    "convolution before the pool": lambda: convolution(pool_first=False),
    "convolution before a mean": lambda: convolution(pool_first=False, reduce=True),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_a_head_is_found_and_is_what_the_graph_computes(name: str) -> None:
    """Features times weight plus bias are the logits, one line a row; their squash is what the model puts out."""
    data = FOUND[name]()
    model = read_model(data)
    assert model.head is not None
    logits, features = run(model.data, [model.head.logits, model.head.features])
    assert features.shape == (5, HIDDEN)
    assert logits.shape == (5, model.columns)
    # Half the digits, or eight bits: the runtime then also rounds the features of a layer to eight bits, to be quick.
    loose = 1e-2 if "float16" in name else 3e-2 if "eight bits" in name else 1e-4
    columns = to_columns(logits)
    assert np.allclose(features @ model.head.weight.T + model.head.bias, columns, atol=loose)
    before = run(data, [])[0].reshape(5, -1)
    p = softmax(columns)
    wanted = {"logits": columns[:, -before.shape[1] :], "softmax": p[:, -before.shape[1] :], "log": np.log(p)}
    assert any(w.shape == before.shape and np.allclose(w, before, atol=2e-2) for w in wanted.values())


@pytest.mark.parametrize(
    "name", ["dynamically quantised", "weight in eight bits", "convolution before the pool", "sigmoid"]
)
def test_a_served_graph_has_the_same_head(name: str) -> None:
    """Read once more, by the name of its logits, as a server does that is asked for features."""
    model = read_model(FOUND[name]())
    again = read_model(model.data, output=model.output)
    assert model.head is not None
    assert again.head is not None
    assert np.array_equal(again.head.weight, model.head.weight)
    assert np.array_equal(again.head.bias, model.head.bias)


def test_a_neural_network_of_scikit_learn() -> None:
    """One logit, both columns of its sigmoid, and the labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        data, fitted = exported(MLPClassifier((HIDDEN,), max_iter=20, random_state=0))
    model = read_model(data)
    assert model.head is not None
    (logits,) = run(model.data, [model.head.logits])
    assert np.allclose(softmax(to_columns(logits)), fitted.predict_proba(X), atol=1e-5)


STEPS = made([node("Reshape", ["features", "to"], ["steps"]), node("MatMul", ["steps", "small"], ["z"])], "z",
             to=np.array([0, 2, 3]), small=np.ones((3, 4), np.float32))  # fmt: skip


def test_time_steps_are_refused_with_the_way_out() -> None:
    """Two steps a row: nobody said which one decides; also where the output is named by hand."""
    for named in ({}, {"output": "z", "output_kind": "logits"}):
        with pytest.raises(
            BadModel, match=r"3 axes, \(\?, 2, 4\), wanted one line of logits .* last step or their mean"
        ):
            read_model(STEPS, **named)


NONE: dict[str, bytes] = {
    "a reshape that splits the classes": made([*LINEAR, node("Reshape", ["z", "to"], ["y"]),
        node("Softmax", ["y"], ["p"])], "p", 6, to=np.array([0, 2, 3])),
    "what is added differs by row": made([LINEAR[0], node("Add", ["product", "b"], ["z"])], "z",
        b=np.ones((5, 1), np.float32)),
    "an activation behind the layer": made([*LINEAR, node("Relu", ["z"], ["p"])], "p"),
    "a softmax of something else": made([*LINEAR, node("Exp", ["z"], ["e"]),
        node("ReduceSum", ["z", "axis"], ["total"]), node("Div", ["e", "total"], ["p"])], "p"),
    "columns the wrong way round": made([*LINEAR, node("Sigmoid", ["z"], ["p"]), BOTH[0],
        node("Concat", ["p", "n"], ["both"], axis=1)], "both", 1),
    "a weight that is no constant": made([node("Transpose", ["features"], ["t"]),
        node("MatMul", ["features", "t"], ["z"])], "z"),
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_head_is_not_taken_for_one(name: str) -> None:
    """The error shows the last nodes and how to name an output."""
    with pytest.raises(NoHead, match=r"name an output .* last nodes, backwards: \w+ -> .* output_kind='probabilities'"):
        read_model(NONE[name])


def test_scores_without_a_head_can_always_be_named() -> None:
    """An output or an inner tensor; an axis of length 1 is taken away."""
    shown = NONE["an activation behind the layer"]
    assert (read_model(shown, output="p", output_kind="logits").columns) == 3
    deep = made([*LINEAR, node("Relu", ["z"], ["p"]), node("Unsqueeze", ["p", "axis"], ["q"])], "q")
    model = read_model(deep, output="q", output_kind="logits")
    assert run(model.data, [model.output])[0].shape == (5, 3)


def test_a_model_that_is_handed_its_state_is_refused_with_the_way_out() -> None:
    """It takes no rows that stand by themselves."""
    model = onnx.load_model_from_string(network(2))
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "rows", 8]))
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    with pytest.raises(BadModel, match=r"not so 'state' \(2, \?, 8\) and 'rate' \(\): .* feature cache as logits"):
        read_model(model.SerializeToString())


def test_a_free_length_may_be_minus_one() -> None:
    """As Paddle writes it."""
    model = onnx.load_model_from_string(network(2))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert read_model(model.SerializeToString()).inputs[0].shape == (None, WIDTH)


WHOLE = [FOUND[name]() for name in ("dynamically quantised", "weight in eight bits", "convolution before a mean",
         "log-softmax in small operators", "sigmoid with a reciprocal", "both columns of a sigmoid")]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_head_is_an_input_error_or_still_a_model(whole: bytes, changes: list[tuple[int, int]]) -> None:
    """Any few bytes changed: never another kind of exception."""
    damaged = bytearray(whole)
    for at, change in changes:
        damaged[at % len(damaged)] ^= change
    try:
        read_model(bytes(damaged))
    except InputError:
        return


@pytest.mark.parametrize("name", FOUND)
def test_nodes_without_their_inputs_are_no_head(name: str) -> None:
    """Each node in turn with fewer inputs than it needs."""
    whole = onnx.load_model_from_string(FOUND[name]())
    for i in range(len(whole.graph.node)):
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        del model.graph.node[i].input[:1]
        try:
            read_model(model.SerializeToString())
        except InputError:
            continue


def test_blocks_of_quantised_weights() -> None:
    """A scale for each block along an axis, as the newer operator sets have it."""
    weight = weights(3)["w2"].T
    q = np.round(weight * 50).astype(np.int8)
    scale = np.full((2, 3), 0.02, np.float32)
    scale[1] *= 2
    held = numpy_helper.from_array(q, "q")
    graph = helper.make_graph(
        [node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=3), node("MatMul", ["x", "w"], ["z"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", HIDDEN])], [onnx.ValueInfoProto(name="z")],
        [held, numpy_helper.from_array(scale, "s")],
    )  # fmt: skip
    model = read_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
    assert model.head is not None
    assert np.allclose(model.head.weight.T, q * np.repeat(scale, 3, axis=0))
