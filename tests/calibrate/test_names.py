"""Columns that carry names are matched by them."""

import pandas as pd
import pyarrow as pa
import pytest

from calibrate.errors import WrongColumns
from calibrate.names import column_names, is_count, positions_by_name

WANTED = ["clear", "fraud", "other"]


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        (["clear", "fraud", "other"], [0, 1, 2]),
        (["other", "clear", "fraud"], [1, 2, 0]),
        (["2", "0", "1"], [1, 2, 0]),
        ([0, 1, 2], [0, 1, 2]),
    ],
)
def test_positions(names: list[object], positions: list[int]) -> None:
    """By name in any order, or by the number of the wanted name."""
    assert positions_by_name(names, WANTED, "logits") == positions


def test_numbers_that_are_names_are_names() -> None:
    """Classes called 1 and 0 are matched by name, not by number."""
    assert positions_by_name(["0", "1"], ["1", "0"], "logits") == [1, 0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["clear", "fraud", "fraud"], "logits: column 'fraud' comes more than once"),
        (["clear", "fraud", "else"], "logits: wanted the columns clear, fraud, other; got 'else'"),
        (["clear", "fraud"], "logits: column 'other' is missing from clear, fraud"),
        (["0", "1"], "logits: wanted the columns clear, fraud, other; got '0'"),
        (["1", "2", "3"], "logits: wanted the columns clear, fraud, other; got '1'"),
    ],
)
def test_refused(names: list[str], message: str) -> None:
    """What is doubled, unknown or missing, by its name."""
    with pytest.raises(WrongColumns, match=message):
        positions_by_name(names, WANTED, "logits")


def test_ten_columns_in_the_order_of_text() -> None:
    """`10` sorts before `2` as text, and is still the eleventh."""
    names = sorted(str(i) for i in range(11))
    assert [names[place] for place in positions_by_name(names, [f"c{i}" for i in range(11)], "features")] == [
        str(i) for i in range(11)
    ]
    assert is_count(names)
    assert not is_count(["01", "0"])


def test_tables_have_names_and_arrays_have_none() -> None:
    """pandas and Arrow tables; a list and an array go by position."""
    assert column_names(pd.DataFrame({"b": [1], "a": [2]})) == ["b", "a"]
    assert column_names(pa.table({"b": [1], "a": [2]})) == ["b", "a"]
    assert column_names([[1, 2]]) is None
