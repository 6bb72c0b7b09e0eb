"""The inputs of a model: what a row is made of, and which models take no rows.

Decided here: a row is one index of the first axis of every input, and stands by itself. A model that wants a state
handed back to it, or a setting beside its rows, takes no rows, and is refused with the way out.
"""

import math

import onnx
from onnx import TensorProto

from calibrate.errors import BadModel
from calibrate.io.model import Port

# What both numpy and the runtime's Python interface hold; the eight-bit floats and four-bit integers it does not take.
_TYPES: dict[int, str] = {
    TensorProto.FLOAT16: "float16", TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8", TensorProto.INT16: "int16", TensorProto.INT32: "int32", TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8", TensorProto.UINT16: "uint16", TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64", TensorProto.BOOL: "bool", TensorProto.STRING: "str",
}  # fmt: skip
_FREE = -1  # as Paddle writes a free length
_MOST_AXES = 16
_MOST_NUMBERS = 2**24  # in one row: 16 million, an image of 2,000 x 2,000 pixels in four colours


def read_ports(graph: onnx.GraphProto) -> tuple[Port, ...]:
    """The inputs of a graph, each with a free first axis. Raises: `BadModel`."""
    constants = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in constants]
    if not values:
        raise BadModel("the model has no inputs")
    _refuse_state(values)
    inputs = tuple(_port(value) for value in values)
    numbers = sum(math.prod(length or 1 for length in port.shape) for port in inputs)
    if numbers > _MOST_NUMBERS:
        raise BadModel(f"a row of the inputs must have at most {_MOST_NUMBERS} numbers together, got {numbers}")
    return inputs


def _refuse_state(values: list[onnx.ValueInfoProto]) -> None:
    """Raises `BadModel` where one input has rows and another has none."""
    shapes = {value.name: _shape(value) for value in values if value.type.HasField("tensor_type")}
    with_rows = [name for name, shape in shapes.items() if shape and shape[0] is None]
    others = [name for name in shapes if name not in with_rows]
    if with_rows and others:
        shown = " and ".join(f"{name!r} {shown_shape(shapes[name])}" for name in others)
        raise BadModel(
            f"input {with_rows[0]!r} has rows on its first axis, but not so {shown}: a model that is handed its state "
            "from call to call, or a setting beside the rows, cannot decide rows that stand by themselves. Make these "
            "inputs constants of the graph, or let the model run where it is, write its scores into a feature cache as "
            "logits, and fit and evaluate on that"
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    lengths = (dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)
    return tuple(None if length == _FREE else length for length in lengths)


def shown_shape(shape: tuple[int | None, ...]) -> str:
    """A shape as a person writes it, `?` for a free length."""
    return f"({', '.join('?' if length is None else str(length) for length in shape)})"


def _port(value: onnx.ValueInfoProto) -> Port:
    if not value.type.HasField("tensor_type"):
        raise BadModel(f"input {value.name!r} must be a tensor, it is a {value.type.WhichOneof('value')}")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        known = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in TensorProto.DataType.values() else ""
        raise BadModel(
            f"input {value.name!r} has the type {known.lower() or tensor.elem_type}, wanted one of "
            f"{', '.join(_TYPES.values())}"
        )
    shape = _shape(value)
    if not shape:
        raise BadModel(f"input {value.name!r} must have an axis of rows, its shape is ()")
    if shape[0] is not None:
        raise BadModel(
            f"input {value.name!r} takes {shape[0]} rows and no other number: export it with a free first axis, "
            "with torch by dynamic_shapes=, or dynamic_axes= where dynamo=False"
        )
    if len(shape) > _MOST_AXES:
        raise BadModel(f"input {value.name!r} has {len(shape)} axes, wanted at most {_MOST_AXES}")
    lengths = [length for length in shape if length is not None]
    if min(lengths, default=1) <= 0 or math.prod(lengths) > _MOST_NUMBERS:
        raise BadModel(
            f"a row of input {value.name!r} must have axes of at least 1 and at most {_MOST_NUMBERS} numbers, its "
            f"shape is {shape[1:]}"
        )
    return Port(value.name, _TYPES[tensor.elem_type], shape)
