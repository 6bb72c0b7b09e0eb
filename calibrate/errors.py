"""What can be wrong with what came in: one class a fact.

A message says what was wanted, what came and which item. Nothing here speaks of HTTP: the service gives each class a
status and a problem type in one table of its own.
"""


class SetpointError(Exception):
    """Base of every error that Setpoint raises on purpose."""


class InputError(SetpointError, ValueError):
    """What was given cannot be used."""


class BadCache(InputError):
    """A feature cache cannot be read: truncated, pickled, or with keys that do not fit together."""


class BadModel(InputError):
    """A model file cannot be read, or does not run as a classifier."""


class BadPoint(InputError):
    """An operating point is malformed, or does not belong to the model it is meant for."""


class BadPrior(InputError):
    """A prior is not a distribution over the classes with every entry above zero."""


class MissingClass(InputError):
    """A class has no rows, so nothing can be said of it."""


class MissingPrior(InputError):
    """A method needs the prior the model was trained under, and none was given."""


class NoHead(InputError):
    """A model's graph does not end in a linear layer that can be found."""


class NoRows(InputError):
    """An array has no rows."""


class NotFinite(InputError):
    """A number is NaN or infinite."""


class UndefinedMetric(InputError):
    """A metric is undefined (0/0) at every cut, so none is best."""


class UnknownClass(InputError):
    """A class name is not one of the classes."""


class UnknownLabel(InputError):
    """A label is neither the index nor the name of a class."""


class UnknownMethod(InputError):
    """There is no method, search or option of that name."""


class UnknownMetric(InputError):
    """There is no metric of that name."""


class WrongShape(InputError):
    """An array has the wrong number of axes, rows or columns."""


class NotConverged(SetpointError, RuntimeError):
    """A fit stopped before it reached its tolerance."""
