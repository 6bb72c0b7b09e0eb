"""What can be wrong with what came in: one class a fact.

A message says what was wanted, what came and which item. Nothing here speaks of HTTP: the service gives each class a
status and a problem type in one table of its own.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


class SetpointError(Exception):
    """Base of every error that Setpoint raises on purpose."""


class InputError(SetpointError, ValueError):
    """What was given cannot be used."""


class BadCache(InputError):
    """A feature cache cannot be read: truncated, pickled, or with keys that do not fit together."""


class BadConstraint(InputError):
    """A constraint is not a metric, a sign and a bound, or asks for a promise that cannot be made."""


class BadCorrection(InputError):
    """A rate at which rows were kept in training, or a class weight, is not one number above zero per class."""


class BadCosts(InputError):
    """A cost matrix is malformed, or asks for what no decision rule can give."""


class BadExpression(InputError):
    """A metric's expression cannot be parsed, or uses what is not allowed in one."""


class BadModel(InputError):
    """A model file cannot be read, or does not run as a classifier."""


class BadPoint(InputError):
    """An operating point is malformed, or does not belong to the model it is meant for."""


class BadPrior(InputError):
    """A prior or a prevalence is not a distribution over the classes with every entry above zero."""


class BadReport(InputError):
    """A report is asked for in a form that there is not."""


class OtherModel(InputError):
    """Rows or a point of one model are used with another."""


class MissingClass(InputError):
    """A class has no rows, so nothing can be said of it."""


class MissingCosts(InputError):
    """A metric or method needs costs, and none were given."""


class MissingHead(InputError):
    """A method needs the model's last layer, and none that it can use was given."""


class MissingPrior(InputError):
    """A method needs the prior the model was trained under, and none was given."""


class NoHead(InputError):
    """A model's graph does not end in a linear layer that can be found."""


class NoRows(InputError):
    """An array has no rows."""


class NotFinite(InputError):
    """A number is NaN or infinite."""


@dataclass(frozen=True)
class Nearest:
    """How near a constraint can come: the value reached at `cut`, `alone` or while the other constraints hold.

    Of a constraint with a confidence `value` is `certifiable`, the best bound that can be promised now; it `needed` at
    least so many `unit` (rows of what class, alerts, groups) where `there` are so many.
    """

    constraint: str
    value: float
    cut: float | None
    alone: bool
    needed: int | None = None
    there: int | None = None
    unit: str | None = None
    certifiable: float | None = None


class Infeasible(InputError):
    """No operating point meets every constraint on these rows; `nearest` says how near each can come."""

    def __init__(self, message: str, nearest: tuple[Nearest, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


class UndefinedMetric(InputError):
    """A metric is undefined (0/0) at every cut, so none is best."""


class UnknownCategory(InputError):
    """A value of a column is none of the categories that the model's description names."""


class UnknownClass(InputError):
    """A class name is not one of the classes."""


class UnknownLabel(InputError):
    """A label is neither the index nor the name of a class."""


class UnknownMethod(InputError):
    """There is no method, search or option of that name."""


class UnknownMetric(InputError):
    """There is no metric of that name."""


class WrongColumns(InputError):
    """The named columns of a table are not those that are wanted: one is unknown, missing, or comes twice."""


class WrongShape(InputError):
    """An array has the wrong number of axes, rows or columns."""


class NotConverged(SetpointError, RuntimeError):
    """A fit stopped before it reached its tolerance."""


def shown(value: object) -> str:
    """What came, quoted for a message and cut off after 100 characters."""
    text = str(value)
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."


def did_you_mean(text: str, names: Sequence[str]) -> str:
    """Return the end of a message, with the name that a text is nearest to; empty where none is near.

    >>> did_you_mean("Recal", ["precision", "recall"])
    "; did you mean 'recall'?"
    """
    lowered = {name[:100].lower(): name for name in reversed(names[:1000])}
    nearest = difflib.get_close_matches(text[:100].lower(), lowered, n=1)
    return f"; did you mean {shown(lowered[nearest[0]])}?" if nearest else ""
