"""`setpoint bench`: rules compared on held-out rows of many caches, at the command line."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from calibrate.bench.files import read_trials, write_benchmark
from calibrate.bench.run import bench as run_bench
from calibrate.bench.summary import Comparison
from calibrate.bench.tables import counted
from calibrate.cli_out import refuse_stdout
from calibrate.errors import InputError
from calibrate.methods.bias_adjustment import SEARCHES


def bench(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Feature caches to cross-validate; or folders of caches, or of NAME.val.npz with NAME.test.npz.",
            show_default=False,
        ),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="Fitting and scoring file, as val.npz:test.npz; may be given often.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD, METHOD:SEARCH or METHOD:SEARCH:DIGITS, as bias_adjustment:decimal:2; may be given "
            "often; argmax and every search unless told."
        ),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="May be given often; f1 and g_mean unless told.")] = None,
    seeds: Annotated[int, typer.Option(help="How many times the rows of a cache are dealt anew.")] = 10,
    share: Annotated[float, typer.Option(help="Share of the rows that fits; the rest scores.")] = 0.5,
    reference: Annotated[
        str | None, typer.Option(help="The rule to compare the others with; the first unless told.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.md, bench.json, scores.csv and the plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """Compare rules by cross-validation: means, ranks, paired differences and tests."""
    from rich.console import Console  # not before: a server, which is the same command, has no use for it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    refuse_stdout(out, "--out", "a folder")
    if not files and not pair:
        raise InputError("wanted feature caches, folders of them, or --pair val.npz:test.npz; got none")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("trials", total=None)
        result = run_bench(
            read_trials(files or (), pair or (), range(seeds), share),
            rules=rule or ["argmax", *(f"bias_adjustment:{search}" for search in SEARCHES)],
            metrics=metric or ["f1", "g_mean"],
            reference=reference,
            jobs=jobs,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    if out is not None:
        write_benchmark(out, result)
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for comparison in result.comparisons:
        print_comparison(comparison)
    if out is not None:
        print(f"saved to {out}")


def print_comparison(comparison: Comparison) -> None:
    """The table at a terminal: what fits in 80 columns; the rest is in the files."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    title = f"{comparison.metric}, {'larger' if comparison.larger_is_better else 'smaller'} is better: "
    title += f"{counted(comparison.data_sets, 'data set')}, {counted(comparison.trials, 'trial')}"
    table = Table("rule", "mean", "rank", "w/t/l", "difference", "p", title=Text(title), title_justify="left")
    for rule in comparison.rules:
        if not comparison.trials:
            table.add_row(Text(rule.rule), "undefined")
            continue
        cells = [f"{rule.mean:.4f}", f"{rule.rank:.2f}"]
        if rule.rule == comparison.reference:
            cells += ["", "reference", ""]
        else:
            error = "" if math.isnan(rule.standard_error) else f" ±{rule.standard_error:.4f}"
            p = rule.wilcoxon_p if comparison.data_sets > 1 else next(iter(rule.resampled_p.values()))
            cells += [f"{rule.wins}/{rule.ties}/{rule.losses}", f"{rule.difference:+.4f}{error}"]
            cells += ["" if math.isnan(p) else f"{p:.2g}"]
        table.add_row(Text(rule.rule), *cells)
    console.print(table)
    by = "Wilcoxon's over data sets" if comparison.data_sets > 1 else "the corrected resampled t-test's"
    left = f"; {comparison.left_out} trials left out, undefined" if comparison.left_out else ""
    console.print(f"differences to {comparison.reference}; p is {by}{left}", highlight=False, markup=False)
    for rule in comparison.rules:
        for reason, times in rule.failures.items():
            said = f"{rule.rule} failed {times} times, scored as argmax there: {reason}"
            console.print(Text.assemble(("warning: ", "yellow"), said))
