"""`setpoint retrain`: a new last layer on cached features, its evidence, and the ONNX model with it inside."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli_out import STDOUT, refuse_stdout, write_out
from calibrate.errors import BadModel, InputError
from calibrate.heads import HEADS, retrain_head
from calibrate.io.files import read_cache, write_cache
from calibrate.naming import metric_names
from calibrate.origin import doubt_of, of_file


def retrain(
    train: Annotated[
        Path,
        typer.Argument(help="Cache of the training rows, with features: .npz, .parquet or .arrow.", metavar="CACHE"),
    ],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(HEADS)}.")] = "crt",
    validation: Annotated[
        Path | None, typer.Option(help="Cache of rows that trained nothing, for the evidence; none without.")
    ] = None,
    metric: Annotated[str, typer.Option(help=f"One of {metric_names()}; recall[CLASS]; or an expression.")] = (
        "balanced_accuracy"
    ),
    positive: Annotated[str | None, typer.Option(help="Positive class; of two the second unless named.")] = None,
    l2: Annotated[float | None, typer.Option(help="Weight decay of a trained head, 0.0005 unless told.")] = None,
    model: Annotated[Path | None, typer.Option(help="ONNX model whose head is to be replaced.")] = None,
    output: Annotated[str | None, typer.Option(help="The model's output, where it has several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the model with the new head; - for stdout.")] = None,
    out_cache: Annotated[
        Path | None, typer.Option(help="Where to write the validation rows under the new head, to fit points on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """Retrain a model's last layer on cached features; the result is a new model version."""
    if (model is None) != (out is None):
        raise InputError("--model and --out belong together: the model to change and where to write it")
    refuse_stdout(out_cache, "--out-cache", "a file, .npz, .parquet or .arrow")
    if out == STDOUT and as_json:
        raise InputError("--out - and --json would both write to standard output: leave one of them out")
    rows = None if validation is None else read_cache(validation)
    if out_cache is not None and rows is None:
        raise InputError("--out-cache writes the validation rows under the new head: pass --validation")
    from rich.console import Console  # not before: a server, which is the same command, has no use for it

    training = read_cache(train)
    data = None if model is None else _read(model)
    if data is not None:
        doubt = doubt_of(training.origin, of_file(_sha256(data)), (str(train), str(model)))
        if doubt is not None:
            typer.echo(f"warning: {doubt}", err=True)
    with Console(stderr=True).status("training"):
        head = retrain_head(training, method=method, validation=rows, metric=metric, positive=positive, l2=l2)
    origin = None
    if data is not None and out is not None:
        made = head.write_onnx(data, output=output)
        write_out(out, made)
        origin = of_file(_sha256(made), 0 if rows is None else rows.rows)
    if out_cache is not None and rows is not None:
        write_cache(out_cache, replace(head.cache_of(rows), origin=origin))
    if as_json:
        print(json.dumps(head.to_dict(), ensure_ascii=False))
        return
    console = Console(stderr=out == STDOUT)
    console.print(f"{method}: {HEADS[method].title}", style="bold", highlight=False, markup=False)
    console.print(f"trained on {head.rows} rows; {head.source}", highlight=False, markup=False)
    if head.evidence:
        from calibrate.tables import print_intervals

        print_intervals({"old head": head.before, "new head": head.evidence}, f"held out: {validation}", console)
    for warning in head.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    for path in (out, out_cache):
        if path is not None and path != STDOUT:
            console.print(f"saved to {path}", highlight=False, markup=False)


def _read(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except OSError as error:
        raise BadModel(f"{model}: {error.strerror}") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
