"""Results as tables that a person can read at a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from calibrate.certify import Guarantee
from calibrate.purpose import KeptBound, Purpose
from calibrate.reliability import Bin, CalibrationQuality
from calibrate.result import FitResult
from calibrate.uncertainty import Interval


def print_result(result: FitResult) -> None:
    """The point, the model imbalance state before and after, the evidence, the guarantees, and the warnings."""
    console = Console()
    search = result.options.get("search")
    console.print(
        f"{result.method}{f' ({search})' if search else ''} for {result.purpose.words} on {result.rows} rows",
        style="bold",
        highlight=False,
        markup=False,
    )
    if result.positive is not None:
        console.print(f"positive class '{result.positive}'", highlight=False, markup=False)
    classes = result.point.classes
    kept = None if result.calibration is None else result.calibration.kept
    if result.threshold is not None:
        which = "its probability" if kept is None else "its calibrated probability"
        text = f"decides '{classes[1]}' where {which} is above {result.threshold:.6g}"
        console.print(text, highlight=False, markup=False)
    maps = [] if kept is None else ["scale of the map", "bias of the map"]
    table = Table("class", "scale", "bias", *maps, f"state before ({result.mis_rows})", "after")
    for i, name in enumerate(classes):
        numbers = [result.point.scale[i], result.point.bias[i]]
        numbers += [] if kept is None else [kept.scale[i], kept.bias[i]]
        numbers += [result.mis_before[i], result.mis_after[i]]
        table.add_row(Text(name), *(f"{number:.6g}" for number in numbers))
    console.print(table)
    if result.evidence:
        kind = next(iter(result.evidence.values())).kind.replace("_", "-")
        print_intervals({"plain model": result.before, "this point": result.evidence}, f"evidence: {kind}", console)
    if result.metric in result.procedure:
        procedure = _shown(result.procedure[result.metric], " ")
        text = f"the procedure that chose it gives {result.metric} {procedure}, cross-fitted"
        console.print(text, highlight=False, markup=False)
    if result.compared:
        table = Table("method", escape(f"{result.metric}, cross-fitted"), title="compared", title_justify="left")
        for name, interval in result.compared.items():
            table.add_row(Text(name), _shown(interval, " "), style="bold" if name == result.method else None)
        console.print(table)
    if result.guarantees:
        console.print(_guarantees(result.guarantees))
    if result.gain:
        if result.prevalence is not None:
            told = ", ".join(f"{share:.4g} {name}" for name, share in zip(classes, result.prevalence, strict=True))
            text = f"at a prevalence of {told}; at any: {', '.join(result.survives)}"
            console.print(text, highlight=False, markup=False)
        gain = result.gain[result.metric]
        text = f"gain in {result.metric} over the plain model, on the same rows: {_shown(gain, ' ')}"
        console.print(text, highlight=False, markup=False)
    for text in () if result.correction is None else result.correction.words:
        console.print(f"the point corrects: {text}", highlight=False, markup=False)
    scores = ", ".join(f"{name} {_shown(interval, ' ')}" for name, interval in result.model_scores.items())
    for text in (f"the plain model: {scores}", *result.notes):
        console.print(text, highlight=False, markup=False)
    for warning in result.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def print_purposes(purposes: Mapping[str, tuple[Purpose, Sequence[KeptBound]]], console: Console | None = None) -> None:
    """Print a row for each point: what it was fitted for, its positive class, and whether its bounds hold here."""
    console = Console() if console is None else console
    table = Table("point", "fitted for", "positive class", "bounds on these rows", title="points", title_justify="left")
    table.columns[0].overflow = "fold"
    for name, (purpose, bounds) in purposes.items():
        words = Text("\n").join(Text(bound.words, style="" if bound.holds else "red") for bound in bounds)
        table.add_row(Text(name), Text(purpose.words or "-"), Text(purpose.positive or "-"), words or Text("-"))
    console.print(table)


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


def print_calibration(columns: Mapping[str, CalibrationQuality], console: Console | None = None) -> None:
    """How true the probabilities are, a column for each name, a table for each class; then the reliability diagrams."""
    console = Console() if console is None else console
    first = next(iter(columns.values()))
    for name in first.classes:
        table = Table(escape(f"'{name}'"), *map(escape, columns), title="calibration", title_justify="left")
        overall = {"log loss": "log_loss", "log loss skill": "log_loss_skill"}
        for title, field in overall.items():
            table.add_row(title, *(_number(getattr(each, field)) for each in columns.values()))
        found = [each.classes[name] for each in columns.values()]
        for title, field in _OF_CLASS.items():
            table.add_row(title, *(_number(getattr(each, field)) for each in found))
        cells = ("-" if each.near is None else _bin(each.near) for each in found)
        table.add_row("near the cut: predicted, observed", *cells)
        console.print(table)
        for who, each in zip(columns, found, strict=True):
            bins = Table("rows", "predicted", "observed", title=Text(f"'{name}' by {who}"), title_justify="left")
            for part in each.bins:
                observed = f"{part.observed:.4f} [{part.low:.4f}, {part.high:.4f}]"
                bins.add_row(str(part.rows), f"{part.predicted:.4f}", observed)
            console.print(bins)


_OF_CLASS = {
    "base rate": "base_rate",
    "mean probability": "mean_predicted",
    "Brier score": "brier",
    "Brier skill": "brier_skill",
    "reliability (0 is best)": "reliability",
    "resolution": "resolution",
    "uncertainty": "uncertainty",
    "calibration error, debiased": "calibration_error",
    "debiased error of true probabilities": "null_calibration_error",
    "ECE": "ece",
    "ECE of true probabilities": "null_ece",
    "slope": "slope",
    "intercept": "intercept",
    "intercept at slope 1": "intercept_at_slope_1",
}


def _bin(part: Bin) -> str:
    return f"{part.predicted:.4f}, {part.observed:.4f} [{part.low:.4f}, {part.high:.4f}], {part.rows} rows"


def _number(value: float) -> str:
    return "undefined" if value != value else f"{value:.4f}"


def _shown(interval: Interval, gap: str) -> str:
    if interval.value != interval.value:
        return "undefined"
    return f"{interval.value:.3f}{gap}[{interval.low:.3f}, {interval.high:.3f}]"
