"""The nouns of the service, as frozen values.

A model has versions; a version has operating points; the default names one version and one point of it. Versions and
points are numbered, immutable and never reused: only the default, aliases and the state of a point move. `name@version`
is unique within a model, and a point belongs to the model version that it was fitted on or published for.

Decided here: the state of a point that is stored is one of four, and only an approved one answers. That a point is
*active* is no state of its own: it is the one that the default names, so the two can never disagree.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import orjson
from jaxtyping import Float, Float64

from calibrate.errors import SetpointError
from calibrate.io.description import Description
from calibrate.io.model import OutputKind, Port
from calibrate.logits import softmax
from calibrate.maps import CalibrationMap
from calibrate.operating_point import FewJudged, Judged, OperatingPoint, PointSet
from service.errors import BadName, BadRequest, Forbidden, NotApproved, StorageFailed, UnknownPoint, UnknownVersion

ARGMAX = "argmax"
_MOST_TOGETHER = 64  # sets of points that are kept with a model, as it stands
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")

ModelKind = Literal["onnx", "scores"]
Scope = Literal["predict", "calibrate", "approve", "manage", "audit", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Principal:
    """Who calls, and what they may do: with every model where `models` is None, else with those.

    `key` is the id of the API key they call with, None where they call with none.
    """

    name: str
    scopes: frozenset[Scope] = frozenset(SCOPES)
    models: frozenset[str] | None = None
    key: str | None = None

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


class Graph(NamedTuple):
    """The graph that a version is served as: the digest of its file, and which output holds what."""

    digest: str
    output: str
    output_kind: OutputKind


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model: a registered ONNX file and all that is known of it, or its classes alone.

    `graph_digest` is that of the graph it is served as. A version that is registered by its classes alone has no graph:
    `graph_digest`, `output` and `output_kind` are None, there are no inputs and no head, and `digest` is that of the
    classes (`classes_digest`). It decides scores that were computed elsewhere.

    `depends_on_batch` says whether a row's answer depends on the other rows of its batch, so that each row is run by
    itself (None where that is not known); `is_random` whether it depends on chance or on earlier runs. `warnings`
    are the sentences about both that every point of this version shows.
    """

    model: str
    version: int
    digest: str
    graph_digest: str | None
    size_bytes: int
    inputs: tuple[Port, ...]
    classes: tuple[str, ...]
    output: str | None
    output_kind: OutputKind | None
    head: HeadInfo | None
    prior: tuple[float, ...] | None
    description: Description
    created_at: datetime
    depends_on_batch: bool | None = None
    is_random: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> ModelKind:
        """`onnx`, or `scores` of a version that is registered by its classes alone."""
        return "scores" if self.graph is None else "onnx"

    @property
    def graph(self) -> Graph | None:
        """What is run, None of a version that is registered by its classes alone."""
        if self.graph_digest is None or self.output is None or self.output_kind is None:
            return None
        return Graph(self.graph_digest, self.output, self.output_kind)

    def why_apart(self, other: "ModelVersion") -> str | None:
        """Why rows of this version cannot also be run through another; None where they can, and mean the same."""
        for each in (self, other):
            if each.graph is None:
                return f"{each.shown} is registered by its classes alone, and has nothing to run"
        if self.classes != other.classes:
            return f"{self.shown} has the classes {', '.join(self.classes[:20])}, {other.shown} " + (
                f"{', '.join(other.classes[:20])}"
            )
        for name in dict.fromkeys(port.name for port in (*self.inputs, *other.inputs)):
            mine, theirs = (_shown_input(each, name) for each in (self, other))
            if mine != theirs:
                return f"input '{name}' of {self.shown} is {mine}, of {other.shown} {theirs}"
        columns = [[(each.name, each.kind, dict(each.codes)) for each in v.description.columns] for v in (self, other)]
        if columns[0] != columns[1]:
            at = next(i for i in range(max(map(len, columns)) + 1) if columns[0][i : i + 1] != columns[1][i : i + 1])
            mine, theirs = (repr(each[at][0]) if at < len(each) else "none" for each in columns)
            alike = " with other codes" if mine == theirs else ""
            return f"column {at} as {self.shown} describes it is {mine}, as {other.shown} does {theirs}{alike}"
        return None

    @property
    def shown(self) -> str:
        """The version in words."""
        return f"version {self.version} of model '{self.model}'"

    def check_runs(self) -> Graph:
        """Return what is run. Raises: `BadRequest` of a version that is registered by its classes alone."""
        graph = self.graph
        if graph is None:
            raise BadRequest(f"model '{self.model}' is registered by its classes alone: send logits or probabilities")
        return graph


