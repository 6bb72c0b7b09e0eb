"""Arrays and tables as the numbers of a cache: matched by the names that they carry.

Decided here: a table whose columns are classes is put in their order, or gives the classes their names; a pandas index
that contradicts that of the labels is refused, and one that only counts from 0 names no row. Arrays go by position.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from calibrate.errors import BadCache, MissingClass, WrongShape, shown
from calibrate.labels import names_in_labels
from calibrate.logits import logits_from_probabilities, to_array, to_columns
from calibrate.names import column_names, is_count, positions_by_name, positions_of, without_stem
from calibrate.operating_point import check_classes

_MAX_CLASSES = 100_000


def score_columns(
    scores: Any, kind: str, classes: Sequence[str] | None
) -> tuple[Float[np.ndarray, "n k"], tuple[str, ...] | None]:
    """Return scores of a kind as logits (n, k), and the names of their columns where these are the classes."""
    columns, names = column_names(scores), None
    own = columns[0] if columns is not None and len(columns) == 1 else getattr(scores, "name", None)
    is_one = classes is not None and len(classes) == 2 and isinstance(own, str)
    if is_one and without_stem([own], kind)[0] == check_classes(classes)[0]:
        raise BadCache(
            f"{kind} are named as the first class, {shown(own)}, and one number a row speaks for the second: pass "
            "classes= in the other order"
        )
    if columns is not None and len(columns) > 1:
        columns = without_stem(columns, kind)
        known = tuple(map(str, range(len(columns)))) if is_count(columns) else tuple(map(str, columns))
        order = positions_by_name(columns, known if classes is None else check_classes(classes), kind)
        scores = to_array(np.asarray(scores), kind, (2,))[:, order]
        names = known
    return logits_of(kind, np.asarray(scores) if columns else scores), names


def logits_of(kind: str, scores: ArrayLike) -> Float[np.ndarray, "n k"]:
    """Return scores that are `logits`, `probabilities` or `margins` as logits with a column per class.

    Raises: `WrongShape`, `NoRows`, `NotFinite`, each naming the item.
    """
    if kind == "probabilities":
        return logits_from_probabilities(scores)
    if kind == "margins" and np.ndim(scores) == 2 and np.shape(scores)[1] != 1:
        raise WrongShape(f"margins: wanted one number a row, got shape {np.shape(scores)}: pass them as logits")
    return to_columns(scores, kind)


def features_by_number(features: ArrayLike) -> ArrayLike:
    """Return the columns of a table in the order of their numbers, where they are named 0 to d-1."""
    columns = column_names(features)
    if columns is None:
        return features
    return np.asarray(features)[:, positions_of(columns, None, "features", "features")]


def numbers_by_class(values: Any, classes: Sequence[str], name: str) -> Any:
    """Return numbers by class in the order of the classes, where they are named: a mapping, or a pandas series."""
    if isinstance(values, Mapping):
        names, numbers = list(values), list(values.values())
    elif hasattr(values, "index") and not callable(values.index) and not hasattr(values.index, "start"):
        names, numbers = list(values.index), np.asarray(values).tolist()
    else:
        return values
    return [numbers[place] for place in positions_by_name(names, list(classes), name)]


def class_names(classes: Sequence[str] | None, k: int, labels: ArrayLike) -> tuple[str, ...]:
    """Return the names of k classes, counted where none are known. Raises: `BadCache`, `BadPoint`, `WrongShape`."""
    if k > _MAX_CLASSES:
        raise WrongShape(f"logits: wanted at most {_MAX_CLASSES} columns, got {k}")
    if classes is not None:
        names = check_classes(classes)
        if len(names) != k:
            raise WrongShape(f"{len(names)} classes ({', '.join(names[:20])}) but logits have {k} columns")
        return names
    names = tuple(str(i) for i in range(k))
    if not names_in_labels(labels):
        return names
    different = sorted(set(labels if isinstance(labels, list | tuple) else np.asarray(labels).tolist()))
    if len(different) == 1 and different[0] not in names:
        raise MissingClass(f"every label is {shown(different[0])}, wanted at least two classes")
    if not set(different) <= set(names):
        raise BadCache(
            f"labels are named ({', '.join(map(shown, different[:20]))}) and the {k} columns are not: pass classes= in "
            "the order of the columns; of one score a row it speaks for the second class"
        )
    return names


def check_same_rows(values: Any, labels: Any, name: str) -> None:
    """Raise `BadCache` where values and labels both name their rows (pandas), and differently."""
    one, other = _row_names(values), _row_names(labels)
    if one is None or other is None or len(one) != len(other) or values.index.equals(labels.index):
        return
    row = int((one.astype(str) != other.astype(str)).argmax())
    raise BadCache(
        f"row {row} of {name} is {one[row]!r} by its index, of the labels {other[row]!r}: put both in the same "
        "order, or pass their values"
    )


def _row_names(values: Any) -> np.ndarray | None:
    """Return the index of a pandas object, None where there is none or it only counts from 0."""
    index = getattr(values, "index", None)
    if index is None or callable(index):
        return None
    names = np.asarray(index)
    return None if np.array_equal(names, np.arange(len(names))) else names
