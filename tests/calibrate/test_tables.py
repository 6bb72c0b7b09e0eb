"""Tables fit the terminal that they are printed to, and say how many rows a number rests on."""

import pytest
from rich.console import Console

from calibrate.tables import print_intervals
from calibrate.uncertainty import Interval


def interval(rows: int, value: float = 0.5) -> Interval:
    """Some interval on so many rows."""
    return Interval(value, 0.25, 0.75, 0.95, rows, "held_out")


def shown(points: int, width: int) -> str:
    """A table of two metrics and so many points."""
    columns = {f"point-{i}": {"recall": interval(40), "precision[other]": interval(30 + i)} for i in range(points)}
    console = Console(width=width, record=True)
    print_intervals(columns, "title", console)
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("points", [1, 2, 3, 6])
def test_nothing_is_cut_off_or_folded(points: int, width: int) -> None:
    """Names and intervals are whole at any number of points."""
    text = shown(points, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "precision[other]" in text
    assert text.count("[0.250, 0.750]") == 2 * points
    assert all(f"point-{i}" in text for i in range(points))


def test_rows_are_told_once_where_they_are_the_same_and_in_each_cell_where_not() -> None:
    """Precision rests on the alerts of its own point."""
    text = shown(2, 120)
    recall = next(line for line in text.splitlines() if "recall" in line)
    assert "40" in recall
    assert "30 rows" in text
    assert "31 rows" in text
    assert "30 rows" not in recall


def test_what_is_undefined_is_called_so() -> None:
    """Not nan."""
    console = Console(width=80, record=True)
    print_intervals({"a": {"f1": interval(3, float("nan"))}}, "title", console)
    assert "undefined" in console.export_text()
