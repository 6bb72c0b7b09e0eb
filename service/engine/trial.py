"""A model file read, loaded and run on a few rows: all that a registration needs to know of it.

Decided here: the number of classes is read from two rows of zeros, because a model that mixes rows up shows it at two.
Where inner lengths are free a few common ones are tried, and where none runs, there is no trial: the model knows what
it wants, the file does not say. Then drawn rows show whether answers depend on chance or on the other rows of a batch,
which by its operators a graph may do too where these rows do not show it. A model that answers at random is refused
unless the caller allows it: whatever is fitted on its logits does not hold for the next ones. Where a run takes
seconds, or drawn rows cannot be run, operators alone decide, and nothing else is known.
"""

import time
from dataclasses import dataclass

import numpy as np

from calibrate.errors import BadModel, InputError, NotFinite
from calibrate.io.graph import read_model
from calibrate.io.model import ModelGraph, Port
from calibrate.io.unstable import shown_operators, unstable_operators
from service.domain import HeadInfo
from service.engine.alike import HALF_ROUNDING, ROUNDING, compare_rows
from service.errors import ModelFailed
from service.ports import Engine, Examined, Session

_LENGTHS = (64, 224, 1)  # of axes that the file leaves free
_MOST_NUMBERS = 2**20  # of a row whose lengths are only tried
_SLOW_S = 3.0  # a model whose run takes longer is judged by its operators alone
_CONSTANT = (
    "run by itself, every row that was tried got the same answer: the model needs the statistics of a batch, and "
    "decides no single row. Export it with those of training (with torch, model.eval() before torch.onnx.export)"
)


@dataclass(frozen=True)
class _Stability:
    """Whether answers depend on the batch (None where that is not known) or on chance, and the warnings to show."""

    depends_on_batch: bool | None
    is_random: bool
    warnings: tuple[str, ...]


def try_out(
    engine: Engine, data: bytes, output: str | None, output_kind: str | None, *, allow_random: bool = False
) -> Examined:
    """What is known of a model after a few runs.

    Raises: `BadModel`, also for one that answers at random unless `allow_random`; `NoHead`, `ModelFailed`,
    `WrongShape`.
    """
    graph = read_model(data, output=output, output_kind=output_kind)
    head = graph.head
    session = engine.load(graph.data, graph.output, graph.kind, rows_apart=False)
    started = time.perf_counter()
    width, length = _width(session, graph)
    if time.perf_counter() - started > _SLOW_S:
        length = None  # the further runs would not end in time
    stability = _stability(session, graph, length, allow_random)
    return Examined(
        data=graph.data,
        inputs=graph.inputs,
        output=graph.output,
        kind=graph.kind,
        head=None if head is None else HeadInfo(head.features, head.logits, int(head.weight.shape[1])),
        metadata=graph.metadata,
        labels=graph.labels,
        width=width,
        depends_on_batch=stability.depends_on_batch,
        is_random=stability.is_random,
        warnings=stability.warnings,
    )


def _stability(session: Session, graph: ModelGraph, length: int | None, allow_random: bool) -> _Stability:
    """What operators and drawn rows show. Raises: `BadModel` for a model that answers at random."""
    operators = unstable_operators(graph.data)
    rounding = HALF_ROUNDING if operators.is_half else ROUNDING
    alike = None if length is None else compare_rows(session.run, graph.inputs, graph.kind, length)
    differs = alike is not None and alike.twice > rounding
    is_random = differs or bool(operators.random)
    if is_random:
        cause = shown_operators(operators.random)
        if not cause and alike is not None:
            cause = f"two runs on the same rows differ by {alike.twice:.2g}, so it draws numbers or keeps a state"
        if not allow_random:
            raise BadModel(
                f"the model's answers depend on chance or on earlier runs: {cause}. Export it in evaluation mode (with "
                "torch, model.eval() before torch.onnx.export), or register it with 'allow_random': true, which is kept"
            )
        chance = (
            f"answers depend on chance or on earlier runs ({cause}): it was registered with allow_random, and no "
            "number measured on some rows need hold for the next"
        )
        return _Stability(bool(operators.batch), True, (*_batch_warnings(shown_operators(operators.batch)), chance))
    if not operators.batch and (alike is None or alike.together <= rounding):
        return _Stability(None if alike is None else False, False, ())
    cause = shown_operators(operators.batch)
    if not cause and alike is not None:
        cause = f"run together and alone, rows differ by {alike.together:.2g}"
    constant = (_CONSTANT,) if alike is not None and alike.is_constant else ()
    return _Stability(True, False, (*_batch_warnings(cause), *constant))


def _batch_warnings(cause: str) -> tuple[str, ...]:
    if not cause:
        return ()
    return (
        f"a row's answer depends on the other rows of its batch ({cause}): here each row is run by itself, in "
        "predictions and in calibrations. Wherever else the model runs, run it row by row too",
    )


def _width(session: Session, graph: ModelGraph) -> tuple[int | None, int | None]:
    """The number of classes, as two rows of zeros come out, and the length at which they ran; each None where that
    cannot be told.
    """
    width = None if graph.head is None else len(graph.head.bias)
    is_free = any(length is None for port in graph.inputs for length in port.shape[1:])
    for length in _LENGTHS if is_free else (1,):
        if is_free and sum(_numbers(port, length) for port in graph.inputs) > _MOST_NUMBERS:
            continue
        try:
            made = session.run({port.name: _zeros(port, length) for port in graph.inputs})
        except NotFinite:
            return width, length  # zeros need not be rows that the model understands
        except (ModelFailed, InputError):
            if not is_free:
                raise
            continue
        if width is not None and made.shape[1] != width:
            raise BadModel(f"the head has {width} classes, but the model puts out {made.shape[1]} columns")
        return int(made.shape[1]), length
    return width, None


def _numbers(port: Port, length: int) -> int:
    return int(np.prod([length if known is None else known for known in port.shape[1:]], dtype=object))


def _zeros(port: Port, length: int) -> np.ndarray:
    shape = (2, *(length if known is None else known for known in port.shape[1:]))
    return np.full(shape, "", dtype=object) if port.dtype == "str" else np.zeros(shape, dtype=port.dtype)
