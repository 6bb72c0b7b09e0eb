"""The nouns of the service, as frozen values, and the facts that can stand in the way.

A model has versions; a version has operating points; the default names one version and one point of it. Versions and
points are numbered, immutable and never reused: only the default moves. `name@version` is unique within a model, and a
point belongs to the model version that it was fitted on or published for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Float64

from calibrate.errors import InputError, SetpointError
from calibrate.io.description import Description
from calibrate.io.model import OutputKind, Port
from calibrate.logits import softmax
from calibrate.maps import CalibrationMap
from calibrate.operating_point import Judged, OperatingPoint

ARGMAX = "argmax"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


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
    """The caller calls more often than it may."""

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


Scope = Literal["predict", "calibrate", "approve", "manage", "audit", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Principal:
    """Who calls, and what they may do: with every model where `models` is None, else with those."""

    name: str
    scopes: frozenset[Scope] = frozenset(SCOPES)
    models: frozenset[str] | None = None

    def check(self, scope: Scope) -> None:
        """Raises `Forbidden` where the caller may not do that with any model."""
        if scope not in self.scopes:
            raise Forbidden(
                f"{self.name} needs the scope '{scope}', and has {', '.join(sorted(self.scopes)) or 'none'}"
            )

    def may_see(self, model: str) -> bool:
        """Whether the caller may know of the model."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Raises `Forbidden` where the caller may not do anything with the model, whether there is one or not."""
        if self.models is not None and not self.may_see(model):
            raise Forbidden(f"{self.name} may not use model {model[:100]!r}, only {', '.join(sorted(self.models))}")


@dataclass(frozen=True)
class HeadInfo:
    """The linear head that was found: d features in, k logits out, and its tensors in the graph."""

    features: str
    logits: str
    width: int


@dataclass(frozen=True)
class ModelVersion:
    """One registered ONNX file and all that is known of it; `graph_digest` is that of the graph it is served as."""

    model: str
    version: int
    digest: str
    graph_digest: str
    size_bytes: int
    inputs: tuple[Port, ...]
    classes: tuple[str, ...]
    output: str
    output_kind: OutputKind
    head: HeadInfo | None
    prior: tuple[float, ...] | None
    description: Description
    created_at: datetime


PointState = Literal["draft", "shadow", "approved", "retired"]


@dataclass(frozen=True)
class PointRecord:
    """A published operating point: the value, and around it where it came from and what it achieved.

    `details` is what a fit says of itself (`FitResult.to_dict` without the point), or what a publisher submitted.
    """

    model: str
    model_version: int
    name: str
    version: int
    point: OperatingPoint
    details: Mapping[str, Any]
    created_at: datetime
    state: PointState = "approved"
    author: str = ""
    approved_by: str | None = None
    model_digest: str = ""

    @cached_property
    def label(self) -> str:
        """`name@version`, unique within the model."""
        return f"{self.name}@{self.version}"

    @cached_property
    def calibration(self) -> CalibrationMap | None:
        """The calibration map that the point contains, where its details name one.

        Raises: `BadPoint`; what is published was checked, so only where the store holds something else.
        """
        return CalibrationMap.from_dict(self.details.get("calibration"), self.point.classes)

    @property
    def threshold(self) -> float | None:
        """The point's threshold on the probability that is answered: the calibrated one where there is a map."""
        return (self.point if self.calibration is None else self.calibration.rest_of(self.point)).threshold

    def probabilities(self, logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """Softmax of the logits, of the mapped ones where there is a map: what may be read as a risk."""
        return softmax(logits if self.calibration is None else self.calibration.apply(logits))

    def judge(self, logits: Float[np.ndarray, "n k"]) -> Judged:
        """Decisions, probabilities, adjusted probabilities and margins at once. Raises: `NotFinite`."""
        return self.point.judge(logits, None if self.calibration is None else self.calibration.apply(logits))


@dataclass(frozen=True)
class Default:
    """The version and the point that answer when a request names neither."""

    model_version: int
    point: str
    point_version: int

    @property
    def label(self) -> str:
        """`name@version` of the point."""
        return f"{self.point}@{self.point_version}"


@dataclass(frozen=True)
class Model:
    """A model with everything published for it. A snapshot: it never changes, the next one takes its place."""

    name: str
    versions: Mapping[int, ModelVersion]
    points: tuple[PointRecord, ...]
    default: Default
    _latest: dict[tuple[int, str], PointRecord] = field(init=False, repr=False, compare=False)
    _exact: dict[str, PointRecord] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.points, key=lambda record: record.version)
        object.__setattr__(self, "_latest", {(record.model_version, record.name): record for record in ordered})
        object.__setattr__(self, "_exact", {record.label: record for record in ordered})

    def version(self, number: int | None) -> ModelVersion:
        """A version by number, the default one for None. Raises: `UnknownVersion`."""
        found = self.versions.get(self.default.model_version if number is None else number)
        if found is None:
            known = ", ".join(str(version) for version in self.versions)
            raise UnknownVersion(f"model '{self.name}' has no version {number}, only {known}")
        return found

    def point(self, version: ModelVersion, reference: str | None) -> PointRecord:
        """A version's point by `name` (its latest) or `name@version`; None is the default, if it is of this version.

        Raises: `UnknownPoint`.
        """
        if reference is None:
            if version.version != self.default.model_version:
                raise UnknownPoint(
                    f"version {version.version} of model '{self.name}' is staged and has no default: name an operating "
                    f"point, of {self._names(version)}"
                )
            return self._exact[self.default.label]
        found = self._exact.get(reference) if "@" in reference else self._latest.get((version.version, reference))
        if found is None or found.model_version != version.version:
            raise UnknownPoint(
                f"version {version.version} of model '{self.name}' has no operating point {reference[:200]!r}, only "
                f"{self._names(version)}"
            )
        return found

    def _names(self, version: ModelVersion) -> str:
        labels = [record.label for record in self.points if record.model_version == version.version]
        return ", ".join(labels[:50])


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what, when, and why; its place in the trail, and the hash that the next entry holds on to."""

    at: datetime
    actor: str
    action: str
    model: str
    details: Mapping[str, Any]
    number: int
    hash: str


@dataclass(frozen=True)
class Decision:
    """One row that was decided, as it is logged: by which point of which model, for whom and when, and never what was
    in it. `row` counts from 0 within the request.
    """

    request_id: str
    row: int
    at: datetime
    model: str
    model_version: int
    model_digest: str
    point: str
    point_digest: str
    label: str
    margin: float | None
    principal: str
    input_digest: str


def check_name(name: str, what: str) -> str:
    """A name that is safe in paths and addresses. Raises: `BadName`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise BadName(
            f"{what} must be 1 to 64 letters, digits, '.', '_' or '-', and not begin with '.' or '-' nor hold '..'; "
            f"got {str(name)[:100]!r}"
        )
    return name


def check_point_name(name: str) -> str:
    """A name for a point; `argmax` is taken by the model's own rule. Raises: `BadName`."""
    if name == ARGMAX:
        raise BadName(f"'{ARGMAX}' is the model's own rule, which every version has; choose another name")
    return check_name(name, "the name of an operating point")
