"""Heads are found in graphs as they come, and what is exposed is what the model computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from calibrate import InputError
from calibrate.errors import BadModel, NoHead
from calibrate.io.graph import read_model
from calibrate.io.model import Port
from calibrate.logits import to_columns
from tests.models import HIDDEN, WIDTH, body, build, exported, forest, network, weights

node = helper.make_node
X = np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)


def run(data: bytes, names: list[str]) -> list[Any]:
    """What ONNX Runtime computes."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return list(session.run(names, {session.get_inputs()[0].name: X}))


def gemm(k: int, **options: Any) -> bytes:
    """A Gemm head with a weight (d, k), and alpha and beta that change both parts."""
    constants = weights(k)
    constants["w2"] = np.ascontiguousarray(constants["w2"].T)
    nodes = [*body(), node("Gemm", ["features", "w2", "b2"], ["logits"], **options), node("Softmax", ["logits"], ["p"])]
    return build(nodes, constants, ["p"])


def matmul_add(k: int, bias_first: bool, softmax: bool) -> bytes:
    """MatMul + Add in either order."""
    constants = weights(k)
    constants["w2"] = np.ascontiguousarray(constants["w2"].T)
    terms = ["b2", "product"] if bias_first else ["product", "b2"]
    nodes = [*body(), node("MatMul", ["features", "w2"], ["product"]), node("Add", terms, ["logits"])]
    nodes += [node("LogSoftmax", ["logits"], ["logp"]), node("Identity", ["logp"], ["out"])] if softmax else []
    return build(nodes, constants, ["out" if softmax else "logits"])


def constant_weights() -> bytes:
    """The head's weight and bias in Constant nodes instead of initializers."""
    constants = weights(2)
    held = {name: constants.pop(name) for name in ("w2", "b2")}
    nodes = [node("Constant", [], [name], value=numpy_helper.from_array(array)) for name, array in held.items()]
    nodes += [*body(), node("Gemm", ["features", "w2", "b2"], ["logits"], transB=1)]
    return build(nodes, constants, ["logits"])


def label_and_scores() -> bytes:
    """Two outputs that come from one head."""
    nodes = [*body(), node("Gemm", ["features", "w2", "b2"], ["logits"], transB=1)]
    nodes += [node("ArgMax", ["logits"], ["label"], axis=1), node("Softmax", ["logits"], ["p"])]
    return build(nodes, weights(3), ["label", "p"])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: network(2), id="gemm and softmax"),
        pytest.param(lambda: network(5, softmax=False), id="logits as output"),
        pytest.param(lambda: network(1), id="one logit and sigmoid"),
        pytest.param(lambda: gemm(3), id="gemm, not transposed"),
        pytest.param(lambda: gemm(3, alpha=2.0, beta=0.5), id="gemm, scaled"),
        pytest.param(lambda: matmul_add(2, False, True), id="matmul + add"),
        pytest.param(lambda: matmul_add(2, True, False), id="add + matmul"),
        pytest.param(constant_weights, id="weights in Constant nodes"),
        pytest.param(label_and_scores, id="label and probabilities"),
    ],
)
def test_the_head_and_what_it_makes_are_found(make: Callable[[], bytes]) -> None:
    """Features times weight plus bias are the logits, and their softmax is what the whole model put out."""
    data = make()
    model = read_model(data)
    assert model.kind == "logits"
    assert model.head is not None
    assert model.inputs == (Port("x", "float32", (None, WIDTH)),)
    logits, features = run(model.data, [model.head.logits, model.head.features])
    assert features.shape == (5, HIDDEN)
    assert np.allclose(features @ model.head.weight.T + model.head.bias, to_columns(logits), atol=1e-5)
    before = run(data, [onnx.load_model_from_string(data).graph.output[-1].name])[0].reshape(5, -1)
    exps = np.exp(to_columns(logits))
    softmax = exps / exps.sum(axis=1, keepdims=True)
    candidates = {"logits": logits, "log": np.log(softmax), "softmax": softmax, "sigmoid": softmax[:, 1:]}
    assert any(c.shape == before.shape and np.allclose(c, before, atol=1e-5) for c in candidates.values())


def test_a_bare_matmul_is_a_head_without_bias() -> None:
    """And a linear model's features are its inputs."""
    model = read_model(build([node("MatMul", ["x", "w"], ["z"])], {"w": weights(2)["w2"].T[:WIDTH].copy()}, ["z"]))
    assert model.head is not None
    assert not model.head.bias.any()
    assert model.head.features == "x"
    assert run(model.data, ["z"])[0].shape == (5, 2)


def test_the_softmax_behind_the_head_is_cut_off() -> None:
    """Only logits and features are computed."""
    session = ort.InferenceSession(read_model(network(3)).data, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "features"]


def test_metadata_is_kept() -> None:
    """Key by key."""
    assert read_model(network(metadata={"setpoint": "{}", "author": "me"})).metadata == {
        "setpoint": "{}",
        "author": "me",
    }


