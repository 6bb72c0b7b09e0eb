"""The data of `POST /calibrate` as arrays, from a file that holds what came in.

It is read in the worker's process, where a large body holds up nobody: neither this module nor what it imports knows of
HTTP or of the store.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache
from calibrate.io.csv_cache import read_csv
from calibrate.io.files import read_arrays, table_format
from calibrate.io.origin import find_origin
from calibrate.io.text_table import is_text
from calibrate.logits import logits_from_probabilities
from calibrate.origin import Origin
from service.domain import ModelVersion
from service.errors import BadRequest, TooLarge
from service.inference import SCORES, scores_to_logits
from service.web.records import read_by_class, read_rows
from service.web.tensors import read_json, read_labels, read_numbers

_START_BYTES = 4096
_PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
_FORMS = ("inputs", "features", *SCORES)
_DATA = {"labels", *_FORMS, "classes", "group", *_PER_ROW}
_EXCEL = b"[Content_Types].xml"  # the first file of every Office document


def read_call(body: bytes) -> tuple[dict[str, Any], Any]:
    """The call in a JSON body, and its data apart. Raises: `BadRequest`."""
    call = read_json(body)
    return call, call.pop("data", None)


def read_data(
    path: Path, form: str, version: ModelVersion, most_bytes: int, columns: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arrays in a file: of a call in JSON (`json`), or of an upload (`file`), for a version of a model.

    With `columns`, which `read_scores` takes, the file is a table of scores and labels under any names.

    Raises: `BadCache`, `BadRequest`, `WrongShape`, `UnknownLabel`, `NoRows`, each naming the item.
    """
    if form == "json" and columns is not None:
        raise BadRequest("columns name those of an uploaded table; data in JSON is named labels, probabilities, ...")
    if form == "json":
        return _from_json(read_call(path.read_bytes())[1], version)
    if path.stat().st_size == 0:
        raise BadCache("the cache is not a whole .npz file: it is empty")
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if _EXCEL in start or start.startswith(b"\xd0\xcf\x11\xe0"):  # a small one may unpack to any size
        raise BadCache("an Excel file is not read here: save it as CSV, and name its columns in the spec's 'columns'")
    if columns is not None:
        from calibrate.io.score_tables import read_scores

        return read_scores(path, **columns, classes=version.classes, most_bytes=most_bytes)
    file_format = table_format(path)
    if file_format is not None:
        from calibrate.io.parquet import read_table  # pyarrow takes long to import, and few bring such a file

        return read_table(path, file_format, most_bytes=most_bytes)
    if is_text(path):
        arrays = read_csv(path, most_bytes=most_bytes)
        if "probabilities" in arrays:
            arrays["logits"] = logits_from_probabilities(arrays.pop("probabilities"))
        return arrays
    return read_arrays(path, most_bytes=most_bytes)


def read_origin_of(path: Path, form: str) -> Origin | None:
    """Return which model made the rows in an upload (`file`), None where it does not say; JSON never does."""
    return None if form == "json" else find_origin(path, table_format(path))


def check_rows(labels: Any, most: int) -> None:
    """Raises `TooLarge` for more rows than a point may be fitted on."""
    if isinstance(labels, list | np.ndarray) and len(labels) > most:
        raise TooLarge(f"a point may be fitted on at most {most} rows, got {len(labels)}")


def _from_json(data: Any, version: ModelVersion) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadRequest(f"calibrate needs data: an object with labels, and one of {', '.join(_FORMS)}")
    if unknown := sorted(data.keys() - _DATA):
        raise BadRequest(f"data takes {', '.join(sorted(_DATA))}; got {unknown[0][:100]!r}")
    given = {name: value for name, value in data.items() if value is not None}
    if len(forms := [name for name in _FORMS if name in given]) > 1:
        raise BadRequest(f"data needs exactly one of {', '.join(_FORMS)}; got {' and '.join(forms)}")
    if "classes" in given:
        given["classes"] = _names(given["classes"])
    if "labels" in given:
        given["labels"] = read_labels(given["labels"])
    if "inputs" in given:
        version.check_runs()
        given["inputs"] = read_rows(given["inputs"], version.inputs, version.description.columns)
    for name in {"features", "margins", *_PER_ROW} & given.keys():
        given[name] = read_numbers(given[name], name)
    own = given.get("classes", ())
    classes = own if set(own) == set(version.classes) else version.classes  # in the order of the scores
    for kind in SCORES:
        if kind in given:
            value = given.pop(kind)
            scores = value if kind == "margins" else read_by_class(value, classes, kind)
            given["logits"] = scores_to_logits(kind, scores, classes)
    return given


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadRequest("classes must be a list of names")
    return value
