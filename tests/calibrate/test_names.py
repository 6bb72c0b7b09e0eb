"""Columns that carry names are matched by them."""

import pandas as pd
import pyarrow as pa
import pytest

from calibrate.errors import WrongColumns
from calibrate.names import column_names, is_count, positions_by_name, positions_of

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
        (["", "fraud", "clear"], "logits: wanted the columns clear, fraud, other; got ''"),
        (["", ""], "logits: column '' comes more than once"),
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


def test_names_behind_a_prefix() -> None:
    """`logits_fraud` is the class `fraud`, unless that whole text is a class; features are counted."""
    assert positions_of(["logits_other", "logits_clear", "logits_fraud"], WANTED, "logits", "logits") == [1, 2, 0]
    assert positions_of(["logits_1", "logits_0"], ["a", "b"], "logits", "logits") == [1, 0]
    assert positions_of(["logits_b", "logits_a"], ["logits_a", "logits_b"], "logits", "logits") == [1, 0]
    assert positions_of(["features_2", "features_0", "features_1"], None, "features", "features") == [1, 2, 0]
    with pytest.raises(WrongColumns, match="got 'logits_clear'"):  # one is a class, so all are names
        positions_of(["logits_clear", "fraud"], ["clear", "fraud"], "logits", "logits")


def test_columns_that_nothing_names_go_in_order() -> None:
    """Unless their own numbers contradict it; numbers that do not count from 0 or 1 say nothing."""
    for names in (["b", "a"], ["V1", "V2", "V10"], ["V0", "V1"], ["lag30", "lag7"], ["a1", "b0"], ["x"]):
        assert positions_of(names, None, "x", "input 'x'") == list(range(len(names)))
    by_text = sorted(f"V{i}" for i in range(1, 11))
    for names, message in ((by_text, "'V2' comes after 'V10'"), (["c1", "c0"], "'c0' comes after 'c1'")):
        with pytest.raises(WrongColumns, match=message):
            positions_of(names, None, "x", "input 'x'")
    with pytest.raises(WrongColumns, match="column 'a' comes more than once"):
        positions_of(["a", "a"], None, "x", "input 'x'")
