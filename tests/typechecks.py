"""How calls into the library are checked: beartype, but for `ArrayLike`, whose protocols it takes too literally.

Each function is checked on its first thousand calls in a process: a search calls its innermost ones a million times,
and a check takes longer than most of them.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype
from numpy.typing import ArrayLike

CHECKED_CALLS = 1000
# Sequences are array-like at run time without being its protocol; whether they fit is what `to_array` finds out.
_ANYTHING: Any = {ArrayLike: object, ArrayLike | None: object}
check: Any = beartype(conf=BeartypeConf(hint_overrides=FrozenDict(_ANYTHING), is_pep484_tower=True))
_jaxtyped: Any = jaxtyping.jaxtyped


def install() -> None:
    """Checks what is imported of the library from here on."""
    jaxtyping.jaxtyped = _sparingly  # type: ignore[assignment]  # the hook calls it with its keyword alone
    jaxtyping.install_import_hook("calibrate", f"{__name__}.check").__enter__()


def _sparingly(*, typechecker: Any) -> Callable[[Any], Any]:
    """In the place of jaxtyping's decorator, which its import hook puts on every function and dataclass."""

    def decorate(given: Any) -> Any:
        if isinstance(given, FunctionType):
            return _first_calls(given, _jaxtyped(given, typechecker=typechecker))
        made: Any = getattr(given, "__init__", None)
        if is_dataclass(given) and isinstance(made, FunctionType):
            setattr(given, "__init__", _first_calls(made, _jaxtyped(made, typechecker=typechecker)))  # noqa: B010
            return given
        return _jaxtyped(given, typechecker=typechecker)

    return decorate


def _first_calls(plain: Callable[..., Any], checked: Callable[..., Any]) -> Callable[..., Any]:
    left, is_within = CHECKED_CALLS, False

    @wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left, is_within
        if left <= 0 or is_within:  # a function that calls itself would need several times the stack
            return plain(*args, **kwargs)
        left, is_within = left - 1, True
        try:
            return checked(*args, **kwargs)
        finally:
            is_within = False

    return call
