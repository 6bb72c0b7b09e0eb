"""A model file read, loaded and run once on two rows: all that a registration needs to know of it.

Decided here: two rows of zeros, because a model that mixes rows up shows it at two. Where inner lengths are free a few
common ones are tried, and where none runs, there is no trial: the model knows what it wants, the file does not say.
"""

import numpy as np

from calibrate.errors import BadModel, InputError, NotFinite
from calibrate.io.graph import read_model
from calibrate.io.model import ModelGraph, Port
from service.domain import HeadInfo
from service.errors import ModelFailed
from service.ports import Engine, Examined

_LENGTHS = (64, 224, 1)  # of axes that the file leaves free
_MOST_NUMBERS = 2**20  # of a row whose lengths are only tried


def try_out(engine: Engine, data: bytes, output: str | None, output_kind: str | None) -> Examined:
    """What is known of a model after one run. Raises: `BadModel`, `NoHead`, `ModelFailed`, `WrongShape`."""
    graph = read_model(data, output=output, output_kind=output_kind)
    head = graph.head
    return Examined(
        data=graph.data,
        inputs=graph.inputs,
        output=graph.output,
        kind=graph.kind,
        head=None if head is None else HeadInfo(head.features, head.logits, int(head.weight.shape[1])),
        metadata=graph.metadata,
        labels=graph.labels,
        width=_width(engine, graph),
    )


def _width(engine: Engine, graph: ModelGraph) -> int | None:
    """The number of classes, as two rows of zeros come out; None where that cannot be told."""
    session = engine.load(graph.data, graph.output, graph.kind)
    width = None if graph.head is None else len(graph.head.bias)
    is_free = any(length is None for port in graph.inputs for length in port.shape[1:])
    for length in _LENGTHS if is_free else (1,):
        if is_free and sum(_numbers(port, length) for port in graph.inputs) > _MOST_NUMBERS:
            continue
        try:
            made = session.run({port.name: _zeros(port, length) for port in graph.inputs})
        except NotFinite:
            return width  # zeros need not be rows that the model understands
        except (ModelFailed, InputError):
            if not is_free:
                raise
            continue
        if width is not None and made.shape[1] != width:
            raise BadModel(f"the head has {width} classes, but the model puts out {made.shape[1]} columns")
        return int(made.shape[1])
    return width


def _numbers(port: Port, length: int) -> int:
    return int(np.prod([length if known is None else known for known in port.shape[1:]], dtype=object))


def _zeros(port: Port, length: int) -> np.ndarray:
    shape = (2, *(length if known is None else known for known in port.shape[1:]))
    return np.full(shape, "", dtype=object) if port.dtype == "str" else np.zeros(shape, dtype=port.dtype)
