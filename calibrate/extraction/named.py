"""Tables whose columns carry names, as models take them: matched by name, whatever the order in which they come.

Decided here: a model's own names are its inputs, its described columns, or the columns that it was fitted with. Only
where it has none do columns go by their place.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from calibrate.errors import BadCache, WrongColumns, shown
from calibrate.io.columns import code_array, input_columns
from calibrate.io.description import Column
from calibrate.io.model import Port
from calibrate.names import column_names, positions_by_name, positions_of


def in_order(table: Any, wanted: Sequence[str] | None, what: str) -> Any:
    """Return a table (pandas, polars, Arrow) with its columns in the wanted order.

    What is no table, and any table of a model without names, stays as it is. Raises: `WrongColumns`.
    """
    names = column_names(table)
    if names is None or wanted is None:
        return table
    order = positions_by_name(names, list(wanted), what)
    return table if order == list(range(len(names))) else _taken(table, order)


def _taken(table: Any, order: list[int]) -> Any:
    if hasattr(table, "iloc"):
        return table.iloc[:, order]
    return table.select(order) if hasattr(table, "column_names") else table[:, order]


def columns_of(table: Any) -> dict[str, np.ndarray] | None:
    """Return the columns (n,) of a table (pandas, polars, Arrow) by name, with None for a missing text.

    None of what is no table. Raises: `WrongColumns` for a column that comes twice.
    """
    names = column_names(table)
    if names is None:
        return None
    texts = [str(name) for name in names]
    if (repeated := next((name for name in texts if texts.count(name) > 1), None)) is not None:
        raise WrongColumns(f"column {shown(repeated)} comes more than once")
    return {name: _column(table, i) for i, name in enumerate(texts)}


def _column(table: Any, place: int) -> np.ndarray:
    if hasattr(table, "iloc"):
        column = table.iloc[:, place]
        values = np.asarray(column.to_numpy())
        if values.dtype.kind == "O":
            values = values.copy()
            values[column.isna().to_numpy()] = None
        return values
    column = table.column(place) if hasattr(table, "column_names") else table.to_series(place)
    return np.asarray(column.to_numpy())


def to_inputs(
    columns: Mapping[str, np.ndarray], ports: Sequence[Port], described: Sequence[Column]
) -> dict[str, np.ndarray]:
    """Return the arrays of a model's inputs from named ones.

    Args:
    - columns: arrays by the names of the inputs, (n,) for an input of rows of one number; or, of the one input, its
      described columns (n,), or one array (n, ...). Texts of categories become their codes.
    - ports: the model's inputs.
    - described: the columns of its one input. Without any, columns go by their position.

    Raises: `WrongColumns`, `UnknownCategory`, `BadCache`, naming the column.
    """
    names = list(columns)
    if len(ports) != 1 or set(names) == {ports[0].name}:
        order = positions_by_name(names, [port.name for port in ports], "the model's inputs")
        return {
            port.name: columns[names[i]][:, np.newaxis]
            if len(port.shape) == 2 and columns[names[i]].ndim == 1
            else columns[names[i]]
            for port, i in zip(ports, order, strict=True)
        }
    port = ports[0]
    if len(columns) == 1 and columns[names[0]].ndim > 1:
        return {port.name: columns[names[0]]}
    return {port.name: side_by_side(columns, input_columns(described, ports), port.name, texts=port.dtype == "str")}


def side_by_side(
    columns: Mapping[str, np.ndarray], described: Sequence[Column], name: str, *, texts: bool = False
) -> np.ndarray:
    """Return columns (n,) as rows (n, d): in the described order, else in that of their numbers or as they come.

    `name` is the input's. With `texts` the columns are texts, else numbers, with codes for the texts of categories.

    Raises: `WrongColumns`, `UnknownCategory`, `BadCache`, naming the column.
    """
    names, what = list(columns), f"input {shown(name)}"
    if described:
        order = positions_by_name(names, [column.name for column in described], what)
    else:
        order = positions_of(names, None, name, what)
    parts = []
    for i, column in zip(order, described or [Column(names[i], "number", "") for i in order], strict=True):
        values = columns[names[i]]
        if values.ndim != 1:
            raise BadCache(f"column {shown(names[i])}: wanted one value a row, got shape {values.shape}")
        parts.append(values if texts else _numbers(values, column))
    return np.stack(parts, axis=1)


def _numbers(values: np.ndarray, column: Column) -> np.ndarray:
    what = f"column {shown(column.name)}"
    numbers = code_array(values, column, what)
    if numbers.dtype.kind not in "biuf":
        raise BadCache(f"{what}: wanted numbers, got {numbers.dtype}")
    return numbers


def is_columns(named: Mapping[str, Any], ports: Sequence[Port], described: Sequence[Column]) -> bool:
    """Return whether a dict of arrays holds columns of the one input: none is called as it, and each has one axis."""
    columns = {column.name for column in input_columns(described, ports)}
    if not columns & named.keys() or ports[0].name in named:
        return False
    return all(getattr(values, "ndim", 1) == 1 and not isinstance(values, Real) for values in named.values())
