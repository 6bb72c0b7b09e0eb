"""The facts that can stand in the way of the service, beside those of the library.

They speak of what is so, never of HTTP: `service.web.errors` says which status each becomes.
"""

from collections.abc import Sequence

from calibrate.errors import InputError, SetpointError


class BadName(InputError):
    """A name is not made of letters, digits, `.`, `_` and `-`, or is too long."""


class BadRequest(InputError):
    """A request body is not what the route takes."""


class UnknownModel(SetpointError, LookupError):
    """There is no model of that name."""


class UnknownVersion(SetpointError, LookupError):
    """A model has no version of that number."""


class UnknownPoint(SetpointError, LookupError):
    """A model version has no operating point of that name and version."""


class UnknownCurve(SetpointError, LookupError):
    """An operating point has no trade-off curve: it has more than two classes, or was not fitted here."""


class UnknownJob(SetpointError, LookupError):
    """There is no job of that id, or it is another caller's."""


class UnknownAlias(SetpointError, LookupError):
    """A model has no alias of that name."""


class NotApproved(SetpointError):
    """An operating point may not answer: it is a draft, computed in the shadow only, or retired."""


class Conflict(SetpointError):
    """What is to be changed stands otherwise by now, or in a way that does not allow the change."""


class BadEvidence(SetpointError):
    """A point's own evidence speaks against letting it answer."""


class UnknownRoute(SetpointError, LookupError):
    """There is nothing at that address."""


class WrongVerb(SetpointError):
    """An address does not take that HTTP method."""

    def __init__(self, message: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Unauthorized(SetpointError):
    """The call carries no key or token, or a wrong one."""


class Forbidden(SetpointError):
    """The caller is known, but may not do this."""


class ForeignOrigin(SetpointError):
    """A web page of another site, or a host name that is not this server's, speaks to it."""


class TooMany(SetpointError):
    """The caller calls more often, or holds more at once, than it may."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnknownEncoding(SetpointError):
    """A request body is packed in a way that the server does not unpack."""


class TooSlow(SetpointError):
    """A request body took longer to come than the server waits."""


class Unsupported(SetpointError):
    """The protocol has this, and this server has not."""


class TooLarge(SetpointError):
    """A request body is larger than the server accepts."""


class TimedOut(SetpointError):
    """The answer was not there within the time that the call gave it."""


class NoGpu(SetpointError):
    """A GPU is required, and a model would run on the CPU."""


class OutOfMemory(SetpointError):
    """The device that a model runs on has not the memory for this run."""


class Unguarded(SetpointError):
    """The server would be open to others without a token or keys."""


class Busy(SetpointError):
    """Everything that could do this is at work; nothing was queued."""


class KeyReused(InputError):
    """An idempotency key was used before, for another request."""


class OverLimit(SetpointError):
    """A calibration needed more memory or time than it may take."""


class JobCancelled(SetpointError):
    """A calibration was cancelled before it was through."""


class JobIsOver(SetpointError):
    """A job that is done or has failed can no longer be cancelled."""


class JobLost(SetpointError):
    """A calibration's process ended before it was through, every time it was tried."""


class Starting(SetpointError):
    """The server is still loading its models; nothing was done."""


class StorageFailed(SetpointError):
    """What is stored could not be read or written; nothing was changed."""


class ModelFailed(SetpointError):
    """A model could not be run on this input."""
