"""Labelled rows at the command line: a feature cache, or scores and labels in columns that have names of their own."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cache import FeatureCache, doubt_of, feature_cache
from calibrate.errors import BadCache
from calibrate.io.files import read_cache
from calibrate.io.score_tables import SCORES_ARE, read_scores

Scores = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of scores in a CSV, Excel or Parquet file; repeatable, one for each class. Needs --labels and "
        "--scores-are."
    ),
]
Labels = Annotated[str | None, typer.Option(help="Column of the labels, with --scores.")]
ScoresAre = Annotated[str | None, typer.Option(help=f"What the scores are: {', '.join(SCORES_ARE)}.")]
Classes = Annotated[
    str | None,
    typer.Option(help="Class names in the order of the scores, as clear,fraud; one score is the second's."),
]
Decimal = Annotated[str | None, typer.Option(help="The decimal mark of the scores, . or , where it is in doubt.")]


def read_rows(
    path: Path,
    scores: list[str] | None = None,
    labels: str | None = None,
    scores_are: str | None = None,
    classes: str | None = None,
    decimal: str | None = None,
) -> FeatureCache:
    """Return the rows of a cache, or of a table whose columns are named.

    Raises: `BadCache` where options are missing, and what `read_cache` and `read_scores` raise.
    """
    beside = {"--labels": labels, "--scores-are": scores_are}
    if not scores:
        beside |= {"--classes": classes, "--decimal": decimal}
        if alone := [name for name, value in beside.items() if value is not None]:
            raise BadCache(f"{alone[0]} is for a table of scores: name their column with --scores")
        cache = read_cache(path)
    elif labels is None or scores_are is None:
        missing = next(name for name, value in beside.items() if value is None)
        raise BadCache(f"--scores {scores[0]} needs {missing} too; scores are {', '.join(SCORES_ARE)}")
    else:
        names = None if classes is None else [name.strip() for name in classes.split(",")]
        cache = feature_cache(
            **read_scores(path, scores=scores, labels=labels, scores_are=scores_are, classes=names, decimal=decimal)
        )
    return cache


def print_doubt(cache: FeatureCache) -> None:
    """Print to stderr what is doubtful of rows that no fit warns of."""
    if (doubt := doubt_of(cache)) is not None:
        typer.echo(f"warning: {doubt}", err=True)
