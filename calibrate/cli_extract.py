"""`setpoint extract`: features and logits of labelled rows, at the command line."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from calibrate.cache import CacheStream, FeatureCache
from calibrate.cli import shares
from calibrate.cli_out import refuse_stdout
from calibrate.errors import BadModel
from calibrate.extraction.extract import extract as extract_rows
from calibrate.extraction.tables import arranged, read_inputs
from calibrate.io.origin import read_origin


def extract(
    model: Annotated[str, typer.Argument(help="An ONNX file; with --torch your own code, package.module:callable.")],
    data: Annotated[
        Path, typer.Argument(help="Labelled rows: .npz with 'inputs' (or the inputs' names), .csv, .parquet.")
    ],
    out: Annotated[Path, typer.Option(help="The feature cache to write: .npz, .parquet or .arrow.")],
    torch: Annotated[
        bool, typer.Option("--torch", help="Import MODEL, run the callable, and take the model that it returns.")
    ] = False,
    label: Annotated[str | None, typer.Option(help="Column or key of the labels; 'labels' unless told.")] = None,
    head: Annotated[str | None, typer.Option(help="A PyTorch model's linear head, as classifier.3.")] = None,
    output: Annotated[str | None, typer.Option(help="A model's output, where no linear head can be found.")] = None,
    output_kind: Annotated[
        str | None, typer.Option(help="What that output holds: logits or probabilities; no features then.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names in the order of the logits, as clear,fraud.")] = None,
    prior: Annotated[str | None, typer.Option(help="Training class frequencies, as 0.95,0.05.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training rows, whose labels give the frequencies.")] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows of a batch; 256 for networks unless told.")] = None,
    device: Annotated[str | None, typer.Option(help="As cuda:1 or cpu; the GPU where there is one.")] = None,
    autocast: Annotated[str | None, typer.Option(help="Mixed precision: bfloat16 or float16.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from an interrupted run.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a summary.")] = False,
) -> None:
    """Run a trained model over labelled rows and write its features or logits as a feature cache."""
    refuse_stdout(out, "--out", "a file, .npz, .parquet or .arrow")
    inputs, labels, columns = read_inputs(data, label)
    taken, made = (_imported(model), inputs) if torch else _onnx(model, inputs, output, output_kind)
    if torch and set(inputs) == {"inputs"}:
        made = inputs["inputs"]
    elif torch and data.suffix.lower() != ".npz":
        made = arranged(inputs, (), ()).astype("float32")  # type: ignore[union-attr]
    result = extract_rows(
        taken,
        made,
        labels=labels,
        **columns,
        head=head,
        output=output,
        output_kind=output_kind,
        classes=None if classes is None else classes.split(","),
        prior=None if prior is None else shares(prior),
        train_labels=None if train is None else read_inputs(train, label)[1],
        batch_rows=batch_rows,
        device=device,
        autocast=autocast,
        out=out,
        resume=resume,
        in_memory=out.suffix.lower() not in (".parquet", ".arrow", ".feather"),
    )
    _tell(result, out, as_json)


def _onnx(model: str, inputs: Any, output: str | None, output_kind: str | None) -> tuple[Path, Any]:
    """The file, and the inputs as its graph takes them."""
    from calibrate.io.description import read_description
    from calibrate.io.graph import read_model
    from calibrate.io.runtime_builds import warning_of_builds

    path = Path(model)
    if not path.exists():
        code = ", or for code of your own --torch" if ":" in model else ""
        raise BadModel(f"there is no file {model}; wanted an ONNX file{code}")
    if warning := warning_of_builds():
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    graph = read_model(path.read_bytes(), output=output, output_kind=output_kind)
    return path, arranged(inputs, graph.inputs, read_description(graph.metadata).columns)


def _imported(name: str) -> Any:
    """What the callable that is named `package.module:callable` returns. Raises: `BadModel`."""
    module, _, factory = name.partition(":")
    if not module or not factory:
        raise BadModel(f"with --torch MODEL is package.module:callable, got {name!r}")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that code beside the data is found
    try:
        made = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise BadModel(f"{name}: {error}") from None
    return made()


def _tell(result: FeatureCache | CacheStream, out: Path, as_json: bool) -> None:
    first = result if isinstance(result, FeatureCache) else next(result.batches())
    origin = read_origin(out)
    said = {
        "rows": result.rows,
        "classes": list(result.classes),
        "features": None if first.weight is None else first.weight.shape[1],
        "prior": None if result.prior is None else result.prior.tolist(),
        "origin": None if origin is None else asdict(origin),
        "out": str(out),
    }
    if as_json:
        print(json.dumps(said, ensure_ascii=False))
        return
    what = f"{said['features']} features (head {origin.head})" if origin is not None and origin.head else "logits"
    print(f"{result.rows} rows of {', '.join(result.classes[:20])}: {what}, saved to {out}")
    if result.prior is None:
        print("the training prior is not known: logit adjustment and prior thresholds need --prior or --train")
