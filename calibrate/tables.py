"""Results as tables that a person can read at a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from calibrate.certify import Guarantee
from calibrate.fit import FitResult
from calibrate.uncertainty import Interval


def print_result(result: FitResult) -> None:
    """The point, the model imbalance state before and after, the evidence, the guarantees, and the warnings."""
    console = Console()
    search = result.options.get("search")
    console.print(
        f"{result.method}{f' ({search})' if search else ''} for {'; '.join((result.metric, *result.constraints))} "
        f"on {result.rows} rows",
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
        print_intervals({"plain model": result.before, "this point": result.evidence}, f"evidence: {kind}", console)
    if result.compared:
        table = Table("method", escape(f"{result.metric}, cross-fitted"), title="compared", title_justify="left")
        for name, interval in result.compared.items():
            table.add_row(Text(name), _shown(interval, " "), style="bold" if name == result.method else None)
        console.print(table)
    if result.guarantees:
        console.print(_guarantees(result.guarantees))
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.model_scores.items())
    for text in (f"the plain model: {scores}", *result.notes):
        console.print(text, highlight=False, markup=False)
    for warning in result.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _guarantees(guarantees: Sequence[Guarantee]) -> Table:
    """A row for each promise: what it rests on, and how many of it went wrong."""
    shared = guarantees[0].held_together
    title = "certified" if len(guarantees) == 1 or shared is None else f"certified, all at once with {shared:.4g}"
    table = Table("for new rows", "measured", "rests on", "errors", "by", title=Text(title), title_justify="left")
    for each in guarantees:
        errors = f"{each.errors_seen} of {each.errors_allowed} allowed"
        table.add_row(Text(each.constraint), f"{each.value:.3f}", f"{each.rows} {each.unit}", errors, each.rule)
    return table


def print_intervals(columns: Mapping[str, Mapping[str, Interval]], title: str, console: Console | None = None) -> None:
    """A column of intervals for each name, a row for each metric; more than one table where they would not fit.

    Where a metric's intervals rest on different rows, precision say, each cell tells its own number of them.
    """
    console = Console() if console is None else console
    names = list(columns)
    metrics = list(next(iter(columns.values())))
    left = console.width - max(map(len, ["metric", *metrics])) - len("rows") - 7  # with the lines around both
    lines = [_shown(interval, "\n").split("\n") for column in columns.values() for interval in column.values()]
    one_line, two_lines = max(len(" ".join(cell)) for cell in lines) + 3, max(len(cell[-1]) for cell in lines) + 3
    gap = " " if len(names) * one_line <= left else "\n"
    fitting = max(1, left // (one_line if gap == " " else two_lines))
    for start in range(0, len(names), fitting):
        some = names[start : start + fitting]
        table = Table("metric", *map(escape, some), "rows", title=Text(title), title_justify="left")
        table.columns[0].no_wrap = True
        for metric in metrics:
            intervals = [columns[name][metric] for name in some]
            shared = len({interval.rows for interval in intervals}) == 1
            cells = [_shown(interval, gap) + ("" if shared else f"\n{interval.rows} rows") for interval in intervals]
            table.add_row(Text(metric), *map(Text, cells), str(intervals[0].rows) if shared else "")
        console.print(table)


def _shown(interval: Interval, gap: str) -> str:
    if interval.value != interval.value:
        return "undefined"
    return f"{interval.value:.3f}{gap}[{interval.low:.3f}, {interval.high:.3f}]"
