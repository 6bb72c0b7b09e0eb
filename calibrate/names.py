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
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})", re.DOTALL)
_MOST_SHOWN = 20


def positions_by_name(names: Sequence[object], wanted: Sequence[str], what: str) -> list[int]:
    """Return for each of the `wanted` names the position of its column among `names`.

    `names` may also be the whole numbers 0 to k-1, as numbers or texts, in any order: they count the wanted names.
    `what` begins the message, as "logits" or "input 'x'".

    Raises: `WrongColumns`, which names the first column that comes twice, is missing or is not wanted.

    >>> positions_by_name(["fraud", "clear"], ["clear", "fraud"], "logits")
    [1, 0]
    """
    texts = [str(name) for name in names]
    if (repeated := next((name for name, times in Counter(texts).items() if times > 1), None)) is not None:
        raise WrongColumns(f"{what}: column {_shown(repeated)} comes more than once")
    places = {name: place for place, name in enumerate(texts)}
    listed = set(wanted)
    if places.keys() == listed:
        return [places[name] for name in wanted]
    if not places.keys() & listed and is_count(texts) and len(texts) == len(wanted):
        return [places[str(i)] for i in range(len(wanted))]
    if (unknown := next((name for name in texts if name not in listed), None)) is not None:
        raise WrongColumns(f"{what}: wanted the columns {_listed(wanted)}; got {_shown(unknown)}")
    missing = next(name for name in wanted if name not in places)
    raise WrongColumns(f"{what}: column {_shown(missing)} is missing from {_listed(texts)}")


def positions_of(names: Sequence[object], wanted: Sequence[str] | None, prefix: str, what: str) -> list[int]:
    """Return the positions of columns that may also be called `prefix_<name>`.

    With `wanted` the names are matched by `positions_by_name`. Where nothing names the columns (None), those that count
    from 0 go in that order, and any others stay where they are.

    Raises: `WrongColumns`, as `positions_by_name`; without `wanted` for columns that are numbered but come in another
    order (`V1, V10, V2`).

    >>> positions_of(["logits_fraud", "logits_clear"], ["clear", "fraud"], "logits", "logits")
    [1, 0]
    >>> positions_of(["features_1", "features_0"], None, "features", "features")
    [1, 0]
    """
    texts = [str(name) for name in names]
    if not (wanted and set(wanted) & set(texts)):
        texts = without_stem(texts, prefix)
    if wanted is not None:
        return positions_by_name(texts, wanted, what)
    if is_count(texts) or len(set(texts)) < len(texts):
        return positions_by_name(texts, [str(i) for i in range(len(texts))], what)
    _refuse_unordered(texts, what)
    return list(range(len(texts)))


def _refuse_unordered(names: Sequence[str], what: str) -> None:
    """Raise `WrongColumns` where names are one text with the numbers from 0 or 1 on, but not in that order."""
    parts = [_NUMBERED.fullmatch(name) for name in names]
    if any(part is None for part in parts) or len({part[1] for part in parts if part is not None}) > 1:
        return
    numbers = [int(part[2]) for part in parts if part is not None]
    if sorted(numbers) not in (list(range(len(numbers))), list(range(1, len(numbers) + 1))):
        return
    if place := next((i for i in range(1, len(numbers)) if numbers[i] < numbers[i - 1]), None):
        raise WrongColumns(
            f"{what}: nothing describes its columns, so they go by their position, but {_shown(names[place])} comes "
            f"after {_shown(names[place - 1])}: send them in the order of their numbers"
        )


def is_count(names: Sequence[object]) -> bool:
    """Return whether the names are the whole numbers from 0 on, each once, in any order."""
    texts = [str(name) for name in names]
    return all(_COUNT.fullmatch(text) for text in texts) and {int(text) for text in texts} == set(range(len(texts)))


def without_stem(names: Sequence[object], stem: str) -> list[str]:
    """Return the names without `stem` and an underscore, where every one begins so and goes on."""
    texts = [str(name) for name in names]
    start = f"{stem}_"
    has_stem = all(text.startswith(start) and text != start for text in texts)
    return [text.removeprefix(start) for text in texts] if has_stem else texts


def column_names(values: Any) -> list[Any] | None:
    """Return the column names of a table (pandas, polars, Arrow), in its order; None for what is no table."""
    names = getattr(values, "column_names", None)  # Arrow; its `columns` are the data
    if names is None:
        names = getattr(values, "columns", None)
    if names is None or callable(names) or not hasattr(values, "shape"):
        return None
    if hasattr(names, "start") and hasattr(names, "step"):  # pandas counted them, so nobody named them
        return None
    return list(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(str(name)[:100] for name in names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _shown(name: str) -> str:
    return repr(name[:100])
