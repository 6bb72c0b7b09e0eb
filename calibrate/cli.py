"""`setpoint fit` and `setpoint evaluate`: the library at the command line, as tables or as JSON."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from calibrate.cli_models import check_model_of
from calibrate.cli_out import STDOUT, beside, write_out
from calibrate.cli_rows import Classes, Decimal, Labels, Scores, ScoresAre, print_doubt, read_rows
from calibrate.curve import USUAL
from calibrate.curve import curve as trade_off
from calibrate.errors import BadCache, BadCosts, BadPrior, BadReport
from calibrate.evidence import held_out
from calibrate.fit import fit as fit_point
from calibrate.kept_bounds import kept_bounds
from calibrate.maps import MAPS, CalibrationMap
from calibrate.methods import METHODS
from calibrate.naming import metric_names, parse_metric, standard_metrics
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose, described, positive_class
from calibrate.reliability import CalibrationQuality, calibration_quality
from calibrate.result import FitResult
from calibrate.samples import frequencies, sample_of
from calibrate.streaming import fit_stream
from calibrate.uncertainty import Interval

Rows = Annotated[
    Path,
    typer.Argument(help="Labelled rows: a feature cache, or with --scores a table.", show_default=False),
]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", "--html", "--png", help="Where to write a page to sign: .html, .png or .json."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
Thresholds = Annotated[
    list[float] | None,
    typer.Option("--threshold", help="A cut in use today, on the positive class's probability; repeatable."),
]
Positive = Annotated[str | None, typer.Option(help="Positive class; of two classes the second unless named.")]


def fit(
    cache: Rows,
    metric: Annotated[
        str, typer.Option(help=f"One of {metric_names()}; recall[CLASS]; or an expression such as tp/(tp + 2*fp).")
    ],
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            help="As 'recall >= 0.9', 'alerts <= 200 per 100000', or certified as 'recall >= 0.9 @ 95%'; repeatable."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "bias_adjustment",
    search: Annotated[
        str | None,
        typer.Option(help="bias_adjustment: exact, committee, nonempty, bagged, smoothed, expected, decimal, or auto."),
    ] = None,
    digits: Annotated[int | None, typer.Option(help="search decimal: how many digits, 3 unless told.")] = None,
    tau: Annotated[float | None, typer.Option(help="logit_adjustment: fitted unless told.")] = None,
    scores: Scores = None,
    labels: Labels = None,
    scores_are: ScoresAre = None,
    classes: Classes = None,
    decimal: Decimal = None,
    positive: Positive = None,
    train: Annotated[Path | None, typer.Option(help="Cache of the training rows, for the imbalance state.")] = None,
    test: Annotated[Path | None, typer.Option(help="Cache of held-out rows to score on; else cross-fitting.")] = None,
    prior: Annotated[str | None, typer.Option(help="Training class frequencies, as 0.95,0.05.")] = None,
    prevalence: Annotated[
        str | None,
        typer.Option(help="Where it will be used: the positive share, as 0.02, or all, as 0.98,0.02."),
    ] = None,
    negatives_kept: Annotated[
        str | None, typer.Option(help="Share of the negatives that training kept, as 0.1; or of every class, as 0.1,1.")
    ] = None,
    class_weights: Annotated[str | None, typer.Option(help="Weights of the training loss by class, as 1,20.")] = None,
    cost_matrix: Annotated[
        str | None, typer.Option(help="JSON, a row for each decision, a column for each true class.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help=f"A calibration map before the method, if it gains: {', '.join(MAPS)} or auto.")
    ] = None,
    stream: Annotated[
        bool, typer.Option(help="Read Parquet or Arrow files ('val/*.parquet') in batches: more than memory holds.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to save the point with its evidence; - for stdout.")] = None,
    report: Reports = None,
    title: Annotated[str | None, typer.Option(help="The report's title.")] = None,
    as_json: Json = False,
) -> None:
    """Fit an operating point for a metric on labelled rows."""
    if out is not None and out in (report or []):
        raise BadReport(f"--out and a report would be the same file, {out}")
    known = None if prior is None else shares(prior)
    columns = (scores, labels, scores_are, classes, decimal)
    if stream:
        if scores:
            raise BadCache("--stream reads feature caches: leave --scores out")
        others = {"--search": search, "--digits": digits, "--tau": tau, "--train": train, "--test": test}
        others |= {"--prevalence": prevalence, "--negatives-kept": negatives_kept, "--class-weights": class_weights}
        if (
            method != "bias_adjustment"
            or calibration is not None
            or cost_matrix is not None
            or any(value is not None for value in others.values())
        ):
            raise BadCache(
                "--stream fits bias_adjustment by its exact search, without --train, --test, --cost-matrix, "
                "--calibration, --prevalence, --negatives-kept or --class-weights"
            )
        result = _streamed(str(cache), metric, constraint, positive, known)
    else:
        from rich.console import Console  # not before: a server, which is the same command, has no use for it

        with Console(stderr=True).status("fitting"):
            result = fit_point(
                read_rows(cache, *columns),
                metric=metric,
                constraints=constraint,
                method=method,
                search=search,
                digits=digits,
                tau=tau,
                positive=positive,
                train=None if train is None else read_rows(train, *columns),
                evidence=True if test is None else read_rows(test, *columns),
                prior=known,
                prevalence=one_or_more(prevalence),
                negatives_kept=one_or_more(negatives_kept),
                class_weights=None if class_weights is None else shares(class_weights),
                cost_matrix=None if cost_matrix is None else matrix(cost_matrix),
                calibration=calibration,
            )
    if out is not None:
        write_out(out, result.to_json().encode())
    for path in report or []:
        result.report(title).write(path)
    if as_json:
        if out != STDOUT:  # else it has been printed
            print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    from calibrate.tables import print_result

    with beside(out):
        print_result(result)
    if out is not None and out != STDOUT:
        print(f"saved to {out}")


def evaluate(
    cache: Path,
    point: list[Path],
    metric: list[str] | None = None,
    *,
    scores: list[str] | None = None,
    labels: str | None = None,
    scores_are: str | None = None,
    classes: str | None = None,
    decimal: str | None = None,
    positive: str | None = None,
    threshold: list[float] | None = None,
    allow_other_model: bool = False,
    report: list[Path] | None = None,
    title: str = "Operating points",
    calibration: bool = False,
    as_json: bool = False,
) -> None:
    """Print how saved points, cuts in use and the plain model do on labelled rows that did not fit them.

    It is `setpoint evaluate` without a server, whose options these are.
    """
    rows = read_rows(cache, scores, labels, scores_are, classes, decimal)
    print_doubt(rows)
    known = frequencies(rows) if rows.prior is None else rows.prior.tolist()
    asked = [parse_metric(text, rows.classes, positive, known) for text in metric or []]
    metrics = list({each.name: each for each in (*standard_metrics(rows.classes, positive), *asked)}.values())
    sample = sample_of(rows, asked)
    found: dict[str, Mapping[str, Interval]] = {}
    quality: dict[str, CalibrationQuality] = {}
    points: dict[str, OperatingPoint] = {}
    purposes: dict[str, Purpose] = {}
    promised: dict[str, str] = {}
    for cut in threshold or []:
        name = f"threshold {cut!r}"
        points[name] = OperatingPoint.from_threshold(cut, rows.classes, positive=positive)
        purposes[name] = Purpose(rows.classes)
        evidence = held_out(points[name], sample, metrics)
        found["plain model"], found[name] = evidence.argmax, evidence.point
    for path in point:
        chosen = OperatingPoint.load(path)
        if chosen.classes != rows.classes:
            raise BadCache(
                f"{path} is for {', '.join(chosen.classes[:20])}; the rows have {', '.join(rows.classes[:20])}"
            )
        check_model_of(path, rows.origin, str(cache), allow=allow_other_model)
        if _fitted_on(path) == rows.digest:
            raise BadCache(f"{path} was fitted on these very rows, which would flatter it; pass other rows")
        evidence = held_out(chosen, sample, metrics)
        found.setdefault("plain model", evidence.argmax)
        name = path.stem if path.stem not in (*found, "points", "calibration") else str(path)
        found[name], points[name], purposes[name] = evidence.point, chosen, _purpose_of(path, chosen)
        if promise := _promised(path):
            promised[name] = promise
        if calibration:
            quality[name] = calibration_quality(rows, _map_of(path, chosen), point=chosen, positive=positive)
    bounds = {name: kept_bounds(purposes[name], points[name], rows) for name in points}
    if calibration:
        quality = {"plain model": calibration_quality(rows, positive=positive), **quality}
    for path in report or []:
        from calibrate.report.held_out import held_out_report

        facts = {f"{name} promises": promise for name, promise in promised.items()}
        held_out_report(
            rows, points, metrics=metric or ["f1"], positive=positive, title=title, facts=facts, purposes=purposes
        ).write(path)
    if as_json:
        said = {name: _plain(intervals) for name, intervals in found.items()}
        said["points"] = {name: described(purposes[name], bounds[name]) for name in points}
        if calibration:
            said["calibration"] = {name: each.to_dict() for name, each in quality.items()}
        print(json.dumps(said, ensure_ascii=False))
        return
    from calibrate.tables import print_calibration, print_intervals, print_purposes

    shown_class = positive_class(rows.classes, positive)
    of_class = "" if shown_class is None else f", positive class '{shown_class}'"
    print_purposes({name: (purposes[name], bounds[name]) for name in points})
    print_intervals(found, f"{rows.rows} rows from {cache}{of_class}")
    if calibration:
        print_calibration(quality)


def curve(
    cache: Rows,
    out: Annotated[Path, typer.Option(help="Where to write the table, as CSV; - for stdout.", show_default=False)],
    metric: Annotated[list[str] | None, typer.Option(help="Metrics to tabulate; the usual ones unless given.")] = None,
    scores: Scores = None,
    labels: Labels = None,
    scores_are: ScoresAre = None,
    classes: Classes = None,
    decimal: Decimal = None,
    positive: Positive = None,
    points: Annotated[int | None, typer.Option(help="About how many cuts to keep; all unless given.")] = None,
    prevalence: Annotated[float | None, typer.Option(help="The share of positives to tell it for.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the bands, which hold at all cuts at once.")] = 0.95,
) -> None:
    """Tabulate every cut of a two-class model, with bands that stay true at a cut chosen by looking."""
    rows = read_rows(cache, scores, labels, scores_are, classes, decimal)
    print_doubt(rows)
    found = trade_off(rows, metric or USUAL, positive=positive, prevalence=prevalence, confidence=confidence)
    found = found if points is None else found.thinned(points)
    found.write(sys.stdout if out == STDOUT else out)
    if out == STDOUT:
        return
    print(f"{found.cuts} cuts at a prevalence of {found.prevalence:.4g} written to {out}")


def _streamed(
    pattern: str, metric: str, constraints: list[str] | None, positive: str | None, prior: list[float] | None
) -> FitResult:
    """A fit in passes over the files, with a bar for each on the terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from calibrate.io.parquet import open_cache

    source = open_cache(pattern)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=source.rows)
            bars.update(tasks[what], completed=done)

        return fit_stream(source, metric=metric, constraints=constraints, positive=positive, prior=prior, progress=told)


