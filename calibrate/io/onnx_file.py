"""The bytes of an ONNX file as a model, or the reason why they are none.

Decided here: one self-contained file. Tensors kept outside it are refused wherever they hide, so no path in a file is
ever followed.
"""

from collections.abc import Iterator
from itertools import chain

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from calibrate.errors import BadModel
from calibrate.io.endless import refuse_endless


def parse(data: bytes) -> onnx.ModelProto:
    """The model in the bytes of an ONNX file.

    Raises: `BadModel` where they are not one self-contained ONNX model whose functions and trees come to an end.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise BadModel(f"this is not an ONNX file: {error}") from None
    graph = model.graph
    if not graph.node or not graph.output:
        raise BadModel("this is not an ONNX model: it has no nodes or no outputs")
    names = chain(
        (value.name for value in chain(graph.input, graph.output, graph.initializer, graph.value_info)),
        chain.from_iterable((node.op_type, *node.input, *node.output) for node in graph.node),
        (attribute.name for node in graph.node for attribute in node.attribute),
        chain.from_iterable((entry.key, entry.value) for entry in model.metadata_props),
    )
    if not all(isinstance(name, str) for name in names):  # protobuf hands out bytes where a text is not UTF-8
        raise BadModel("this is not an ONNX model: a name in it is not text")
    _refuse_external_data(model)
    refuse_endless(model)
    return model


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BadModel(
                f"tensor {tensor.name!r} is kept outside the file; export the model as one file, with torch by "
                "external_data=False"
            )


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in the attributes of a node, as a branch or a loop has them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, those in subgraphs, functions and attributes too."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
        while nodes:
            for attribute in nodes.pop().attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in [*attribute.sparse_tensors, attribute.sparse_tensor]:
                    yield from (sparse.values, sparse.indices)
                graphs += attribute.graphs
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
