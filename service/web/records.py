"""Rows in JSON as clients hold them: lists of numbers, records, or columns by name.

Decided here: names are matched by `calibrate.names`, never by their place; a key that is missing is refused, since only
null says that a value is missing. Input names come first, then the described columns of a model's one input. Lists of
numbers, which are most calls, are tried before anything else.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from calibrate.errors import NoRows, WrongColumns, WrongShape, shown
from calibrate.io.columns import input_columns, to_codes
from calibrate.io.description import Column
from calibrate.io.model import Port
from calibrate.names import is_count, positions_by_name, positions_of
from service.web.tensors import kind_of, pack_numbers, pack_rows, read_column, read_inputs, read_numbers

Match = Callable[[Sequence[str], str], list[int]]  # positions of the wanted names among keys; what messages call them


def read_rows(value: Any, ports: Sequence[Port], columns: Sequence[Column] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of a model's inputs from rows in a JSON body.

    Args:
    - value: lists of numbers in order; records, or one record; or an object of columns. Records and columns have the
      names of the inputs, or of the described columns of the one input. A category may be its text.
    - ports: the model's inputs.
    - columns: the columns of the one input, as the model describes them.

    Raises: `WrongColumns`, `UnknownCategory`, `BadRequest`, `WrongShape`, `NoRows`, each naming the item.
    """
    if len(ports) == 1 and type(value) is list and value:
        packed = pack_rows(value, ports[0])
        if packed is not None:
            return {ports[0].name: packed}
    names = [port.name for port in ports]
    if isinstance(value, dict) and value.keys() == set(names) and _has_lists(value):
        return read_inputs({port.name: _as_rows(value[port.name], port) for port in ports}, ports)
    if _is_by_input(value, names):
        by_input = _table(value, lambda keys, what: positions_by_name(keys, names, what), "inputs") or []
        values = {port.name: _as_rows(list(column), port) for port, column in zip(ports, by_input, strict=True)}
        return read_inputs(values, ports)
    if len(ports) != 1:
        return read_inputs(value, ports)
    described, what = input_columns(columns, ports), f"input '{ports[0].name}'"
    table = _coded_rows(value, described, ports[0]) or _table(value, _matching(described), what)
    if table is None:
        return read_inputs(value, ports)
    return {ports[0].name: _side_by_side(table, described, ports[0])}


def read_by_class(value: Any, classes: Sequence[str], name: str) -> list[Any]:
    """Return scores in rows, from lists in the order of the classes, or from records or columns by class name.

    `name` is the field that they come in, as "logits", which may also stand before a class: `logits_<class>`.

    Raises: `WrongColumns`, `WrongShape`.
    """
    table = _table(value, lambda keys, what: positions_of(keys, classes, name, what), name)
    return read_numbers(value if table is None else [list(row) for row in zip(*table, strict=True)], name)


def _is_by_input(value: Any, names: Sequence[str]) -> bool:
    """Whether a value is records by input name; of several inputs any records are."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict) or (first is value and _has_lists(first)):
        return False
    return len(names) > 1 or first.keys() == set(names)


def _has_lists(value: dict[str, Any]) -> bool:
    return not value or any(isinstance(item, list | dict) for item in value.values())


def _as_rows(values: Any, port: Port) -> Any:
    """One value a row as a list of one, where the input's rows are lists of one number."""
    is_column = len(port.shape) == 2 and port.shape[1] in (1, None) and isinstance(values, list)
    return [[item] for item in values] if is_column and not any(isinstance(item, list) for item in values) else values


def _matching(described: Sequence[Column]) -> Match:
    """Matches keys with described columns, or with the numbers of columns that are not described."""
    names = [column.name for column in described]

    def match(keys: Sequence[str], what: str) -> list[int]:
        if not described:
            if not keys or not is_count(keys):
                raise WrongColumns(
                    f"{what}: the model does not describe its columns, so names cannot be matched; got "
                    f"{shown(next(iter(keys), ''))}. Send rows as lists of numbers in the model's order, or register "
                    "it with columns"
                )
            return positions_by_name(keys, [str(i) for i in range(len(keys))], what)
        try:
            return positions_by_name(keys, names, what)
        except WrongColumns as error:
            present = set(keys)
            missing = next((column for column in described if column.name not in present), None)
            if missing is None or not present <= set(names):
                raise
            treated = f" ({missing.missing})" if missing.missing else ""
            raise WrongColumns(f"{error}; send null where the value is not known{treated}") from None

    return match


