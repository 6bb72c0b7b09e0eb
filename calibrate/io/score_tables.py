"""Scores and labels in a table whose columns have the names that their owner gave them.

A hospital's or a bank's export: a column of risks, one of outcomes, and others that are not needed. Decided here: the
caller names the columns and says what the scores are; neither is guessed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, shown
from calibrate.io.text_table import TextTable, check_names, is_excel, read_excel_table, read_text_table
from calibrate.labels import can_only_index, is_whole_number, labels_of_texts
from calibrate.logits import logits_from_probabilities
from calibrate.names import is_count, positions_by_name, without_stem

SCORES_ARE = ("probabilities", "logits", "margins")
_NUMBERS = ("sample_weight", "cost_fp", "cost_fn")
_MAX_BYTES = 64 * 2**30


def read_scores(
    source: str | Path | bytes,
    *,
    scores: str | Sequence[str],
    labels: str,
    scores_are: str,
    classes: Sequence[str] | None = None,
    decimal: str | None = None,
    most_bytes: int = _MAX_BYTES,
) -> dict[str, Any]:
    """Return the keyword arguments of `feature_cache` for the scores and labels in a table.

    Args:
        source: A CSV file (comma, semicolon or tab; UTF-8 or UTF-16), an Excel or a Parquet file; or the bytes of a CSV
            or Parquet file.
        scores: The column of scores for the second of two classes; or one column per class, named by the classes (also
            as `logits_fraud`, `probabilities_fraud`) or in the order of `classes`.
        labels: The column of labels: class names, or whole numbers as `calibrate.labels` reads them.
        scores_are: "probabilities", "logits", or "margins" (one score a row that grows with the second class).
        classes: Names in the order of the scores; needed where the labels are texts and the scores' columns are not
            named by them.
        decimal: The decimal mark, "." or ","; None takes it from the numbers where they leave no doubt.
        most_bytes: What the table may unpack to.

    Columns `sample_weight`, `cost_fp`, `cost_fn` and `group` are read too where there are any.

    Raises: `BadCache`, `WrongColumns`, `WrongShape`, `UnknownLabel`, `NoRows`, naming the column and the row.
    """
    if scores_are not in SCORES_ARE:
        raise BadCache(f"scores_are must be one of {', '.join(SCORES_ARE)}; got {shown(scores_are)}")
    columns = [scores] if isinstance(scores, str) else list(scores)
    if not columns or len(set(columns)) < len(columns):
        raise BadCache(f"scores must name columns, each once; got {', '.join(columns) or 'none'}")
    if scores_are == "margins" and len(columns) > 1:
        raise BadCache(f"margins are one column, got {', '.join(columns)}: pass them as logits")
    if labels in columns:
        raise BadCache(f"column {shown(labels)} cannot hold both scores and labels")
    table = _read(source, most_bytes, [*columns, labels, *_NUMBERS, "group"])
    beside = [name for name in _NUMBERS if name in table.names and name not in columns]
    values = table.numbers([*columns, *beside], decimal)
    arrays: dict[str, Any] = dict(zip(beside, values[len(columns) :], strict=True))
    if "group" in table.names:
        arrays["group"] = table.texts("group")
    matrix = np.stack(values[: len(columns)], axis=1)
    texts = table.texts(labels)
    names, stems = _classes(columns, scores_are, classes, texts), without_stem(columns, scores_are)
    if len(columns) > 1 and (set(stems) & set(names) or is_count(stems)):  # else they are in the order of the classes
        matrix = matrix[:, positions_by_name(stems, names, scores_are)]
    else:
        _check_order(columns, names)
    made = matrix[:, 0] if len(columns) == 1 else matrix
    arrays["logits"] = logits_from_probabilities(made) if scores_are == "probabilities" else made
    arrays["classes"] = names
    arrays["labels"] = labels_of_texts(texts, names)
    return arrays


def _check_order(columns: Sequence[str], classes: Sequence[str]) -> None:
    """Raise `BadCache` where columns that go by position look like the classes in another order: `p_dead, P_Alive`."""
    ends = [column.casefold() for column in columns]
    hits = [[i for i, name in enumerate(classes) if _ends_with(end, name.casefold())] for end in ends]
    listed = ", ".join(map(shown, classes))
    if len(columns) == 1:
        if hits[0] == [0]:
            raise BadCache(
                f"column {shown(columns[0])} is named as the first of {listed}, and one score a row speaks for the "
                "second: pass the classes in the other order"
            )
        return
    order = [hit[0] for hit in hits if len(hit) == 1]
    if sorted(order) == list(range(len(classes))) != order:
        raise BadCache(
            f"the columns {', '.join(map(shown, columns))} are named as the classes in another order than {listed}: "
            "pass the columns in the order of the classes"
        )


def _ends_with(text: str, name: str) -> bool:
    return text == name or text.endswith((f"_{name}", f" {name}", f".{name}", f"-{name}"))


def _classes(columns: Sequence[str], kind: str, classes: Sequence[str] | None, labels: list[str]) -> tuple[str, ...]:
    """The classes in the order of the scores. Raises: `BadCache`."""
    if classes is not None:
        return tuple(classes)
    different, k = sorted(set(labels)), len(columns)
    are_numbers = all(map(is_whole_number, different))
    are_truths = {text.lower() for text in different} <= {"true", "false"}
    listed = ", ".join(map(shown, different[:20]))
    if k == 1:
        if are_truths or (are_numbers and {float(text) for text in different} <= {0, 1}):
            return ("0", "1")
        if len(different) > 2:
            raise BadCache(f"one column of scores is for two classes, the labels are {listed}: name a column per class")
        orders = " or ".join(dict.fromkeys([",".join(different), ",".join(different[::-1])]))
        raise BadCache(
            f"the labels are {listed}, and which of them {shown(columns[0])} speaks for is not known: pass the two "
            f"classes, second the one that it speaks for (--classes {orders})"
        )
    stems = tuple(without_stem(columns, kind))
    if is_count(stems):
        return tuple(str(i) for i in range(k))
    if set(different) <= set(stems) or (are_numbers and not can_only_index([0], stems)):
        return stems
    raise BadCache(
        f"the labels are {listed}, the columns of scores {', '.join(columns)}: pass classes in the order of the columns"
    )


def _read(source: str | Path | bytes, most_bytes: int, wanted: Sequence[str]) -> TextTable:
    from calibrate.io.files import table_format  # which reads caches by these functions

    file = source if isinstance(source, bytes) else Path(source)
    if (table := table_format(file)) is not None:
        return _of_parquet(file, table, most_bytes, wanted)
    if is_excel(file):
        return read_excel_table(file)
    return read_text_table(file, most_bytes=most_bytes)


def _of_parquet(source: Path | bytes, file_format: str, most_bytes: int, wanted: Sequence[str]) -> TextTable:
    """The plain columns of a Parquet file as texts: 17 digits hold every float64."""
    import pyarrow as pa

    from calibrate.io.table_claims import check_size
    from calibrate.io.table_files import opened, parquet_file, readable

    if file_format != "Parquet":
        raise BadCache("scores are read from CSV, Excel and Parquet; an Arrow file is read as a feature cache")
    with readable(file_format, source), opened(source) as stream, parquet_file(stream) as file:
        metadata = file.metadata
        check_size(sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), most_bytes)
        names = list(file.schema_arrow.names)
        check_names(names)
        plain = [
            field.name for field in file.schema_arrow if field.name in wanted and not pa.types.is_nested(field.type)
        ]
        table = file.read(columns=plain)
        columns = {name: _as_text(column) for name, column in zip(plain, table.columns, strict=True)}
        return TextTable(columns, names)


def _as_text(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.fill_null(pc.cast(column, pa.string()), "")
