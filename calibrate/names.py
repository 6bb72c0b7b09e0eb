"""Columns that carry names are matched by them, wherever rows come in.

Decided here: one rule for every format. Names that are the wanted ones (a model's columns, its classes) are matched by
name, in whatever order they come; so are the whole numbers 0 to k-1, which count the wanted ones. A name that is not
wanted, one that is missing and one that comes twice are refused by name. Columns without names go by their position.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from calibrate.errors import WrongColumns

_COUNT = re.compile(r"0|[1-9][0-9]{0,8}")
_MOST_SHOWN = 20


def positions_by_name(names: Sequence[object], wanted: Sequence[str], what: str) -> list[int]:
    """Return for each of the `wanted` names the position of its column among `names`.

    `names` may also be the whole numbers 0 to k-1, as numbers or texts, in any order: they count the wanted names.
    `what` begins the message, as "logits" or "input 'x'".

    Raises: `WrongColumns`, which names the first column that comes twice, is missing or is not wanted.

    >>> positions_by_name(["fraud", "clear"], ["clear", "fraud"], "logits")
    [1, 0]
    """
    texts = [name if isinstance(name, str) else str(name) for name in names]
    if repeated := next((name for name, times in Counter(texts).items() if times > 1), None):
        raise WrongColumns(f"{what}: column {_shown(repeated)} comes more than once")
    places = {name: place for place, name in enumerate(texts)}
    listed = set(wanted)
    if places.keys() == listed:
        return [places[name] for name in wanted]
    if not places.keys() & listed and is_count(texts) and len(texts) == len(wanted):
        return [places[str(i)] for i in range(len(wanted))]
    if unknown := next((name for name in texts if name not in listed), None):
        raise WrongColumns(f"{what}: wanted the columns {_listed(wanted)}; got {_shown(unknown)}")
    missing = next(name for name in wanted if name not in places)
    raise WrongColumns(f"{what}: column {_shown(missing)} is missing from {_listed(texts)}")


def is_count(names: Sequence[object]) -> bool:
    """Return whether the names are the whole numbers from 0 on, each once, in any order."""
    texts = [str(name) for name in names]
    return all(_COUNT.fullmatch(text) for text in texts) and {int(text) for text in texts} == set(range(len(texts)))


def column_names(values: Any) -> list[Any] | None:
    """Return the column names of a table (pandas, polars, Arrow), in its order; None for what is no table."""
    names = getattr(values, "column_names", None)  # Arrow; its `columns` are the data
    if names is None:
        names = getattr(values, "columns", None)
    if names is None or callable(names) or not hasattr(values, "shape"):
        return None
    return list(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(str(name)[:100] for name in names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _shown(name: str) -> str:
    return repr(name[:100])