def _table(value: Any, match: Match, what: str) -> list[Sequence[Any]] | None:
    """The columns of records, of one record, or of an object of columns, as `match` orders them; None of neither."""
    if isinstance(value, dict):
        if _has_lists(value):
            return _columns(value, match, what)
        value = [value]
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return None
    matched: dict[str, Any] | None = None  # the record whose keys `take` takes
    rows: list[Sequence[Any]] = []
    for row, record in enumerate(value):
        if not isinstance(record, dict):
            raise WrongShape(f"{what}, row {row}: wanted an object, as row 0 is, got {kind_of(record)}")
        if matched is None or record.keys() != matched.keys():
            keys, matched = list(record), record
            ordered = [keys[i] for i in match(keys, f"{what}, row {row}")]
            take = itemgetter(*ordered) if len(ordered) > 1 else _one(ordered[0])
        rows.append(take(record))
    return list(zip(*rows, strict=True))


def _one(key: str) -> Callable[[dict[str, Any]], tuple[Any]]:
    return lambda record: (record[key],)


def _columns(value: dict[str, Any], match: Match, what: str) -> list[Sequence[Any]]:
    keys = list(value)
    ordered = [keys[i] for i in match(keys, what)]
    for key in ordered:
        if not isinstance(value[key], list):
            raise WrongShape(f"{what}, column {shown(key)}: wanted a list, got {kind_of(value[key])}")
        if len(value[key]) != len(value[ordered[0]]):
            raise WrongShape(
                f"{what}: wanted columns of equal length, got {len(value[ordered[0]])} rows in {shown(ordered[0])} and "
                f"{len(value[key])} in {shown(key)}"
            )
    if not ordered or not value[ordered[0]]:
        raise NoRows(f"{what}: wanted at least one row")
    return [value[key] for key in ordered]


def _coded_rows(value: Any, described: Sequence[Column], port: Port) -> list[Sequence[Any]] | None:
    """The columns of plain rows where a category stands as its text; None of all else, which is read as it is."""
    if port.dtype == "str" or not any(column.codes for column in described) or not isinstance(value, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(described) for row in value):
        return None
    table: list[Sequence[Any]] = list(zip(*value, strict=True))
    has_texts = any(
        isinstance(item, str) for column, items in zip(described, table, strict=False) if column.codes for item in items
    )
    return table if has_texts else None


def _side_by_side(table: Sequence[Sequence[Any]], described: Sequence[Column], port: Port) -> np.ndarray:
    """Columns of n values each as the rows (n, d) of an input. Raises: `UnknownCategory`, and as `read_inputs`."""
    if port.dtype == "str" or len(port.shape) != 2 or (not described and port.shape[1] not in (None, len(table))):
        return read_inputs([list(row) for row in zip(*table, strict=True)], [port])[port.name]
    columns = described or [Column(str(i), "number", "") for i in range(len(table))]
    if np.dtype(port.dtype).kind == "f" or any(column.codes for column in columns):
        table = [
            to_codes(values, column, _named(port, column)) if column.codes or None in values else values
            for column, values in zip(columns, table, strict=True)
        ]
    shape = len(table[0]), len(table)
    packed = pack_numbers(list(chain.from_iterable(zip(*table, strict=True))), shape, port.dtype)
    if packed is not None:
        return packed
    parts = [
        read_column(list(values), port, _named(port, column)) for column, values in zip(columns, table, strict=True)
    ]
    return np.stack(parts, axis=1)


def _named(port: Port, column: Column) -> str:
    return f"input '{port.name}', column {shown(column.name)}"
