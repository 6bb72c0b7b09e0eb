"""Labels as indices of the classes: one rule for every format, in files, arrays and requests.

Decided here: texts are class names. Whole numbers are class names where classes are named by numbers ("1", "2"; "-1",
"1"), and indices where they are not. Classes named by numbers that are not their own indices make some whole numbers
both: of classes 1 and 2, the label 1 is the first by name and the second by index. Labels of which only one reading
is possible (2 is no index, 0 is no name) are read that way; where both are, they are refused: a text is never in doubt.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from calibrate.errors import NoRows, UnknownLabel, WrongShape, shown

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.0*)?")
_MOST_SHOWN = 20


def label_indices(labels: ArrayLike, classes: Sequence[str]) -> Int[np.ndarray, "n"]:
    """Return the index in `classes` of each of the labels (n,), which are class names, whole numbers or truth values.

    Raises: `UnknownLabel`, naming the first row whose label is no class, or where whole numbers may be read both ways;
    `WrongShape`, `NoRows`.

    >>> label_indices([2, 1, 1], ["1", "2"]).tolist()
    [1, 0, 0]
    >>> label_indices([1, 0, 1], ["clear", "fraud"]).tolist()
    [1, 0, 1]
    """
    if isinstance(labels, list | tuple) and labels and set(map(type, labels)) == {str}:
        return _of_names(labels, classes)  # one long text must not widen an array of a million
    try:
        array = np.asarray(labels)
    except ValueError:
        raise UnknownLabel("labels must be a list of class names or indices") from None
    if array.ndim != 1:
        raise WrongShape(f"labels: wanted 1 axis, got shape {array.shape}")
    if array.size == 0:
        raise NoRows("labels: wanted at least one, got none")
    if array.dtype.kind not in "biuf":
        values = list(labels) if isinstance(labels, list | tuple) else array.tolist()
        if all(isinstance(value, str) for value in values):
            return _of_names(values, classes)
        if any(isinstance(value, str) for value in values) or not all(_is_number(value) for value in values):
            raise UnknownLabel("labels must be class names or class indices, all of one kind")
        array = np.asarray(values)
    if array.dtype.kind == "b" and sorted(map(str.lower, classes)) == ["false", "true"]:
        return _of_names(["true" if value else "false" for value in array.tolist()], [c.lower() for c in classes])
    return _of_numbers(array, classes)


def labels_of_texts(texts: list[str], classes: Sequence[str] = ()) -> list[str] | np.ndarray:
    """Return the cells of a text table as labels: all names, all truth values or all whole numbers.

    Texts that are all among `classes` are names, and so are those that are neither truth values nor numbers.

    >>> labels_of_texts(["1", "0"]).tolist(), labels_of_texts(["1", "0"], ["1", "0"])
    ([1.0, 0.0], ['1', '0'])
    """
    different = set(texts)
    if different <= set(classes):
        return texts
    if {text.lower() for text in different} <= {"true", "false"}:
        return np.array([text.lower() == "true" for text in texts])
    return np.array([float(text) for text in texts]) if all(map(is_whole_number, different)) else texts


def is_whole_number(text: str) -> bool:
    """Return whether a text is a whole number, also as `1.0`."""
    return _NUMBER.fullmatch(text) is not None


def are_ambiguous(classes: Sequence[str]) -> bool:
    """Return whether some whole number is the name of one class and the index of another."""
    return any(number != index and 0 <= number < len(classes) for number, index in _numbers(classes).items())


def can_only_index(labels: ArrayLike, classes: Sequence[str]) -> bool:
    """Return whether labels are numbers and no class is named by one: then they count on an order of the classes."""
    return not names_in_labels(labels) and not _numbers(classes)


def written_labels(labels: Int[np.ndarray, "n"], classes: Sequence[str]) -> np.ndarray:
    """Return labels as a file should hold them: indices, or names where an index could be read as another's name."""
    return np.asarray(classes)[labels] if are_ambiguous(classes) else labels


def names_in_labels(labels: ArrayLike) -> bool:
    """Return whether labels are texts."""
    if isinstance(labels, list | tuple):
        return bool(labels) and set(map(type, labels)) == {str}
    array = np.asarray(labels)
    return array.dtype.kind == "U" or (array.size > 0 and array.dtype.kind == "O" and isinstance(array.flat[0], str))


def _of_names(labels: Iterable[str], classes: Sequence[str]) -> Int[np.ndarray, "n"]:
    index = {name: i for i, name in enumerate(classes)}
    indices = [index.get(label, -1) for label in labels]
    if -1 in indices:
        row = indices.index(-1)
        label = next(label for i, label in enumerate(labels) if i == row)
        raise UnknownLabel(f"labels[{row}] must be one of {', '.join(classes[:_MOST_SHOWN])}; got {shown(str(label))}")
    return np.array(indices, dtype=np.int64)


def _of_numbers(array: np.ndarray, classes: Sequence[str]) -> Int[np.ndarray, "n"]:
    k, numbers = len(classes), _numbers(classes)
    whole = array == np.floor(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    is_index = whole & (array >= 0) & (array < k)
    if not any(number != index for number, index in numbers.items()):
        return _checked(array, is_index, f"an index from 0 to {k - 1}").astype(np.int64)
    names = np.array(sorted(numbers))
    places = np.minimum(np.searchsorted(names, array), len(names) - 1)
    is_name = names[places] == array
    by_name = np.array([numbers[name] for name in names.tolist()])[places]
    if is_index.all():
        if is_name.all() and (by_name != array).any():
            row = int(np.flatnonzero(by_name != array)[0])
            raise UnknownLabel(
                f"labels[{row}] is {array[row]:g}, which may be the class '{classes[by_name[row]]}' by name or "
                f"'{classes[int(array[row])]}' by index: write labels as texts"
            )
        if not is_name.all():
            return array.astype(np.int64)
    return _checked(by_name, is_name, f"one of {', '.join(classes[:_MOST_SHOWN])}", array).astype(np.int64)


def _checked(indices: np.ndarray, fits: np.ndarray, wanted: str, labels: np.ndarray | None = None) -> np.ndarray:
    if not fits.all():
        row = int(np.flatnonzero(~fits)[0])
        raise UnknownLabel(f"labels[{row}] must be {wanted}, got {(indices if labels is None else labels)[row]}")
    return indices


def _numbers(classes: Sequence[str]) -> dict[int, int]:
    """The whole numbers that name exactly one class, with its index."""
    seen: dict[int, list[int]] = {}
    for index, name in enumerate(classes):
        if is_whole_number(name):
            seen.setdefault(int(float(name)), []).append(index)
    return {number: indices[0] for number, indices in seen.items() if len(indices) == 1}


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)
