"""What a model answers under the protocol: the decision and the numbers behind it, as tensors.

Decided here: `label` is the class's name, as in `POST /predict`, because an index means nothing to whoever has not the
list at hand; numbers are FP64, as everywhere; a classification is sorted by value, ties by the order of the classes.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from calibrate.operating_point import FEW_ROWS
from service.errors import BadRequest
from service.inference import Answer
from service.web.oip.codec import InferRequest, Output
from service.web.oip.datatypes import BYTES
from service.web.oip.heads import WantedOutput
from service.web.oip.tensors import Flat, Texts

# Name, datatype, and whether a row has a column per class.
OUTPUTS = {
    "label": (BYTES, False),
    "probabilities": ("FP64", True),
    "adjusted": ("FP64", True),
    "margin": ("FP64", False),
    "logits": ("FP64", True),
    "operating_point": (BYTES, False),
}
_ALL_RAW, _ALL_JSON = (tuple(WantedOutput(name, binary) for name in OUTPUTS) for binary in (True, False))


def make_outputs(request: InferRequest, found: Answer, logits: np.ndarray) -> list[Output]:
    """The tensors that were asked for, in that order; all where none was named.

    Raises: `BadRequest` for an output that there is not, or that cannot be told as a classification.
    """
    wanted = wanted_outputs(request)
    few: Mapping[str, Flat] = {}
    if len(logits) <= FEW_ROWS and not all(output.binary for output in wanted):
        few = flat_outputs(found, logits)
    return [
        Output(
            name,
            BYTES if classes else OUTPUTS[name][0],
            few[name] if few and not binary and not classes else array_output(name, classes, found, logits),
            binary,
        )
        for name, binary, classes in wanted
    ]


def wanted_outputs(request: InferRequest) -> Sequence[WantedOutput]:
    """The outputs to answer, checked. Raises: `BadRequest`."""
    if request.outputs is None:
        return _ALL_RAW if request.binary else _ALL_JSON
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise BadRequest(f"there is no output {output.name[:100]!r}, only {', '.join(OUTPUTS)}")
        if output.classes and not OUTPUTS[output.name][1]:
            columns = ", ".join(name for name, (_, by_class) in OUTPUTS.items() if by_class)
            raise BadRequest(f"output '{output.name}' cannot be a classification: it has no classes, as {columns} have")
    return request.outputs


def answering_points(found: Answer) -> tuple[str, ...]:
    """The points that answered, `name@version`, each once and in the order of the rows."""
    if len(found.points) == 1:
        return (found.points[0].label,)
    return tuple(dict.fromkeys(record.label for record in found.points))


def array_output(name: str, most: int, found: Answer, logits: np.ndarray) -> np.ndarray | Texts:
    """An output's numbers or words; the `most` largest of each row as a classification, where that is above 0."""
    if name == "label":
        return Texts(found.decided, found.version.classes)
    if name == "operating_point":
        return _points(found)
    numbers: np.ndarray = logits if name == "logits" else getattr(found, name)
    return _classification(numbers, most, found.version.classes) if most else _float64(numbers)


def flat_outputs(found: Answer, logits: np.ndarray) -> dict[str, Flat]:
    """Every output for JSON of a few rows, which mostly are lists already: in a third of the time of arrays."""
    decided, probabilities, adjusted, margin = found.lists()
    n, points, classes = len(logits), found.points, found.version.classes
    one, each = (n,), logits.shape
    labels = [points[0].label] * n if len(points) == 1 else [record.label for record in points]
    return {
        "label": Flat(one, [classes[code] for code in decided]),
        "probabilities": Flat(each, list(chain.from_iterable(probabilities))),
        "adjusted": Flat(each, list(chain.from_iterable(adjusted))),
        "margin": Flat(one, margin),
        "logits": Flat(each, logits.ravel().tolist()),
        "operating_point": Flat(one, labels),
    }


def _float64(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float64, copy=False)


def _points(found: Answer) -> Texts:
    rows, words = len(found.decided), answering_points(found)
    if len(words) == 1:
        return Texts(np.zeros(rows, dtype=np.intp), words)
    code = {label: i for i, label in enumerate(words)}
    return Texts(np.array([code[record.label] for record in found.points], dtype=np.intp), words)


def _classification(numbers: np.ndarray, most: int, classes: tuple[str, ...]) -> Texts:
    """`value:index:label` of the largest values of each row, (n, min(most, k))."""
    order = np.argsort(-numbers, axis=1, kind="stable")[:, :most]
    values = np.take_along_axis(_float64(numbers), order, axis=1)
    words = tuple(
        f"{value!r}:{index}:{classes[index]}"
        for value, index in zip(values.ravel().tolist(), order.ravel().tolist(), strict=True)
    )
    return Texts(np.arange(len(words)).reshape(order.shape), words)
