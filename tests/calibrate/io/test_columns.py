"""Described columns belong to the one input of a model, and categories become their codes."""

import numpy as np
import pytest

from calibrate.errors import BadModel, UnknownCategory
from calibrate.io.columns import check_columns, code_array, input_columns, to_codes
from calibrate.io.description import Column
from calibrate.io.model import Port

AGE, SEX = Column("age", "number", ""), Column("sex", "category", "", {"F": 0.0, "M": 1.0})
GRADE = Column("grade", "category", "", {"1": 0.0, "2": 1.0, "3": 3.0})


@pytest.mark.parametrize(
    ("columns", "ports", "message"),
    [
        ([AGE], [Port("x", "float32", (None, 2))], "1 column is described, but the rows of input 'x' have 2 numbers"),
        ([AGE, SEX], [Port("x", "float32", (None, 1))], "2 columns are described, but the rows of input 'x' have 1 nu"),
        ([AGE, AGE], [Port("x", "float32", (None, None))], "the column 'age' is described more than once"),
        ([AGE], [Port("x", "float32", (None, 1, 1))], "takes one input of rows of numbers; the model has 'x' of 3 ax"),
        ([AGE], [Port(name, "float32", (None, 1)) for name in "xy"], "the model has 'x' of 2 axes, 'y' of 2 axes"),
    ],
)
def test_columns_that_are_not_those_of_the_input(columns: list[Column], ports: list[Port], message: str) -> None:
    """They are refused, and match nothing."""
    with pytest.raises(BadModel, match=message):
        check_columns(columns, ports)
    assert input_columns(columns, ports) == ()


def test_columns_of_the_input() -> None:
    """Of a fixed and of a free width; none described is nothing wrong."""
    for width in (2, None):
        ports = [Port("x", "float32", (None, width))]
        check_columns([AGE, SEX], ports)
        assert input_columns([AGE, SEX], ports) == [AGE, SEX]
    check_columns([], [Port("x", "float32", (None, 3, 3))])


def test_categories_become_codes() -> None:
    """Texts by name, null as NaN, numbers as they are; a column of numbers is left alone."""
    coded = to_codes(["M", None, 0, "F", 0.5], SEX, "column 'sex'")
    assert np.array_equal(np.array(coded), [1.0, np.nan, 0.0, 0.0, 0.5], equal_nan=True)
    texts = np.array(["F", None, "M"], dtype=object)
    assert np.array_equal(code_array(texts, SEX, "column 'sex'"), [0.0, np.nan, 1.0], equal_nan=True)
    assert code_array(np.array([1, 2]), AGE, "column 'age'").dtype == np.int64


@pytest.mark.parametrize(
    ("values", "column", "message"),
    [
        (["M", "X"], SEX, "column 'c', row 1: wanted one of F, M, got 'X'"),
        (["M", "m"], SEX, "row 1: wanted one of F, M, got 'm'"),
        (["72"], AGE, "row 0: wanted a number, got '72'"),
        ([3, 1], GRADE, "row 1: 1 may be the category '1', whose code is 0, or a code: send categories as texts"),
    ],
)
def test_what_is_no_category_is_refused(values: list[object], column: Column, message: str) -> None:
    """With its row, and what is allowed."""
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    with pytest.raises(UnknownCategory, match=message):
        code_array(array, column, "column 'c'")
