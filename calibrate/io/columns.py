"""The described columns of a model's one input: which names its rows have, and the numbers that stand for categories.

Decided here: a category's text is taken by its code, a missing one as NaN. A number in such a column is a code already,
unless it is also the name of a category with another code: that could be meant two ways, so it is refused.
"""

import math
from collections import Counter
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float64

from calibrate.errors import BadModel, UnknownCategory, shown
from calibrate.io.description import Column
from calibrate.io.model import Port

_MOST_SHOWN = 20


def input_columns(columns: Sequence[Column], ports: Sequence[Port]) -> Sequence[Column]:
    """Return the described columns of a model's one input in its order; none where they cannot be matched by name."""
    return columns if columns and misfit(columns, ports) is None else ()


def misfit(columns: Sequence[Column], ports: Sequence[Port]) -> str | None:
    """Return why described columns are not those of a model's one input, None where they are.

    >>> misfit([Column("age", "number", "")], [Port("x", "float32", (None, 2))])
    "1 column is described, but the rows of input 'x' have 2 numbers"
    """
    count = f"{len(columns)} column{' is' if len(columns) == 1 else 's are'} described"
    if len(ports) != 1 or len(ports[0].shape) != 2:
        shapes = ", ".join(f"'{port.name}' of {len(port.shape)} axes" for port in ports[:_MOST_SHOWN])
        return f"{count}, which takes one input of rows of numbers; the model has {shapes}"
    name, width = ports[0].name, ports[0].shape[1]
    if width not in (None, len(columns)):
        return f"{count}, but the rows of input '{name}' have {width} number{'s' if width != 1 else ''}"
    repeated = next((name for name, times in Counter(column.name for column in columns).items() if times > 1), None)
    return None if repeated is None else f"the column {shown(repeated)} is described more than once"


def check_columns(columns: Sequence[Column], ports: Sequence[Port]) -> None:
    """Raise `BadModel` where columns are described that are not those of a model's one input."""
    if columns and (reason := misfit(columns, ports)):
        raise BadModel(reason)


def to_codes(values: Sequence[Any], column: Column, what: str) -> list[Any]:
    """Return the values of a column with each category's text as its code, and None as NaN.

    Of a column without codes, and of what is neither a text nor None, each value stays as it is.

    Raises: `UnknownCategory`, naming the row, for a text that is no category, or a number that is the name of a
    category with another code.

    >>> to_codes(["M", None, 0], Column("sex", "category", "neither", {"F": 0.0, "M": 1.0}), "column 'sex'")
    [1.0, nan, 0]
    """
    codes = column.codes
    if codes:
        _refuse_ambiguous(values, column, what)
        for row, value in enumerate(values):
            if isinstance(value, str) and value not in codes:
                names = ", ".join(name[:100] for name in list(codes)[:_MOST_SHOWN])
                raise UnknownCategory(f"{what}, row {row}: wanted one of {names}, got {shown(value)}")
    return [
        math.nan if value is None else codes.get(value, value) if isinstance(value, str) else value for value in values
    ]


def code_array(values: np.ndarray, column: Column, what: str) -> np.ndarray | Float64[np.ndarray, "n"]:
    """Return a column (n,) of texts, or of texts and None, as float64 codes; any other column as it is.

    Raises: `UnknownCategory`, as `to_codes`, also for a text in a column of numbers.
    """
    if values.dtype.kind not in "OUS":
        if column.codes:
            _refuse_ambiguous(values, column, what)
        return values
    coded = to_codes(values.tolist(), column, what)
    if (row := next((i for i, value in enumerate(coded) if not isinstance(value, Real)), None)) is not None:
        raise UnknownCategory(f"{what}, row {row}: wanted a number, got {shown(coded[row])}")
    return np.array(coded, dtype=np.float64)


def _refuse_ambiguous(values: Sequence[Any] | np.ndarray, column: Column, what: str) -> None:
    ambiguous = [name for name, code in column.codes.items() if _is_other_number(name, code)]
    for name in ambiguous:
        number = float(name)
        row = next((i for i, value in enumerate(values) if not isinstance(value, str) and value == number), None)
        if row is not None:
            raise UnknownCategory(
                f"{what}, row {row}: {name} may be the category '{name}', whose code is {column.codes[name]:g}, or a "
                "code: send categories as texts"
            )


def _is_other_number(name: str, code: float) -> bool:
    try:
        return math.isfinite(float(name)) and float(name) != code
    except ValueError:
        return False
