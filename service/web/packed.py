"""Rows as they lie in memory: `.npy` and Arrow bodies of `POST /predict`, and answers as `.npy`.

Decided here: what a body is, its first bytes say, never its content type, which many clients get wrong. What JSON says
beside its rows is in the address, the point also in a header. An answer is JSON unless `Accept` names
`application/x-npy`: then one record a row, with the class as its index, and the rest in headers.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import numpy as np

from calibrate.errors import WrongColumns, shown
from calibrate.io.columns import code_array, input_columns
from calibrate.io.description import Column
from calibrate.io.model import Port
from calibrate.io.packed import npy_header
from calibrate.names import positions_by_name, positions_of
from service.errors import BadRequest
from service.inference import Answer, ScoreKind
from service.web.hot import Reply
from service.web.tensors import fit_columns

NPY = b"application/x-npy"
POINT_HEADER = b"setpoint-operating-point"
_FIELDS = ("model", "model_version", "operating_point", "compare", "rows", "priority", "timeout_ms")
_MOST_QUERY, _MOST_FIELDS = 8192, 200


def read_head(query: bytes, headers: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What the address, and the header `Setpoint-Operating-Point`, say beside the rows. Raises: `BadRequest`."""
    found, point = _read_query(query), headers.get(POINT_HEADER)
    return found if point is None else {"operating_point": point.decode("latin-1"), **found}


