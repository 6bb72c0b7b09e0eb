"""`setpoint evaluate`: saved points on new rows, from files, or those of a running server with `--model`."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from calibrate import cli as library
from calibrate.cli_models import AllowOtherModel
from calibrate.cli_rows import Classes, Decimal, Labels, Scores, ScoresAre, read_rows
from calibrate.errors import BadReport, InputError
from calibrate.io.files import write_cache
from service.cli_points import print_table
from service.client import Client
from service.terminal import say

SERVER = "http://127.0.0.1:8000"
_WORDS = {"yes": "holds", "no": "BROKEN", "unsure": "unsure", None: "-"}


def evaluate(
    cache: library.Rows,
    point: Annotated[
        list[str] | None,
        typer.Option(
            help="A saved point or result, repeatable; with --model the name of one there, all of them unless given."
        ),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metrics to show beside the usual ones.")] = None,
    scores: Scores = None,
    labels: Labels = None,
    scores_are: ScoresAre = None,
    classes: Classes = None,
    decimal: Decimal = None,
    positive: library.Positive = None,
    threshold: library.Thresholds = None,
    allow_other_model: AllowOtherModel = False,
    report: library.Reports = None,
    title: Annotated[str, typer.Option(help="The report's title.")] = "Operating points",
    calibration: Annotated[
        bool, typer.Option(help="Also how true the probabilities are: the model's, and those of a point's map.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Evaluate the points of this model on a running server: do they still hold?")
    ] = None,
    model_version: Annotated[
        int | None, typer.Option(help="With --model: the version; the points' own or the default unless told.")
    ] = None,
    server: Annotated[str, typer.Option(envvar="SETPOINT_SERVER", help="With --model: the server's address.")] = SERVER,
    as_json: library.Json = False,
) -> None:
    """Score operating points, and the plain model, on labelled rows that did not fit them."""
    if model is None:
        if not point and not threshold:
            raise InputError(
                "evaluate needs --point, a saved point, --threshold, a cut in use today, or --model, whose points a "
                "server has"
            )
        library.evaluate(
            cache,
            list(map(Path, point or [])),
            metric,
            scores=scores,
            labels=labels,
            scores_are=scores_are,
            classes=classes,
            decimal=decimal,
            positive=positive,
            threshold=threshold,
            allow_other_model=allow_other_model,
            report=report,
            title=title,
            calibration=calibration,
            as_json=as_json,
        )
        return
    if calibration:
        raise InputError("--calibration is of saved points: leave it or --model out")
    if threshold:
        raise InputError("--threshold is measured beside saved points: leave it or --model out")
    if others := [path for path in report or [] if path.suffix.lower() != ".html"]:
        raise BadReport(f"a server answers a page as .html; got '{others[0]}'")
    spec: dict[str, Any] = {"metrics": metric or [], "positive": positive, "model_version": model_version}
    spec |= {"points": point} if point else {}
    spec |= {"allow_other_model": True} if allow_other_model else {}
    with TemporaryDirectory() as folder, Client(server) as client:
        if any(option is not None for option in (scores, labels, scores_are, classes, decimal)):
            rows = read_rows(cache, scores, labels, scores_are, classes, decimal)
            cache = Path(folder) / "rows.npz"
            write_cache(cache, rows)
        found = client.evaluate(cache, model, spec)
        for path in report or []:
            path.write_bytes(client.evaluation_page(cache, model, spec))
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    _print(found, [*dict.fromkeys(metric or [])])
    for path in report or []:
        say(f"saved to {path}")


def _print(found: dict[str, Any], metrics: list[str]) -> None:
    """The classes, a line for each point, and a line for each bound; a broken one stands out."""
    classes = ", ".join(f"{each['name']} {each['rows']} ({_share(each)})" for each in found["classes"])
    say(f"{found['rows']} rows for version {found['model_version']} of model '{found['model']}': {classes}")
    table = [["point", "state", "fitted for", "holds", "its metric", "at the fit", "gain", *metrics]]
    for each in found["points"]:
        own = each["metric"] or ""
        row = [each["operating_point"], each["state"], each["fitted_for"] or "-", _WORDS[each["holds"]]]
        row += [_interval(each["measured"].get(own)), _interval(each["at_fit"]), _interval(each["gain"].get(own))]
        table.append([*row, *(_interval(each["measured"].get(name)) for name in metrics)])
    print_table(table)
    bounds = [
        [each["operating_point"], bound["constraint"], _WORDS[bound["holds"]], _interval(bound["measured"]),
         _interval(bound["at_fit"])]
        for each in found["points"]
        for bound in each["bounds"]
    ]  # fmt: skip
    if bounds:
        print_table([["point", "constraint", "", "measured", "at the fit"], *bounds])
    for text in found["warnings"]:
        say(f"warning: {text}")
    for each in found["points"]:
        for text in each["warnings"]:
            say(f"warning: {each['operating_point']}: {text}")


def _share(each: dict[str, Any]) -> str:
    percent = f"{100 * each['share']:.3g} %"
    return percent if each["low"] is None else f"{percent} [{100 * each['low']:.3g}, {100 * each['high']:.3g}]"


def _interval(interval: dict[str, Any] | None) -> str:
    if interval is None:
        return "-"
    if interval["value"] is None:
        return "undefined"
    around = "" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"{interval['value']:.3f}{around}"
