"""Numbers off the wire: JSON read by hand into the arrays that a model takes.

Decided here: no pydantic on tensors, it costs ten times the parsing; a `null` is a missing value, NaN in a float input;
nothing is guessed, so a text where a number belongs is an error that names its place. A whole number for an input of
integers is taken to its last digit or refused, whatever stands beside it. Texts never reach numpy, whose arrays of them
are as wide as the longest: one long text among a million numbers would take all memory.
"""

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import orjson

from calibrate.errors import NoRows, UnknownLabel, WrongShape
from calibrate.io.model import Port
from service.errors import BadRequest

_IS_LITTLE = sys.byteorder == "little"
_BELOW_INT64 = -(2.0**63)  # is what the parser makes of -9223372036854775809 too; -2**63 itself comes as an int
_MOST_SHOWN = 20  # names in a message, of which a client may send thousands
_PACKED = ("float32", "float64")
_MOST_PACKED = 2**18  # numbers, that are a tuple of Python's for a moment


def read_json(body: bytes, what: str = "the body") -> dict[str, Any]:
    """The object in a request body, or in a part of it. Raises: `BadRequest`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must be a JSON object, got {kind_of(value)}")
    return value


def read_numbers(value: Any, name: str) -> list[Any]:
    """Numbers in rows, with no text among them; their shape is for the library to check. Raises: `WrongShape`."""
    if not isinstance(value, list) or not _types(value) <= {int, float, bool}:
        raise WrongShape(f"{name}: wanted numbers in rows of equal length")
    return value


def read_labels(value: Any) -> list[Any]:
    """Return labels as they came: a list of class names, or of numbers. Raises: `UnknownLabel`, `WrongShape`."""
    if not isinstance(value, list):
        raise WrongShape(f"labels: wanted 1 axis, a list of class names or indices, got {kind_of(value)}")
    types = set(map(type, value))
    if types != {str} and not types <= {int, float, bool}:
        raise UnknownLabel("labels must be class names or class indices, all of one kind")
    return value


def read_inputs(value: Any, ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """The arrays of a model's inputs: from a list of rows where it has one input, else from an object by input name.

    Raises: `BadRequest`, `WrongShape`, `NoRows`, each naming the input and the item.
    """
    if len(ports) == 1 and not isinstance(value, dict):
        return {ports[0].name: _tensor(value, ports[0])}
    names = [port.name for port in ports]
    if isinstance(value, dict):
        if value.keys() != set(names):
            raise BadRequest(f"inputs must have the names {', '.join(names)}; got {_listed(list(value))}")
    else:
        raise BadRequest(f"inputs must be an object with the names {', '.join(names)}, got {kind_of(value)}")
    return _even({port.name: _tensor(value[port.name], port) for port in ports})


def fit_inputs(given: Mapping[str, np.ndarray], ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """Arrays as the arrays of a model's inputs: the same memory where the type is the input's. NaN is a missing value.

    A texts' array is one of objects. Raises: `BadRequest`, `WrongShape`, `NoRows`, each naming the input and the item.
    """
    if given.keys() != {port.name for port in ports}:
        wanted = ", ".join(port.name for port in ports)
        raise BadRequest(f"inputs must have the names {wanted}; got {_listed(list(given))}")
    return _even({port.name: _fit(given[port.name], port) for port in ports})


def fit_columns(columns: Mapping[str, np.ndarray], port: Port) -> dict[str, np.ndarray]:
    """Columns of numbers of several types each as the type of an input: side by side they would become one type, in
    which a large whole number may be another. Raises: `BadRequest`, naming the column and the row.
    """
    if port.dtype == "str" or len({array.dtype for array in columns.values()}) < 2:
        return dict(columns)
    return {
        name: array if array.dtype.kind == "O" else _cast(array, port, f"input '{port.name}', column '{name[:100]}'")
        for name, array in columns.items()
    }


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return (", ".join(name[:100] for name in names[:_MOST_SHOWN]) or "none") + more


def _even(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if len(arrays) > 1:
        rows = {name: len(array) for name, array in arrays.items()}
        if len(set(rows.values())) > 1:
            raise WrongShape(f"inputs must have the same number of rows, got {rows}")
    return arrays


def _fit(array: np.ndarray, port: Port) -> np.ndarray:
    what = f"input '{port.name}'"
    if array.ndim == 0 or len(array) == 0:
        raise NoRows(f"{what}: wanted at least one row")
    _check_shape(array, port, what)
    if (array.dtype.kind == "O") != (port.dtype == "str"):
        raise WrongShape(f"{what}: wanted {port.dtype}, got {array.dtype}")
    if port.dtype == "str":
        _refuse(array, what, "a text", lambda item: isinstance(item, str))
        return array
    if array.dtype != port.dtype or array.dtype.kind == "f":
        array = _cast(array, port, what)
    return np.ascontiguousarray(array)


def _tensor(value: Any, port: Port) -> np.ndarray:
    what = f"input '{port.name}'"
    if not isinstance(value, list):
        raise WrongShape(f"{what}: wanted a list of rows, got {kind_of(value)}")
    if not value:
        raise NoRows(f"{what}: wanted at least one row")
    packed = pack_rows(value, port)
    if packed is not None:
        return packed
    array = _strings(value, what) if port.dtype == "str" else _numbers(value, port, what)
    _check_shape(array, port, what)
    return array


def pack_rows(value: list[Any], port: Port) -> np.ndarray | None:
    """Plain rows of numbers for a float input, in a third of the time that numpy takes; None where anything is out of
    line: `struct` takes numbers that fit, no text and no null.
    """
    if type(value[0]) is not list or len(port.shape) != 2 or port.dtype not in _PACKED or not _IS_LITTLE:
        return None
    rows, width = len(value), len(value[0]) if port.shape[1] is None else port.shape[1]
    if not 0 < rows * width <= _MOST_PACKED:
        return None
    numbers: list[Any] = value[0]
    if len(numbers) != width:
        return None
    if rows > 1:
        if set(map(type, value)) != {list} or set(map(len, value)) != {width}:
            return None
        numbers = []
        for row in value:
            numbers += row  # a row at once, a third of the time of a chain
    try:
        packed = _packer(rows * width, port.dtype)(*numbers)
    except (struct.error, OverflowError):
        return None
    return np.ndarray((rows, width), port.dtype, packed)


def pack_numbers(numbers: Sequence[Any], shape: tuple[int, int], dtype: str) -> np.ndarray | None:
    """Numbers row by row as an array of that shape, None where `pack_rows` would give none."""
    if dtype not in _PACKED or not _IS_LITTLE or not 0 < len(numbers) <= _MOST_PACKED:
        return None
    try:
        return np.ndarray(shape, dtype, _packer(len(numbers), dtype)(*numbers))
    except (struct.error, OverflowError):
        return None


def read_column(values: list[Any], port: Port, what: str) -> np.ndarray:
    """One number a row, (n,), as the type of an input; `what` begins messages. Raises: `BadRequest`, `WrongShape`."""
    array = _numbers(values, port, what)
    if array.ndim != 1:
        raise WrongShape(f"{what}: wanted one number a row, got {kind_of(values[0])} in row 0")
    return array


@lru_cache(maxsize=256)
def _packer(count: int, dtype: str) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{'f' if dtype == 'float32' else 'd'}").pack


def _check_shape(array: np.ndarray, port: Port, what: str) -> None:
    wanted, came = port.shape[1:], array.shape[1:]
    fits = wanted == came or all(w in (None, n) for w, n in zip(wanted, came, strict=False))
    if array.ndim != len(port.shape) or not fits:
        shown = ", ".join("any" if length is None else str(length) for length in wanted)
        raise WrongShape(f"{what}: wanted rows of shape ({shown}), got shape {came} for {len(array)} rows")


def _strings(value: list[Any], what: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=object)
    except ValueError:
        raise _uneven(value, what) from None
    _refuse(array, what, "a text", lambda item: isinstance(item, str))
    return array


def _numbers(value: list[Any], port: Port, what: str) -> np.ndarray:
    kind, types = np.dtype(port.dtype).kind, _types(value)
    if kind in "iu" and types != {float}:
        return _whole_numbers(value, types, port, what)
    try:
        array = np.array(value, dtype=None if types <= {int, float, bool} else object)
    except ValueError:
        raise _uneven(value, what) from None
    if kind in "iu":
        _refuse_first(array == _BELOW_INT64, array, what, f"to fit {port.dtype}")
    if array.dtype.kind == "O":
        loose = array
        may_miss = kind == "f"
        wanted = "a number or null" if may_miss else "a number"
        _refuse(loose, what, wanted, lambda item: isinstance(item, int | float) or (item is None and may_miss))
        array = loose.astype(np.float64)
    return _cast(array, port, what)


def _whole_numbers(value: list[Any], types: set[type], port: Port, what: str) -> np.ndarray:
    """Numbers for an input of integers, none of which passes through a type that cannot hold it.

    Raises: `WrongShape`, `BadRequest`.
    """
    try:
        if types <= {int, bool}:
            with suppress(OverflowError):
                return np.array(value, dtype=port.dtype)
        array = np.array(value, dtype=object)
    except ValueError:
        raise _uneven(value, what) from None
    _refuse(array, what, "a number", lambda item: isinstance(item, int | float))
    limits = np.iinfo(port.dtype)
    for at, item in np.ndenumerate(array):
        if type(item) is float and not item.is_integer():
            raise BadRequest(f"{what}{list(at)} has to be a whole number, got {item}")
        if not limits.min <= item <= limits.max or (type(item) is float and item == _BELOW_INT64):
            raise BadRequest(f"{what}{list(at)} has to fit {port.dtype}, got {item}")
        array[at] = int(item)
    return array.astype(port.dtype)


def _cast(array: np.ndarray, port: Port, what: str) -> np.ndarray:
    """Numbers as the type of the input, each as it was. Raises: `BadRequest`."""
    kind = np.dtype(port.dtype).kind
    if kind == "f":
        made = array
        if array.dtype != port.dtype:
            with np.errstate(over="ignore"):
                made = array.astype(port.dtype, copy=False)
        _refuse_first(np.isinf(made), array, what, f"to fit {port.dtype}")
        return made
    if kind == "b":
        _refuse_first((array != 0) & (array != 1), array, what, "to be true or false")
        return array.astype(port.dtype)
    if array.dtype.kind == "b":
        return array.astype(port.dtype)
    limits = np.iinfo(port.dtype)
    if array.dtype.kind == "f":
        _refuse_first(array != np.floor(array), array, what, "to be a whole number")
        wide = array if array.dtype.itemsize >= 8 else array.astype(np.float64)
        beyond = (wide < float(limits.min)) | (wide >= float(limits.max + 1))  # powers of two, which a float holds
    else:
        beyond = (array < limits.min) | (array > limits.max)
    _refuse_first(beyond, array, what, f"to fit {port.dtype}")
    return array.astype(port.dtype)


def _types(value: list[Any]) -> set[type]:
    """The types of the items of nested lists, at any depth."""
    level, found = value, set(map(type, value))
    while list in found:
        level = list(chain.from_iterable(item for item in level if type(item) is list))
        found = (found - {list}) | set(map(type, level))
    return found


def _refuse(array: np.ndarray, what: str, wanted: str, fits: Any) -> None:
    """Raises for the first item that does not fit."""
    for at, item in np.ndenumerate(array):
        if not fits(item):
            if isinstance(item, list):
                raise _uneven(array.tolist(), what)
            raise BadRequest(f"{what}{list(at)} must be {wanted}, got {kind_of(item)}")


def _uneven(value: list[Any], what: str) -> WrongShape:
    """Names the first row that is not as long as the first of all."""
    lengths = [f"{len(row)} items" if isinstance(row, list) else "no list" for row in value]
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    where = "" if odd is None else f", got {lengths[0]} in row 0 and {lengths[odd]} in row {odd}"
    return WrongShape(f"{what}: wanted rows of equal length{where}")


def _refuse_first(bad: np.ndarray, array: np.ndarray, what: str, wanted: str) -> None:
    if np.count_nonzero(bad):  # in half the time that `any` takes
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadRequest(f"{what}{list(at)} has {wanted}, got {array[at]}")


def kind_of(value: Any) -> str:
    """What a JSON value is, without its content."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
