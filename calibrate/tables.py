"""Results as tables that a person can read at a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from calibrate.fit import FitResult
from calibrate.uncertainty import Interval


def print_result(result: FitResult) -> None:
    """The point, the model imbalance state before and after, the evidence, and the warnings."""
    console = Console()
    search = result.options.get("search")
    console.print(
        f"{result.method}{f' ({search})' if search else ''} for {result.metric} on {result.rows} rows",
        style="bold",
        highlight=False,
        markup=False,
    )
    classes = result.point.classes
    if result.point.threshold is not None:
        text = f"decides '{classes[1]}' where its probability is above {result.point.threshold:.6g}"
        console.print(text, highlight=False, markup=False)
    table = Table("class", "scale", "bias", f"state before ({result.mis_rows})", "after")
    for i, name in enumerate(classes):
        numbers = result.point.scale[i], result.point.bias[i], result.mis_before[i], result.mis_after[i]
        table.add_row(Text(name), *(f"{number:.6g}" for number in numbers))
    console.print(table)
    if result.evidence:
        kind = next(iter(result.evidence.values())).kind.replace("_", "-")
        console.print(_table({"plain model": result.before, "this point": result.evidence}, f"evidence: {kind}"))
    for warning in result.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def print_intervals(columns: Mapping[str, Mapping[str, Interval]], title: str) -> None:
    """A column of intervals for each name, a row for each metric."""
    Console().print(_table(columns, title))


def _table(columns: Mapping[str, Mapping[str, Interval]], title: str) -> Table:
    table = Table("metric", *map(escape, columns), "rows", title=Text(title), title_justify="left")
    for name in next(iter(columns.values())):
        intervals = [column[name] for column in columns.values()]
        table.add_row(Text(name), *(_shown(interval) for interval in intervals), str(intervals[-1].rows))
    return table


def _shown(interval: Interval) -> str:
    if interval.value != interval.value:
        return "undefined"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
