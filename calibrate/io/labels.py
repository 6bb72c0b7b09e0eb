"""The class labels that a graph holds: what it would answer itself, in the order of its columns.

Decided here: they are looked for from the outputs backwards, through operators that change neither rows nor columns, so
that a classifier deep inside another one (voting, stacking, one against the rest) has no say.
"""

from collections.abc import Iterable

import onnx
from onnx import TensorProto, numpy_helper

from calibrate.errors import BadModel
from calibrate.io.view import View

_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Squeeze", "Normalizer", "ZipMap", "ArrayFeatureExtractor"}


def read_labels(view: View, outputs: Iterable[str]) -> tuple[str, ...] | None:
    """The labels behind the first of the outputs that has any, as texts; None where the graph names no classes.

    They come from a classifier of ai.onnx.ml, a ZipMap, or the list of labels that a decision is looked up in.

    Raises: `BadModel` where they are not text.
    """
    for output in outputs:
        tensor = output
        for _ in range(len(_TRANSPARENT)):  # as far as any exporter goes; a chain without end, if the graph has a cycle
            node = view.node(tensor)
            if node is None:
                break
            found = _listed(node) or _looked_up(view, node)
            if found is not None and len(found) > 1:
                return found
            if node.op_type not in _TRANSPARENT or not node.input:
                break
            tensor = node.input[0]
    return None


def what_it_holds(view: View, value: onnx.ValueInfoProto) -> str | None:
    """What a tensor holds where it cannot be logits or probabilities, as "int64 labels"; None where it can.

    An inner tensor has often no type: then it is told by the operator that makes it.
    """
    kind = value.type.tensor_type.elem_type
    if kind in _FLOATS:
        return None
    if kind == TensorProto.STRING:
        return "text labels"
    if kind in TensorProto.DataType.values() and kind != TensorProto.UNDEFINED:
        return f"{TensorProto.DataType.Name(kind).lower()} labels"
    node = view.node(value.name)
    if node is None:
        return None
    picks = node.op_type == "ArgMax" or _looked_up(view, node) is not None
    return "labels" if picks or (_listed(node) and node.op_type != "ZipMap" and value.name == node.output[0]) else None


def _listed(node: onnx.NodeProto) -> tuple[str, ...] | None:
    """The labels in a node's attributes."""
    for attribute in node.attribute:
        if attribute.name in _LABELS:
            labels = [*map(_text, attribute.strings), *map(str, attribute.ints)]
            if labels:
                return tuple(labels)
    return None


def _looked_up(view: View, node: onnx.NodeProto) -> tuple[str, ...] | None:
    """The constant list that a node takes labels out of, by the index of the class."""
    held = view.tensor(node.input[0]) if node.op_type == "ArrayFeatureExtractor" and node.input else None
    if held is None or held.data_type not in (TensorProto.STRING, TensorProto.INT64, TensorProto.INT32):
        return None
    if held.data_type == TensorProto.STRING:
        return tuple(map(_text, held.string_data))
    try:
        return tuple(map(str, numpy_helper.to_array(held).ravel().tolist()))
    except (ValueError, TypeError) as error:
        raise BadModel(f"the class labels {held.name!r} cannot be read: {error}") from None


def _text(label: bytes) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError:
        raise BadModel(f"class label {label!r} is not text") from None