@pytest.mark.parametrize("zipmap", [False, True])
def test_trees_have_no_head_but_a_named_output(zipmap: bool) -> None:
    """The probabilities behind a ZipMap too; without a name the error lists what there is."""
    data, trees = forest(zipmap)
    name = "output_probability" if zipmap else "probabilities"
    with pytest.raises(NoHead, match=rf"name an output .*, of {name} \(from"):
        read_model(data)
    with pytest.raises(NoHead, match="say output_kind"):
        read_model(data, output=name)
    model = read_model(data, output=name, output_kind="probabilities")
    assert model.head is None
    assert model.kind == "probabilities"
    assert np.allclose(run(model.data, [model.output])[0], trees.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    ("zipmap", "labels", "name", "held"),
    [
        (False, (1, 2), "label", "int64 labels"),
        (False, ("a", "b"), "label", "text labels"),
        (True, (1, 2), "output_label", "int64 labels"),
        (True, (1, 2), "label", "labels"),
    ],
)
def test_labels_are_not_taken_for_scores(zipmap: bool, labels: tuple[Any, ...], name: str, held: str) -> None:
    """Neither an output's nor those of an inner tensor, which has no declared type."""
    data, _ = exported(RandomForestClassifier(n_estimators=3, max_depth=3), labels=labels, zipmap=zipmap)
    with pytest.raises(BadModel, match=f"output '{name}' holds {held}, not probabilities"):
        read_model(data, output=name, output_kind="probabilities")


def test_a_model_that_puts_out_nothing_but_labels_has_no_output_to_name() -> None:
    """So the error says what there is instead."""
    model = onnx.load_model_from_string(forest()[0])
    del model.graph.output[1:]
    with pytest.raises(NoHead, match="all that it puts out are labels: label holds int64 labels"):
        read_model(model.SerializeToString())


def test_the_argmax_of_a_head_is_no_probability() -> None:
    """The head behind it is found, but not under a false name."""
    assert read_model(label_and_scores(), output="label").head is not None
    with pytest.raises(BadModel, match="comes from ArgMax: it holds labels, not probabilities"):
        read_model(label_and_scores(), output="label", output_kind="probabilities")


def test_an_inner_tensor_may_be_named() -> None:
    """Logits that a graph does not put out itself."""
    nodes = [*body(), node("Softplus", ["features"], ["odd"]), node("Relu", ["odd"], ["out"])]
    model = read_model(build(nodes, weights(2), ["out"]), output="odd", output_kind="logits")
    assert (model.output, model.kind, model.head) == ("odd", "logits", None)


def two_heads() -> bytes:
    """Two linear layers, two outputs."""
    nodes = [*body(), *(node("Gemm", ["features", "w2", "b2"], [name], transB=1) for name in ("a", "b"))]
    return build(nodes, weights(2), ["a", "b"])


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    """The network with something done to it."""
    model = onnx.load_model_from_string(network(2))
    change(model)
    return bytes(model.SerializeToString())


def outside(model: onnx.ModelProto) -> None:
    """Moves a weight out of the file."""
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.ClearField("raw_data")


def outside_in_a_branch(model: onnx.ModelProto) -> None:
    """Hides such a tensor in an If."""
    held = TensorProto(name="hidden", data_type=1, data_location=TensorProto.EXTERNAL)
    branch = helper.make_graph([node("Constant", [], ["y"], value=held)], "b", [], [onnx.ValueInfoProto(name="y")])
    model.graph.node.append(node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


NAMED = {"output": "features", "output_kind": "logits"}


def cycle(model: onnx.ModelProto) -> None:
    """Makes the last node feed itself."""
    model.graph.node[-1].input[0] = model.graph.node[-1].output[0]


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (b"", {}, BadModel, "no nodes or no outputs"),
        (b"\x00\x01hello", {}, BadModel, "not an ONNX file"),
        (network(2)[:-40], {}, BadModel, "not an ONNX"),
        (network(2), {"output": "nope"}, BadModel, "no output 'nope', only probabilities"),
        (network(2), {"output_kind": "scores"}, BadModel, "must be logits or probabilities, got 'scores'"),
        (network(2), {"output": "probabilities", "output_kind": "logits"}, BadModel, "holds probabilities, not logits"),
        (network(2), {"output": "logits", "output_kind": "probabilities"}, BadModel, "holds logits, not probabilities"),
        (two_heads(), {}, NoHead, "several linear heads were found, behind a, b"),
        (changed(outside), {}, BadModel, "tensor 'w1' is kept outside .*external_data=False"),
        (changed(outside_in_a_branch), {}, BadModel, "tensor 'hidden' is kept outside the file"),
        (changed(cycle), {}, NoHead, "does not end in a linear layer"),
        (build(body(), weights(2), ["features"], input_shape=(1, WIDTH)), NAMED, BadModel, "1 rows .*dynamic_shapes="),
        (build(body(), weights(2), ["features"], input_shape=()), NAMED, BadModel, "must have an axis of rows"),
        (build([*body(), node("Gemm", ["features", "w2", "b2"], ["z"], transB=1), node("Sigmoid", ["z"], ["p"])],
               weights(3), ["p"]), {}, BadModel, "sigmoid over 3 logits"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused(
    data: bytes, options: dict[str, str], error: type[InputError], message: str
) -> None:
    """With the reason, and what to do where something can be done."""
    with pytest.raises(error, match=message):
        read_model(data, **options)


def test_one_of_several_heads_may_be_named() -> None:
    """By its output."""
    model = read_model(two_heads(), output="b")
    assert model.head is not None
    assert model.head.logits == "b"


WHOLE = [network(2), exported(LogisticRegression())[0], forest(zipmap=True)[0]]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_model_is_an_input_error_or_still_a_model(whole: bytes, changes: list[tuple[int, int]]) -> None:
    """Any few bytes changed: never another kind of exception."""
    damaged = bytearray(whole)
    for at, change in changes:
        damaged[at % len(damaged)] ^= change
    try:
        read_model(bytes(damaged))
    except InputError:
        return
