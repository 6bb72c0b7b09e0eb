"""Whether labelled rows are of the model version that they are sent for.

Decided here: rows that the server runs through the model are its own. A cache file says which model made its scores:
another ONNX file is refused, and what does not say it, as plain numbers in JSON never do, is a warning on the point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibrate.cache import feature_cache
from calibrate.errors import OtherModel
from calibrate.origin import Origin, of_file, same_model
from service.domain import ModelVersion

UNKNOWN = "the rows do not say which model made them"


@dataclass(frozen=True)
class Identity:
    """Which model made the rows, None where that is unknown, and what is to be warned of; `is_other` says that it is
    known to be another than that of the version.
    """

    origin: Origin | None
    warnings: tuple[str, ...] = ()
    is_other: bool = False


def identify(
    version: ModelVersion, arrays: Mapping[str, Any], origin: Origin | None, *, allow_other_model: bool = False
) -> Identity:
    """Compare what a file says of its rows, `origin`, with the version that they are sent for.

    Raises: `OtherModel` for rows of another ONNX file, unless that is allowed.
    """
    if version.kind == "scores":  # no file made its scores
        return Identity(origin)
    if arrays.get("inputs") is not None and arrays.get("features") is None and arrays.get("logits") is None:
        return Identity(of_file(version.digest))
    same = same_model(origin, of_file(version.digest))
    if same:
        return Identity(origin)
    if origin is None or same is None:
        return Identity(origin, (UNKNOWN if origin is None else f"{UNKNOWN} file: they come from {origin}",))
    what = f"the rows were made by the model file {origin.file_digest}; {version.shown} is {version.digest}"
    if not allow_other_model:
        raise OtherModel(
            f"{what}: send rows of this file, or for the version that made them; 'allow_other_model': true accepts "
            "them nevertheless, and is kept in the audit trail"
        )
    return Identity(origin, (what,), is_other=True)


def under_own_head(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return rows of another model with the logits that it gave them: its features say nothing under our head."""
    rows = {name: values for name, values in arrays.items() if name not in ("features", "weight", "bias")}
    if rows.get("logits") is None and arrays.get("weight") is not None:
        cache = feature_cache(**arrays)
        rows["logits"] = cache.logits
    return rows if rows.get("logits") is not None else dict(arrays)