def refuse_head(query: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Of rows as JSON, which would be decided otherwise than their address or header asks. Raises: `BadRequest`."""
    if POINT_HEADER in headers:
        raise BadRequest(
            "with rows as JSON the header 'Setpoint-Operating-Point' belongs into the body: operating_point"
        )
    for field in query.split(b"&"):
        name = unquote_plus(field.partition(b"=")[0].decode("latin-1"))
        if name in _FIELDS:
            raise BadRequest(f"with rows as JSON {name!r} belongs into the body, not into the query")


@lru_cache(maxsize=1024)
def _read_query(query: bytes) -> Mapping[str, Any]:
    """What the address says beside the rows: `compare` may come more than once. Raises: `BadRequest`."""
    if len(query) > _MOST_QUERY:
        raise BadRequest(f"the query may have {_MOST_QUERY} bytes, got {len(query)}")
    if query.count(b"&") >= _MOST_FIELDS:
        raise BadRequest(f"the query may have at most {_MOST_FIELDS} fields, got more")
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in _FIELDS:
            raise BadRequest(f"with rows as .npy or Arrow the query takes {', '.join(_FIELDS)}; got {name[:100]!r}")
        if name == "compare":
            found.setdefault("compare", []).append(value)
        elif name in found:
            raise BadRequest(f"the query holds {name!r} more than once")
        else:
            found[name] = _number(name, value) if name in ("model_version", "priority", "timeout_ms") else value
    return found


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise BadRequest(f"{name} must be a whole number, got {value[:100]!r}")
    return int(value)


def to_inputs(
    found: np.ndarray | Mapping[str, np.ndarray], ports: Sequence[Port], columns: Sequence[Column] = ()
) -> Mapping[str, np.ndarray]:
    """Arrays by input: columns of the inputs' names; for one input one array, one column of lists, or its described
    columns in any order. Columns that nothing names go in their order.

    Raises: `BadRequest`, `WrongColumns`, `UnknownCategory`.
    """
    if isinstance(found, np.ndarray):
        if len(ports) != 1:
            names = ", ".join(port.name for port in ports)
            raise BadRequest(f"one array came, the model has the inputs {names}: send Arrow with a column for each")
        return {ports[0].name: found}
    if found.keys() == {port.name for port in ports}:
        return {
            port.name: found[port.name][:, np.newaxis]
            if len(port.shape) == 2 and found[port.name].ndim == 1
            else found[port.name]
            for port in ports
        }
    if len(ports) != 1:
        return found
    return {ports[0].name: by_column(found, ports[0], input_columns(columns, ports))}


def by_column(found: Mapping[str, np.ndarray], port: Port, described: Sequence[Column]) -> np.ndarray:
    """Columns (n,) as the rows (n, d) of an input: matched with the described ones by name, texts of categories by
    their codes; in their order where none is described. One column of lists is the rows themselves.

    Raises: `BadRequest`, `WrongColumns`, `UnknownCategory`.
    """
    if len(found) == 1 and next(iter(found.values())).ndim > 1:
        return next(iter(found.values()))
    names, what = list(found), f"input '{port.name}'"
    if not described:
        ordered = [names[i] for i in positions_of(names, None, port.name, what)]
        return _side_by_side(fit_columns({name: found[name] for name in ordered}, port))
    ordered = [names[i] for i in positions_by_name(names, [column.name for column in described], what)]
    _refuse_lists(found)
    arrays = {column.name: found[name] for column, name in zip(described, ordered, strict=True)}
    if port.dtype != "str":
        arrays = {
            column.name: code_array(arrays[column.name], column, f"{what}, column {shown(column.name)}")
            for column in described
        }
    return _side_by_side(fit_columns(arrays, port))


def to_features(found: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of features: one array, one column of lists, or columns in their order, in that of their numbers where they
    are `features_0`, `features_1`, ...

    Raises: `BadRequest`, `WrongColumns`.
    """
    return found if isinstance(found, np.ndarray) else _by_name(found, None, "features")


def to_scores(found: np.ndarray | Mapping[str, np.ndarray], classes: Sequence[str], kind: ScoreKind) -> np.ndarray:
    """Rows of scores: one array, one column of lists or of the one score of two classes, or a column for each class,
    named as it, in any order.

    Raises: `BadRequest`, `WrongColumns`.
    """
    if isinstance(found, np.ndarray):
        return found
    if len(found) == 1 and len(classes) == 2 and next(iter(found.values())).ndim == 1:
        (name,) = found
        if name.removeprefix(f"{kind}_") == classes[0]:
            raise WrongColumns(
                f"{kind}: one number a row is that of class {shown(classes[1])} over {shown(classes[0])}; got a column "
                f"{shown(name)} alone"
            )
        return found[name][:, np.newaxis]
    return _by_name(found, classes, kind)


def _by_name(found: Mapping[str, np.ndarray], wanted: Sequence[str] | None, kind: str) -> np.ndarray:
    if len(found) == 1 and next(iter(found.values())).ndim == 2:
        return next(iter(found.values()))
    names = list(found)
    ordered = [names[i] for i in positions_of(names, wanted, kind, kind)]
    return _side_by_side({name: found[name] for name in ordered})


def _side_by_side(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns as an array of two axes. Raises: `BadRequest`."""
    if len(found) > 1:
        _refuse_lists(found)
        if (
            any(column.dtype.kind == "O" for column in found.values())
            and len({c.dtype.kind for c in found.values()}) > 1
        ):
            name = next(name for name, column in found.items() if column.dtype.kind == "O")
            raise BadRequest(f"column {shown(name)} holds texts; wanted numbers in all columns")
    return np.stack(list(found.values()), axis=1)


def _refuse_lists(found: Mapping[str, np.ndarray]) -> None:
    for name, column in found.items():
        if column.ndim != 1:
            raise BadRequest(
                f"column {shown(name)} holds lists: columns must be named as the model's inputs, or be one column of "
                "lists, or numbers all"
            )


def npy_reply(found: Answer) -> Reply:
    """An answer under one point as records: `label` (the index of the class), `probabilities`, `adjusted`, `margin`."""
    n, k = found.probabilities.shape
    records = np.empty(n, _record(k))
    records["label"], records["margin"] = found.decided, found.margin
    records["probabilities"], records["adjusted"] = found.probabilities, found.adjusted
    headers = (
        (b"setpoint-model-version", b"%d" % found.version.version),
        (POINT_HEADER, found.points[0].label.encode()),
    )
    return Reply(_header(k, n) + records.tobytes(), NPY, headers)


@lru_cache(maxsize=256)
def _record(classes: int) -> np.dtype:
    return np.dtype([("label", "<i8"), ("probabilities", "<f8", (classes,)), ("adjusted", "<f8", (classes,)),
                     ("margin", "<f8")])  # fmt: skip


@lru_cache(maxsize=1024)
def _header(classes: int, rows: int) -> bytes:
    return npy_header(_record(classes), rows)
