"""`setpoint export`: a model and its operating points as one ONNX file."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli_models import AllowOtherModel, check_model_of
from calibrate.cli_out import STDOUT, beside, write_out
from calibrate.errors import BadPoint
from calibrate.origin import of_file


def export(
    model: Annotated[Path, typer.Argument(help="The model (.onnx).", show_default=False)],
    point: Annotated[
        list[Path], typer.Option(help="A saved point or result, by the file's name; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write the model with its points (.onnx); - for stdout.")],
    default: Annotated[
        str | None, typer.Option(help="The point that counts where a caller sends no index; the first unless told.")
    ] = None,
    allow_other_model: AllowOtherModel = False,
    output: Annotated[str | None, typer.Option(help="The model's output, where no linear head can be found.")] = None,
    output_kind: Annotated[str | None, typer.Option(help="What that output holds: logits or probabilities.")] = None,
) -> None:
    """Write operating points into a model's graph: one ONNX file that decides by itself."""
    from calibrate.io import export as exporting  # not before: it imports onnx, which a server does without

    points = {path.stem: exporting.read_point(path) for path in point}
    if len(points) < len(point):
        raise BadPoint(f"points are named by their files, whose names must differ: {', '.join(map(str, point))}")
    file_digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for each in point:
        check_model_of(each, of_file(file_digest), str(model), allow=allow_other_model)
    write_out(out, exporting.export(model, points, default=default, output=output, output_kind=output_kind))
    chosen = default or next(iter(points))
    listed = ", ".join(f"{i} {name}{' (the default)' if name == chosen else ''}" for i, name in enumerate(points))
    with beside(out):
        print(f"{'written' if out == STDOUT else f'saved to {out}'}; operating_point is {listed}")
