"""Feature caches as CSV: what a spreadsheet or a database writes.

Decided here: a line of names, then a row a line. `labels`, `group` and the numbers per row have their own names;
columns side by side are `features_0`, `features_1`, ... in the order of their numbers, and `logits_<class>` (or
`probabilities_<class>`), whose names are the classes; one logit a row is `logits`. Columns of other names are read by
`calibrate.io.score_tables`, whose caller names them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, UnknownLabel, shown
from calibrate.io.text_table import TextTable, read_excel_table, read_text_table
from calibrate.labels import can_only_index, labels_of_texts
from calibrate.names import is_count, positions_of, without_stem

_PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
_SCORES = ("logits", "probabilities")


def read_csv(source: Path | bytes, *, most_bytes: int) -> dict[str, Any]:
    """Return the arrays of a CSV file by key, not yet checked against each other. Raises: `BadCache`, `NoRows`."""
    return arrays_of(read_text_table(source, most_bytes=most_bytes))


def read_excel(source: Path | bytes) -> dict[str, Any]:
    """Return the same of the first sheet of an Excel workbook. Raises: `BadCache`, `NoRows`."""
    return arrays_of(read_excel_table(source))


def arrays_of(table: TextTable) -> dict[str, Any]:
    """Return the arrays of a table by key. Raises: `BadCache`, `WrongColumns`."""
    kinds = {name: _kind(name) for name in table.names}
    if "labels" not in kinds or (other := next((name for name, kind in kinds.items() if kind is None), None)):
        unknown = "labels is missing" if "labels" not in kinds else f"got {shown(other)}"
        raise BadCache(
            f"a cache has the columns labels, group, {', '.join(_PER_ROW)}, logits, logits_<class>, "
            f"probabilities_<class> and features_<number>; {unknown}. The columns are "
            f"{', '.join(map(shown, table.names[:20]))}: say which hold the scores and the labels (--scores, --labels, "
            "--scores-are; read_scores)"
        )
    wide: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if kind in ("features", *_SCORES):
            wide.setdefault(kind, []).append(name)
    scores = [kind for kind in _SCORES if kind in wide]
    if len(scores) > 1 or any(kind in wide[kind] and len(wide[kind]) > 1 for kind in scores):
        raise BadCache("the cache has a column 'logits' or 'probabilities' and others beside it: one or the other")
    numbers = [*(name for names in wide.values() for name in names), *(name for name in _PER_ROW if name in kinds)]
    columns = dict(zip(numbers, table.numbers(numbers), strict=True))
    arrays: dict[str, Any] = {name: columns[name] for name in _PER_ROW if name in kinds}
    if "group" in kinds:
        arrays["group"] = table.texts("group")
    if "features" in wide:
        arrays["features"] = _in_order(wide["features"], columns)
    labels = table.texts("labels")
    for kind in scores:
        names = wide[kind]
        stems = without_stem(names, kind)
        if names == [kind]:
            arrays[kind] = columns[kind]
        elif is_count(stems):
            arrays[kind] = _in_order(names, columns)
        else:
            arrays[kind] = np.stack([columns[name] for name in names], axis=1)
            arrays["classes"] = stems
    classes = arrays.get("classes", ())
    arrays["labels"] = labels_of_texts(labels, classes)
    if classes and not set(labels) <= set(classes) and can_only_index([0], classes):
        row = next(row for row, label in enumerate(labels) if label not in classes)
        raise UnknownLabel(
            f"column 'labels', row {row} is none of the classes that the columns are named by: "
            f"{', '.join(map(shown, classes[:20]))}"
        )
    return arrays


def _kind(name: str) -> str | None:
    stem = name.partition("_")[0]
    if name in ("labels", "group", *_PER_ROW):
        return name
    return stem if stem in ("features", *_SCORES) and (name != "features") else None


def _in_order(names: list[str], columns: dict[str, np.ndarray]) -> np.ndarray:
    """Columns side by side in the order of the numbers in their names, else as they stand. Raises: `WrongColumns`."""
    kind = names[0].partition("_")[0]
    return np.stack([columns[names[place]] for place in positions_of(names, None, kind, kind)], axis=1)
