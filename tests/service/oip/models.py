"""A model of texts and numbers."""

from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from tests.models import OPSET, weights


def two_inputs() -> bytes:
    """Two floats `x` and a text `kind`, whose code is 1 for "a", 2 for "bé", 3 for the empty one, else 0."""
    node, info = helper.make_node, helper.make_tensor_value_info
    encoder = node(
        "LabelEncoder", ["kind"], ["code"], domain="ai.onnx.ml", keys_strings=["a", "bé", ""],
        values_floats=[1.0, 2.0, 3.0], default_float=0.0,
    )  # fmt: skip
    values = weights(2)
    graph = helper.make_graph(
        [encoder, node("Concat", ["x", "code"], ["all"], axis=1), node("Gemm", ["all", "w", "b"], ["z"], transB=1)],
        "two",
        [info("x", TensorProto.FLOAT, ["n", 2]), info("kind", TensorProto.STRING, ["n", 1])],
        [ValueInfoProto(name="z")],
        [numpy_helper.from_array(values["w2"][:, :3].copy(), "w"), numpy_helper.from_array(values["b2"], "b")],
    )
    return bytes(helper.make_model(graph, opset_imports=OPSET, ir_version=9).SerializeToString())