def _shown_input(version: ModelVersion, name: str) -> str:
    """The type and shape of an input."""
    port = next((port for port in version.inputs if port.name == name), None)
    if port is None:
        return "not there"
    return f"{port.dtype} ({', '.join('?' if length is None else str(length) for length in port.shape)})"


def classes_digest(classes: Sequence[str]) -> str:
    """Hex SHA-256 that identifies a model version that is registered by its classes alone: of the JSON
    `{"classes":[...],"kind":"scores"}` in UTF-8, without spaces.
    """
    return hashlib.sha256(orjson.dumps({"classes": list(classes), "kind": "scores"})).hexdigest()


PointState = Literal["draft", "shadow", "approved", "retired"]
STATED: dict[PointState, str] = {
    "draft": "is a draft, which answers once it is approved",
    "shadow": "is computed in the shadow, and does not answer",
    "approved": "is approved",
    "retired": "is retired",
}


@dataclass(frozen=True)
class PointRecord:
    """A published operating point: the value, and around it where it came from and what it achieved.

    `details` is what a fit says of itself (`FitResult.to_dict` without the point), or what a publisher submitted.
    `because` is the reason that was given for its state, `model_digest` that of the model file it was made for.
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
    because: str = ""

    @cached_property
    def label(self) -> str:
        """`name@version`, unique within the model."""
        return f"{self.name}@{self.version}"

    @property
    def stated(self) -> str:
        """Its state in words, with the reason where one was given."""
        return f"{self.label} {STATED[self.state]}" + (f": {self.because}" if self.because else "")

    @property
    def is_of_a_file(self) -> bool:
        """Whether the model version has a file, whose digest can be compared with that of the fitting rows."""
        return bool(self.model_digest) and self.model_digest != classes_digest(self.point.classes)

    @property
    def other_model(self) -> str | None:
        """In words, that it was fitted on the rows of another model file; None where it was not, or that is unknown."""
        fitted_on = self.details.get("model_digest")
        if not isinstance(fitted_on, str) or not self.is_of_a_file or fitted_on == self.model_digest:
            return None
        return (
            f"the point was fitted on the model file {fitted_on[:64]}; version {self.model_version} of model "
            f"'{self.model}' is {self.model_digest}"
        )

    @cached_property
    def evidence_digest(self) -> str:
        """Hex SHA-256 over the point and everything that was said for it: what an approver has looked at."""
        said = [self.point.digest, self.model_digest, self.details]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS, default=dict)).hexdigest()

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

    def judge_few(self, logits: Float[np.ndarray, "n k"]) -> FewJudged | None:
        """The same of a few rows as lists, None where the point cannot."""
        return self.point.judge_few(logits, None if self.calibration is None else self.calibration.apply(logits))


@dataclass(frozen=True)
class BrokenPoint:
    """A stored point that cannot be read: it never answers, and keeps its name, its number and its place.

    `place` counts the model's points from 0 in the order of their publication; `state` is None where it cannot be read.
    """

    model: str
    model_version: int
    name: str
    version: int
    place: int
    state: PointState | None
    why: str

    @property
    def label(self) -> str:
        """`name@version`, unique within the model."""
        return f"{self.name}@{self.version}"

    @property
    def stated(self) -> str:
        """What is wrong, in words."""
        return f"the stored point {self.label} of model '{self.model}' cannot be read: {self.why}"

    @property
    def may_answer(self) -> bool:
        """Whether it would answer to its bare name, for all one knows."""
        return self.state in (None, "approved")


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

    @property
    def said(self) -> dict[str, Any]:
        """As the audit trail tells of it."""
        return {"model_version": self.model_version, "operating_point": self.label}


class Together:
    """Several points of one model version, and what they decide."""

    def __init__(self, records: tuple[PointRecord, ...]) -> None:
        self.records = records
        self.points = PointSet([record.point for record in records])
        self.are_mapped = any(record.calibration is not None for record in records)


@dataclass(frozen=True)
class Model:
    """A model with everything published for it. A snapshot: it never changes, the next one takes its place.

    `aliases` lead to `name@version`; `previous` is what the default was before, and what a rollback goes back to.
    No `broken` point answers, and none is passed over: where the latest of a name is one, the name is refused too.
    """

    name: str
    versions: Mapping[int, ModelVersion]
    points: tuple[PointRecord, ...]
    default: Default
    aliases: Mapping[str, str] = field(default_factory=dict)
    previous: Default | None = None
    broken: tuple[BrokenPoint, ...] = ()
    _exact: dict[str, PointRecord] = field(init=False, repr=False, compare=False)
    _answers: dict[tuple[int, str], PointRecord] = field(init=False, repr=False, compare=False)
    _drafts: dict[tuple[int, str], PointRecord] = field(init=False, repr=False, compare=False)
    _shadows: dict[int, tuple[PointRecord, ...]] = field(init=False, repr=False, compare=False)
    _shadows_beside: dict[int, tuple[tuple[PointRecord, ...], ...]] = field(init=False, repr=False, compare=False)
    _together: dict[tuple[int, bool, tuple[str, ...]], Together] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        ordered = [record for record in sorted(self.points, key=lambda record: record.version) if self._fits(record)]
        found: dict[bool, dict[tuple[int, str], PointRecord]] = {True: {}, False: {}}
        shadows: dict[int, tuple[PointRecord, ...]] = {}
        for record in ordered:
            if record.state == "retired":
                continue
            names = found[record.state == "approved"]
            names[record.model_version, record.name] = names[record.model_version, record.label] = record
            if record.state == "shadow":
                shadows[record.model_version] = (*shadows.get(record.model_version, ()), record)
        for broken in self.broken:
            key = (broken.model_version, broken.name)
            if broken.may_answer and key in found[True] and found[True][key].version < broken.version:
                del found[True][key]
        object.__setattr__(self, "_exact", {record.label: record for record in self.points})
        object.__setattr__(self, "_answers", found[True])
        object.__setattr__(self, "_drafts", found[False])
        object.__setattr__(self, "_shadows", shadows)
        beside = tuple(own for own in shadows.values() if self.why_not_beside(own[0]) is None)
        object.__setattr__(self, "_shadows_beside", {self.default.model_version: beside} if beside else {})
        for alias, label in self.aliases.items():
            aliased = self._exact.get(label)
            if aliased is None:
                continue  # it is broken
            record = aliased
            if found[True].get((record.model_version, label)) is record:
                found[True][record.model_version, alias] = record

    def version(self, number: int | None) -> ModelVersion:
        """A version by number, the default one for None. Raises: `UnknownVersion`."""
        found = self.versions.get(self.default.model_version if number is None else number)
        if found is None:
            known = ", ".join(str(version) for version in self.versions)
            raise UnknownVersion(f"model '{self.name}' has no version {number}, only {known}")
        return found

    def point(self, version: ModelVersion, reference: str | None) -> PointRecord:
        """The point of a version that answers: by `name` (its latest approved), `name@version` or an alias; None is the
        default, if it is of this version.

        Raises: `UnknownPoint`, `NotApproved`, `StorageFailed` where it was made for another model file.
        """
        if reference is None:
            if version.version != self.default.model_version:
                raise UnknownPoint(
                    f"version {version.version} of model '{self.name}' is staged and has no default: name an operating "
                    f"point, of {self._names(version)}"
                )
            reference = self.default.label
        found = self._answers.get((version.version, reference))
        if found is None:
            raise self._why_not(version, reference)
        return found

    def answering(self, number: int, name: str) -> PointRecord | None:
        """The point of a version that answers to a bare name, None where none does."""
        return self._answers.get((number, name))

    def compared(self, version: ModelVersion, reference: str) -> PointRecord:
        """The same for what is only compared: drafts and shadows too, by a bare name where none of it is approved.

        Raises: what `point` raises.
        """
        key = (version.version, reference)
        return self._answers.get(key) or self._drafts.get(key) or self.point(version, reference)

    def together(self, version: ModelVersion, references: tuple[str, ...], *, answers: bool) -> Together:
        """Several points at once, that answer or that are only compared. Raises: what `point` raises."""
        key = (version.version, answers, references)
        found = self._together.get(key)
        if found is None:
            find = self.point if answers else self.compared
            found = Together(tuple([find(version, reference) for reference in references]))
            if len(self._together) >= _MOST_TOGETHER:
                self._together.clear()
            self._together[key] = found
        return found

    def shadows(self, version: ModelVersion) -> tuple[PointRecord, ...]:
        """The points of a version that are computed in the shadow."""
        return self._shadows.get(version.version, ())

    def shadows_beside(self, version: ModelVersion) -> tuple[tuple[PointRecord, ...], ...]:
        """The shadows of other versions, by version, that rows which this one answers are run through too: of the
        default version alone, where inputs and classes are the same.
        """
        return self._shadows_beside.get(version.version, ())

    def why_not_beside(self, record: PointRecord) -> str | None:
        """Why rows that the default version answers are not run through the version of a point; None where they are."""
        default = self.versions.get(self.default.model_version)
        if default is None or record.model_version == default.version:
            return f"it is of version {record.model_version}, the default, itself"
        return default.why_apart(self.versions[record.model_version])

    def elsewhere(self, version: ModelVersion, reference: str) -> PointRecord | None:
        """The point of another version that a `name@version` or an alias leads to; None where there is none."""
        found = self._exact.get(self.aliases.get(reference, reference))
        return None if found is None or found.model_version == version.version else found

    def exact(self, label: str) -> PointRecord:
        """A point by `name@version`, in any state. Raises: `UnknownPoint`, `StorageFailed` where it is broken."""
        found = self._exact.get(label)
        if found is None:
            self._check_whole(label)
            versions = [record.version for record in self.points if record.name == label]
            if "@" not in label:
                as_in = f"{label}@{max(versions)}" if versions else "name@version"
                raise UnknownPoint(
                    f"wanted a point of model '{self.name}' with its version, as {as_in}; got {label[:200]!r}"
                )
            raise UnknownPoint(f"model '{self.name}' has no operating point {label[:200]!r}")
        return found

    def find(self, reference: str, model_version: int | None = None) -> PointRecord:
        """A point in any state: by `name@version` or an alias, or by name the latest approved one of a version (the
        default one unless told), else its latest.

        Raises: `UnknownPoint`, `UnknownVersion`, `StorageFailed` where it is broken.
        """
        label = self.aliases.get(reference, reference)
        if label in self._exact:
            return self._exact[label]
        number = self.version(model_version).version
        if (number, reference) not in self._answers:
            self._check_whole(reference, number)
        named = [record for record in self.points if (record.model_version, record.name) == (number, reference)]
        if not named:
            raise self._why_not(self.versions[number], reference)
        return max(named, key=lambda record: (record.state == "approved", record.version))

    def labels(self, version: ModelVersion) -> tuple[str, ...]:
        """Every point of a version in the order of publication, `name@version`; broken ones keep their place."""
        known = [(record.model_version, record.label) for record in self.points]
        for broken in self.broken:  # in the order of their places
            known.insert(broken.place, (broken.model_version, broken.label))
        return tuple(label for number, label in known if number == version.version)

    def version_of(self, label: str) -> int:
        """The number of the model version that a point belongs to, a broken one too. Raises: `UnknownPoint`."""
        found = next((broken.model_version for broken in self.broken if broken.label == label), None)
        return self.exact(label).model_version if found is None else found

    def _check_whole(self, reference: str, model_version: int | None = None) -> None:
        """Raises `StorageFailed` where a reference leads to a broken point; to a name, where a version is told."""
        label = self.aliases.get(reference, reference)
        for broken in self.broken:
            named = broken.may_answer and (broken.model_version, broken.name) == (model_version, reference)
            if named or broken.label == label:
                raise StorageFailed(broken.stated)

    def _fits(self, record: PointRecord) -> bool:
        """Whether it was made for the model file that its version has; nobody could say for those of old stores."""
        return record.model_digest in ("", self.versions[record.model_version].digest)

    def _why_not(self, version: ModelVersion, reference: str) -> SetpointError:
        """Why a reference leads to nothing that answers. Raises: `StorageFailed` where that is a broken point."""
        self._check_whole(reference, version.version)
        found = self._exact.get(self.aliases.get(reference, reference))
        if found is not None and found.model_version != version.version and reference in self.aliases:
            return UnknownPoint(
                f"'{reference}' is {found.label}, which is of version {found.model_version} of model '{self.name}', "
                f"not of version {version.version}"
            )
        if found is not None and found.model_version == version.version:
            if found.state != "approved":
                return NotApproved(f"{found.stated} (model '{self.name}')")
            return StorageFailed(
                f"{found.label} was made for another file than that of version {version.version} of model "
                f"'{self.name}': its digest is {found.model_digest[:12]}, the model's {version.digest[:12]}"
            )
        named = [
            record for record in self.points if (record.model_version, record.name) == (version.version, reference)
        ]
        if named:
            said = "; ".join(record.stated for record in named[-5:])
            return NotApproved(f"no version of '{reference}' answers for model '{self.name}': {said}")
        return UnknownPoint(
            f"version {version.version} of model '{self.name}' has no operating point {reference[:200]!r}, only "
            f"{self._names(version)}"
        )

    def _names(self, version: ModelVersion) -> str:
        """What may be named: every approved point of a version, and aliases."""
        here = [record for record in self.points if record.model_version == version.version]
        labels = [record.label for record in here if record.state == "approved"]
        labels += [alias for alias, label in self.aliases.items() if label in labels]
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


@dataclass(frozen=True)
class DecisionPage:
    """Which entries of a request: from a row on, and of that row those after the entry with the number `after`."""

    request_id: str
    first_row: int = 0
    after: int = 0
    limit: int = 1000
    principal: str | None = None


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
