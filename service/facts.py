"""Errors as plain values and back: how one process tells another, or the store, what stood in the way."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from calibrate import errors as library
from calibrate.errors import Infeasible, Nearest, SetpointError
from service import errors


def to_plain(error: SetpointError) -> dict[str, Any]:
    """The kind of an error, its message, and of an infeasible objective what is nearest."""
    plain: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, Infeasible):
        plain["nearest"] = [asdict(each) for each in error.nearest]
    return plain


def from_plain(plain: Mapping[str, Any], otherwise: type[SetpointError] = SetpointError) -> SetpointError:
    """The error that `to_plain` told; of a kind that is not known here, `otherwise`."""
    kind = getattr(library, plain["kind"], None) or getattr(errors, plain["kind"], None)
    if kind is Infeasible:
        return Infeasible(plain["message"], tuple(Nearest(**each) for each in plain.get("nearest", ())))
    if not (isinstance(kind, type) and issubclass(kind, SetpointError)):
        kind = otherwise
    return kind(plain["message"])