def one_or_more(text: str | None) -> float | list[float] | None:
    """One number, or as many as were written with commas."""
    if text is None:
        return None
    numbers = shares(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _plain(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_dict() for name, interval in intervals.items()}


def _promised(path: Path) -> str:
    """The guarantees that a saved result holds, in words."""
    value = json.loads(path.read_text(encoding="utf-8"))
    listed = value.get("guarantees", []) if isinstance(value, dict) else []
    return "; ".join(f"{each['constraint']}, by {each['rule']} on {each['rows']} {each['unit']}" for each in listed)


def _purpose_of(path: Path, point: OperatingPoint) -> Purpose:
    """What a saved result was fitted for; of a point alone nothing is known."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return Purpose.of(value if isinstance(value, dict) else {}, point.classes)


def _fitted_on(path: Path) -> str | None:
    value = json.loads(path.read_text(encoding="utf-8"))
    return value.get("data_digest") if isinstance(value, dict) else None


def _map_of(path: Path, point: OperatingPoint) -> CalibrationMap | None:
    """The calibration map that a saved result says its point contains."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return CalibrationMap.from_dict(value.get("calibration") if isinstance(value, dict) else None, point.classes)


def matrix(text: str) -> Any:
    """The rows of a cost matrix that was written as JSON. Raises: `BadCosts`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCosts(f"a cost matrix is JSON, as [[0, 50], [1, 0]]; got {text[:100]!r}: {error}") from None


def shares(text: str) -> list[float]:
    """The numbers of a prior, or of the like, that was written with commas. Raises: `BadPrior`."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadPrior(f"shares must be numbers with commas between, as 0.95,0.05; got {text!r}") from None
