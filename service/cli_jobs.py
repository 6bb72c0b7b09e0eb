"""`setpoint calibrate` and `setpoint jobs`: calibrations on a running server, waited for with a bar, looked up,
cancelled.

Decided here: the command asks for a job and never holds a request open, so a connection that breaks loses nothing;
Ctrl+C cancels what it waits for, as it ends any other command's work.
"""

import json
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from calibrate import cli as library
from calibrate.errors import InputError
from service.cli_points import Override, print_table, published, what_next
from service.client import Client, Refused, in_options
from service.terminal import plain, say

jobs = typer.Typer(name="jobs", no_args_is_help=True, help="List, show and cancel calibrations of a running server.")

Server = Annotated[str, typer.Option(envvar="SETPOINT_SERVER", help="The server's address.")]
JobId = Annotated[str, typer.Argument(help="The job's id, as the list shows it.")]
SERVER = "http://127.0.0.1:8000"
OVER = ("done", "failed", "cancelled")
_LOOK_S = 0.3
_STAGES = ("queued", "starting", "reading", "logits", "fitting", "evidence", "scores", "curve", "publishing")


def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            help="A feature cache (.npz, .parquet, .arrow or .csv), or a table of scores and labels (--scores)."
        ),
    ],
    model: Annotated[str, typer.Option(help="The model's name.")],
    metric: Annotated[str, typer.Option(help="What to fit for, as f1 or recall[fraud].")],
    name: Annotated[str | None, typer.Option(help="The point's name; the file's unless told.")] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help="What must hold too, once for each, as 'recall >= 0.9'.")
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            help="The table's column of scores, of the second of two classes; once for each class in any order."
        ),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="The table's column of labels.")] = None,
    scores_are: Annotated[
        str | None, typer.Option(help="What the scores are: probabilities, logits or margins (log-odds).")
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="The table's decimal mark where it is in doubt: . or ,")] = None,
    method: Annotated[str, typer.Option(help="The method.")] = "bias_adjustment",
    search: Annotated[str | None, typer.Option(help="bias_adjustment: as of 'setpoint fit'.")] = None,
    digits: Annotated[int | None, typer.Option(help="search decimal: how many digits, 3 by default.")] = None,
    tau: Annotated[float | None, typer.Option(help="logit_adjustment: fitted unless given.")] = None,
    positive: Annotated[str | None, typer.Option(help="The positive class; of two the second by default.")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Training class frequencies, as 0.95,0.05; else the file's, the model's.")
    ] = None,
    prevalence: Annotated[
        str | None, typer.Option(help="Where it will be used: the positive share, as 0.02, or all, as 0.98,0.02.")
    ] = None,
    negatives_kept: Annotated[
        str | None, typer.Option(help="Share of the negatives that training kept, as 0.1; or of every class, as 0.1,1.")
    ] = None,
    class_weights: Annotated[str | None, typer.Option(help="Weights of the training loss by class, as 1,20.")] = None,
    cost_matrix: Annotated[
        str | None, typer.Option(help="JSON, a row for each decision, a column for each true class.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="A calibration map before the method, kept if it gains; or auto.")
    ] = None,
    model_version: Annotated[
        int | None, typer.Option(help="The version to fit for; the default's unless told.")
    ] = None,
    make_default: Annotated[
        str | None, typer.Option(metavar="REASON", help="Also make it the default; the reason is kept.")
    ] = None,
    override: Override = False,
    allow_other_model: Annotated[
        bool, typer.Option("--allow-other-model", help="Also where another model file made the rows; this is kept.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="An idempotency key: the same call under it is one job, however often made.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the point.")] = True,
    server: Server = SERVER,
    as_json: library.Json = False,
) -> None:
    """Fit an operating point on a running server and publish it. Ctrl+C cancels."""
    spec: dict[str, Any] = {
        "model": model,
        "name": name or file.stem,
        "metric": metric,
        "constraints": constraint or [],
        "method": method,
        "search": search,
        "digits": digits,
        "tau": tau,
        "positive": positive,
        "prior": None if prior is None else library.shares(prior),
        "prevalence": library.one_or_more(prevalence),
        "negatives_kept": library.one_or_more(negatives_kept),
        "class_weights": None if class_weights is None else library.shares(class_weights),
        "cost_matrix": None if cost_matrix is None else library.matrix(cost_matrix),
        "calibration": calibration,
        "model_version": model_version,
        "make_default": make_default is not None,
        "reason": make_default or "",
        "override": override,
    }
    if allow_other_model:
        spec["allow_other_model"] = True
    columns = _columns(scores, labels, scores_are, decimal)
    if columns is not None:
        spec["columns"] = columns
    with Client(server) as client:
        job = client.calibrate(file, spec, key or uuid.uuid4().hex)
        if wait:
            job = _waited(client, job)
    if as_json:
        say(json.dumps(job, ensure_ascii=False))
    elif not wait:
        say(f"job {job['id']} is {job['state']}: 'setpoint jobs show {job['id']}' tells how far it is")
    if job["state"] == "failed":
        raise Refused(f"the calibration failed: {in_options(job['error']['detail'])}")
    if job["state"] == "cancelled":
        raise Refused(f"job {job['id']} was cancelled")
    if wait and not as_json:
        say(*_said(job))


def _columns(
    scores: list[str] | None, labels: str | None, scores_are: str | None, decimal: str | None
) -> dict[str, Any] | None:
    """Which columns of a table hold what, None of a feature cache. Raises: `InputError` where some are missing."""
    options = {"--scores": scores, "--labels": labels, "--scores-are": scores_are}
    if not any([*options.values(), decimal]):
        return None
    if missing := [name for name, value in options.items() if not value]:
        raise InputError(
            f"a table of scores needs --scores, --labels and --scores-are, as --scores risk --labels died --scores-are "
            f"probabilities; {missing[0]} is missing"
        )
    return {"scores": scores, "labels": labels, "scores_are": scores_are, "decimal": decimal}


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
    server: Server = SERVER,
    as_json: library.Json = False,
) -> None:
    """Calibrations, the newest first."""
    with Client(server) as client:
        found = client.jobs(limit)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    rows = [["job", "state", "model", "point", "fitted for", "by", "asked for"]]
    for job in found:
        point = job["operating_point"] or job["name"]
        asked = job["fitted_for"], job["principal"], job["created_at"][:19]
        rows.append([job["id"], _state(job), job["model"], point, *asked])
    print_table(rows)  # whole, however narrow the screen is: the ids are what other commands take


@jobs.command()
def show(job_id: JobId, server: Server = SERVER, as_json: library.Json = False) -> None:
    """One calibration: its state, how far it is, and what came of it."""
    with Client(server) as client:
        job = client.job(job_id)
    if as_json:
        say(json.dumps(job, ensure_ascii=False))
    elif job["state"] == "done":
        say(*_said(job))
    elif job["state"] == "failed":
        say(f"failed: {in_options(job['error']['detail'])}")
    else:
        say(_state(job))


@jobs.command()
def cancel(job_id: JobId, server: Server = SERVER, as_json: library.Json = False) -> None:
    """Cancel a calibration that waits or runs."""
    with Client(server) as client:
        job = client.cancel(job_id)
    say(json.dumps(job, ensure_ascii=False) if as_json else f"job {job_id} is {job['state']}")


def _waited(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it is over; a bar on the standard error shows how far it is."""
    from rich.console import Console  # it takes long to import, and `setpoint serve` needs none of it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("queued", total=len(_STAGES))
            while job["state"] not in OVER:
                stage = (job["progress"] or {}).get("stage", "queued")
                done = _STAGES.index(stage) if stage in _STAGES else 0
                bar.update(task, description=plain(_state(job)), completed=done)
                time.sleep(_LOOK_S)
                job = client.job(job["id"])
    except KeyboardInterrupt:
        client.cancel(job["id"])
        raise InputError(f"job {job['id']} was cancelled") from None
    return job


def _state(job: dict[str, Any]) -> str:
    progress = job["progress"] or {}
    words = [progress.get("stage") or job["state"]]
    if progress.get("rows"):
        words.append(f"{progress['rows']} rows")
    if progress.get("total"):
        words.append(f"{100 * (progress.get('done') or 0) // progress['total']} %")
    return ", ".join(words)


def _said(job: dict[str, Any]) -> list[str]:
    result = job["result"]
    lines = [published(result) + what_next(result)]
    found = result["evidence"].get(result["metric"])
    if found is not None and found["value"] is not None:
        kind = found["kind"].replace("_", "-")
        lines.append(f"{result['metric']} {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}), {kind}")
    return [*lines, *(f"warning: {text}" for text in result["warnings"])]
