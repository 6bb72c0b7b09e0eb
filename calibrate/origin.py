"""Which model made some rows: what a cache and a fitted point know of it, and whether two of them name one model.

Decided here: the SHA-256 of a model's file (`file_digest`) is compared wherever both sides have one; it is what a
server keeps of a model version. Else digests are compared within one kind of model. A scikit-learn model's digest
changes when the model is pickled, so there only equal digests mean something. A torch module and the ONNX file exported
from it are not compared: whether they are one model is unknown, which is a warning and no refusal.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from calibrate.errors import OtherModel

_ANONYMOUS = ("scores", "function")  # what made the rows is not known to have been one model
_UNSTABLE = ("scikit-learn",)
_SHOWN = 12


@dataclass(frozen=True)
class Origin:
    """`model` says what made the rows ("torch", "onnx", ...), `head` which layer their features go into, if any.

    `model_digest` is the SHA-256 of the model's weights, `data_digest` that of `rows` inputs and labels in their order;
    `file_digest` is the SHA-256 of the model's file, None where the model was no file.
    """

    model: str
    model_digest: str
    data_digest: str
    rows: int
    head: str | None = None
    file_digest: str | None = None

    def to_text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def __str__(self) -> str:
        """Return the kind of model and the start of its digest."""
        digest = self.file_digest or self.model_digest
        return f"{self.model} {digest[:_SHOWN]}" if digest and self.model not in _ANONYMOUS else self.model


def origin_of(value: object) -> Origin | None:
    """Return the origin that a JSON value holds, None where it holds something else."""
    if not isinstance(value, Mapping) or value.keys() - {field.name for field in fields(Origin)}:
        return None
    texts = [value.get(name) for name in ("model", "model_digest", "data_digest")]
    optional = [value.get(name) for name in ("head", "file_digest")]
    if not all(isinstance(text, str) for text in texts) or type(value.get("rows")) is not int:
        return None
    return Origin(**value) if all(text is None or isinstance(text, str) for text in optional) else None


def of_file(digest: str, rows: int = 0) -> Origin:
    """Return the origin of rows of which only the SHA-256 of the model's ONNX file is known."""
    return Origin("onnx", "", "", rows, file_digest=digest)


def origin_of_saved(value: Mapping[str, Any]) -> Origin | None:
    """Return where the fitting rows of a saved result, or of a server's answer about a point, came from."""
    digest = value.get("model_digest")
    return origin_of(value.get("origin")) or (of_file(digest) if isinstance(digest, str) and digest else None)


def same_model(one: Origin | None, other: Origin | None) -> bool | None:
    """Return whether two origins name one model, None where that is unknown."""
    if one is None or other is None:
        return None
    if one.file_digest and other.file_digest:
        return one.file_digest == other.file_digest
    if one.model != other.model or one.model in _ANONYMOUS or not (one.model_digest and other.model_digest):
        return None
    same = one.model_digest == other.model_digest
    return None if one.model in _UNSTABLE and not same else same


def doubt_of(one: Origin | None, other: Origin | None, names: tuple[str, str]) -> str | None:
    """Return the warning where it is unknown whether one model made both; `names` are theirs, as texts show them.

    Raises: `OtherModel` where they are of different models.
    """
    same = same_model(one, other)
    if same:
        return None
    both = [
        f"{name} ({'unknown' if origin is None else origin})" for name, origin in zip(names, (one, other), strict=True)
    ]
    if same is None:
        return f"it is unknown whether one model made {both[0]} and {both[1]}"
    digests = [each.file_digest or each.model_digest for each in (one, other) if each is not None]
    raise OtherModel(
        f"{names[0]} and {names[1]} are of different models: {one} and {other}, with the digests {digests[0]} and "
        f"{digests[1]}"
    )
