"""Check which model a saved point is of: one of another model is refused, an unknown one is warned of."""

import json
from pathlib import Path
from typing import Annotated

import typer

from calibrate.errors import OtherModel
from calibrate.origin import Origin, doubt_of, origin_of_saved

AllowOtherModel = Annotated[
    bool, typer.Option("--allow-other-model", help="Warn instead of refusing where a point is of another model.")
]


def check_model_of(path: Path, origin: Origin | None, what: str, *, allow: bool) -> None:
    """Compare the model of a saved point with that of `what`; a doubt is a line on the standard error.

    Raises: `OtherModel` unless `allow`.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    try:
        doubt = doubt_of(origin_of_saved(value) if isinstance(value, dict) else None, origin, (str(path), what))
    except OtherModel as error:
        if not allow:
            raise OtherModel(f"{error}; --allow-other-model goes on nevertheless") from None
        doubt = str(error)
    if doubt is not None:
        typer.echo(f"warning: {doubt}", err=True)
