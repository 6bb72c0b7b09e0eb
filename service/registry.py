"""The registry: models and points as they stand, and every way to change them.

Readers take a snapshot, one immutable `Model`, and never wait. A change goes to the store first, whole or not at all;
then the snapshot is replaced in one assignment. So a request sees the version and the point of one moment, never half
of a change. Every default version is in memory; of the staged ones, those that were used last.

Other servers may change the same store. `refresh` takes in what they did: it reads a model under the lock of this
server's own changes, so nothing older is ever shown than what this server acknowledged, and loads a version before it
answers. A model that cannot be loaded stays as it was, and the service is not ready until it can.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from calibrate.cache import check_prior
from calibrate.errors import BadModel, BadPoint, OtherModel, SetpointError
from calibrate.io.columns import check_columns
from calibrate.io.description import Column, Description, read_description
from calibrate.io.model import Head, Port
from calibrate.operating_point import OperatingPoint, check_classes
from service.domain import (
    AuditEntry,
    Model,
    ModelVersion,
    PointRecord,
    PointState,
    check_name,
    check_point_name,
    classes_digest,
)
from service.errors import BadName, UnknownCurve, UnknownModel
from service.job import Claim
from service.loaded import Key, Loaded
from service.points import Approval, Asked, check_make_default, first_state, promote
from service.ports import Artifacts, Change, Engine, Session, Store

log = logging.getLogger(__name__)

_RETRY_S = 5.0
LAST = 2**31 - 1  # no audit entry comes after it: the largest that its column takes
TAKEN = ("stats",)  # what addresses end in where a model's name could stand
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Registry:
    """Models, versions, points and defaults, over a store, a folder of artifacts and an engine."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        engine: Engine,
        most_classes: int = 10_000,
        approval: Approval = "off",
        most_bytes: int | None = None,
    ) -> None:
        self._most_classes = most_classes
        self._store, self._artifacts, self._engine = store, artifacts, engine
        self.approval: Approval = approval
        self._changes = threading.Lock()
        self._models: Mapping[str, Model] = {}
        self._most_bytes = most_bytes
        self._loaded = Loaded(artifacts, engine, most_bytes, self._defaults)
        self._seen = 0
        self._behind: set[str] = set()
        self._failed: dict[str, tuple[str, float]] = {}

    def start(self) -> None:
        """Reads the store and loads every default version; a model that cannot be loaded is told of and left out."""
        self._artifacts.sweep()
        self._seen, _ = self._store.changed_since(0)  # before the models: what comes between is taken in twice
        self._models = {model.name: model for model in self._store.models()}
        for model in self._models.values():
            _tell_broken(model, None)
        left = self._most_bytes
        for model in self._models.values():
            if left is not None and (left := left - model.version(None).size_bytes) < 0:
                self._loaded.leave_out(model.version(None))
                continue
            try:
                self.load(model.version(None))
            except SetpointError as error:
                self._fail(model.name, error)

    def refresh(self) -> None:
        """Takes in what other servers changed, and tries again what could not be loaded. Raises: `StorageFailed`."""
        latest, changed = self._store.changed_since(self._seen)
        if latest < self._seen:  # a standby took over that had not heard everything
            changed = {model.name for model in self._store.models()}
        again = {name for name, (_, at) in self._failed.items() if at <= time.monotonic()}
        self._behind |= changed | again
        self._seen = latest
        for name in sorted(self._behind):
            if self._take_in(name):
                self._behind.discard(name)

    def _take_in(self, name: str) -> bool:
        """Shows one model as it stands in the store; gives whether that is done with.

        Raises: `StorageFailed` where the store does not answer.
        """
        try:
            found = self._store.model(name)
        except UnknownModel:
            return True  # the entry was of no model
        try:
            if self.is_missing(found.version(None)):  # one that was let go of waits for its next call
                self.load(found.version(None))  # may take long, so not under the lock
        except SetpointError as error:
            self._fail(name, error)
            return True
        with self._changes:
            now = self._store.model(name)
            if now.default.model_version != found.default.model_version:
                return False  # it moved on meanwhile
            self._show(now)
        return True

    def _fail(self, name: str, error: SetpointError) -> None:
        if self._failed.get(name, ("", 0.0))[0] != str(error):
            log.error("model '%s' is not served as it stands: %s", name, error)
        self._failed[name] = (str(error), time.monotonic() + _RETRY_S)

    def audit_entries(self) -> int:
        """How many entries the audit trail has. Raises: `StorageFailed`."""
        return self._store.changed_since(LAST)[0]

    def check(self) -> None:
        """Raises `StorageFailed` where the store or the artifacts do not answer, or could not be written."""
        self._store.check()
        self._artifacts.check()

    def missing(self) -> list[str]:
        """Which default versions are not loaded, and which default points cannot be read, one sentence each."""
        broken = [
            f"the default of model '{model.name}' does not answer: {point.stated}"
            for model in self._models.values()
            for point in model.broken
            if point.label == model.default.label
        ]
        return broken + [
            f"model '{name}' is served as it was: its new default version cannot be loaded"
            if self._loaded.is_held(model.version(None))
            else f"the default version of model '{name}' is not loaded"
            for name, model in self._models.items()
            if name in self._failed or self._loaded.is_missing(model.version(None))
        ]

    def is_missing(self, version: ModelVersion) -> bool:
        """Whether a version is neither loaded nor was let go of, to be loaded by the next call that needs it."""
        return self._loaded.is_missing(version)

    def models(self) -> list[Model]:
        """Every model as it stands."""
        return list(self._models.values())

    def model(self, name: str) -> Model:
        """One model as it stands. Raises: `UnknownModel`."""
        found = self._models.get(name)
        if found is None:
            raise UnknownModel(f"there is no model {str(name)[:100]!r}")
        return found

    def load(self, version: ModelVersion) -> None:
        """Load a version that was not loaded; one without a graph needs nothing.

        Raises: `StorageFailed`, `BadModel`.
        """
        if version.graph is not None:
            self.session(version)

    def session(self, version: ModelVersion) -> Session:
        """What runs a version, loaded now if it was not.

        Raises: `BadRequest` where it is registered by its classes alone, `StorageFailed`, `BadModel`.
        """
        return self._loaded.session(version)

    def loaded(self, version: ModelVersion) -> Session | None:
        """What runs a version if it is in memory; never waits."""
        return self._loaded.held(version)

    def head(self, version: ModelVersion) -> Head | None:
        """The numbers of a version's linear head, None where it has none. Raises: `StorageFailed`."""
        return self._loaded.head(version)

    def provider(self, version: ModelVersion) -> str | None:
        """What a version really runs on, None where it was not loaded yet."""
        return self._loaded.provider(version)

    def register(
        self,
        data: bytes,
        *,
        name: str,
        classes: Sequence[str] | None = None,
        prior: Sequence[float] | None = None,
        output: str | None = None,
        output_kind: str | None = None,
        allow_random: bool = False,
        columns: Sequence[Column] | None = None,
        actor: str,
    ) -> ModelVersion:
        """Keeps an ONNX file as the next version of a model; the first is served at once, a later one is staged, and
        with four eyes its own rule is a draft as any point is.

        Classes, prior and columns come from the call, else from the file's own description; classes are the graph's own
        labels where neither names them, and numbered where it has none. Columns are those of the one input. A model
        that answers at random is refused unless `allow_random`, which the audit trail keeps.

        Raises: `BadName`, `BadModel`, `NoHead`, `BadPrior`, `BadPoint` for bad class names, `StorageFailed`; with four
        eyes `Forbidden` for callers without a key.
        """
        state = self._check_new(name, actor)
        graph = self._engine.examine(data, output=output, output_kind=output_kind, allow_random=allow_random)
        description = _described(read_description(graph.metadata), columns, graph.inputs)
        session = self._engine.load(graph.data, graph.output, graph.kind, rows_apart=graph.depends_on_batch)
        session.warm(graph.inputs)
        names = _names(classes if classes is not None else description.classes, graph.labels, graph.width)
        self._check_few(names)
        shares = prior if prior is not None else description.prior
        checked = None if shares is None else tuple(check_prior(shares, names).tolist())  # before a file is kept
        version = ModelVersion(
            model=name,
            version=0,
            digest=self._artifacts.put(data),
            graph_digest=self._artifacts.put(graph.data),
            size_bytes=len(data),
            inputs=graph.inputs,
            classes=names,
            output=graph.output,
            output_kind=graph.kind,
            head=graph.head,
            prior=checked,
            description=description,
            created_at=datetime.now(UTC),
            depends_on_batch=graph.depends_on_batch,
            is_random=graph.is_random,
            warnings=graph.warnings,
        )
        with self._changes:
            changed = self._store.add_version(version, actor, state)
            version = changed.version(max(changed.versions))
            is_default = changed.default.model_version == version.version  # a staged one is loaded when asked for
            self._loaded.take(version, session, len(graph.data), keeps=is_default)
            self._show(changed)
        return version

    def register_classes(
        self, classes: Sequence[str], *, name: str, prior: Sequence[float] | None = None, actor: str
    ) -> ModelVersion:
        """Register the next version of a model by its classes alone: it decides scores that were computed elsewhere.

        As with a file, the first version is served at once and a later one is staged; a model may have versions of
        both kinds.

        Raises: `BadName`, `BadModel`, `BadPrior`, `BadPoint` for bad class names, `StorageFailed`; with four eyes
        `Forbidden` for callers without a key.
        """
        state = self._check_new(name, actor)
        names = check_classes(classes)
        self._check_few(names)
        version = ModelVersion(
            model=name,
            version=0,
            digest=classes_digest(names),
            graph_digest=None,
            size_bytes=0,
            inputs=(),
            classes=names,
            output=None,
            output_kind=None,
            head=None,
            prior=None if prior is None else tuple(check_prior(prior, names).tolist()),
            description=Description(),
            created_at=datetime.now(UTC),
        )
        with self._changes:
            changed = self._store.add_version(version, actor, state)
            self._show(changed)
        return changed.version(max(changed.versions))

    def _check_new(self, name: str, actor: str) -> PointState:
        """Return the state that the own rule of a new version gets. Raises: `BadName`, `Forbidden`."""
        check_name(name, "the name of a model")
        if name in TAKEN and name not in self._models:
            raise BadName(f"a model cannot be named '{name}': GET /v2/models/{name} tells of all models")
        return first_state(self.approval, actor)

    def _check_few(self, classes: Sequence[str]) -> None:
        """Raises `BadModel` for more classes than a model may have."""
        if len(classes) > self._most_classes:
            raise BadModel(f"a model may have at most {self._most_classes} classes, this one has {len(classes)}")

    def publish(
        self,
        model: str,
        *,
        name: str,
        point: OperatingPoint,
        details: Mapping[str, Any],
        model_version: int | None,
        actor: str,
        make_default: bool = False,
        reason: str = "",
        override: bool = False,
        allow_other_model: bool = False,
        job: Claim | None = None,
    ) -> PointRecord:
        """Publishes a point for a version, the default one unless told: approved, or with four eyes as a draft. In
        the same step the job that made it is done. `model_digest` in the details is that of the model file whose rows
        it was fitted on; one of another file is accepted where that is allowed, and the audit trail keeps it.

        Raises: `UnknownModel`, `UnknownVersion`, `BadName`, `BadPoint` where its classes are not the model's,
        `OtherModel` where it was fitted on another file, `Conflict` where the name is an alias, `StorageFailed`; where
        the default is to move, `BadRequest` without a reason, `Forbidden` with four eyes, `BadEvidence`; `NotOurs`
        where the job is no longer of that claim.
        """
        version = self.model(model).version(model_version)
        check_point_name(name)
        if point.classes != version.classes:
            raise BadPoint(
                f"the point is for the classes {', '.join(point.classes[:20])}; version {version.version} of model "
                f"'{model}' has {', '.join(version.classes[:20])}"
            )
        state, now = first_state(self.approval, actor), datetime.now(UTC)
        record = PointRecord(model, version.version, name, 0, point, details, now, state, model_digest=version.digest)
        if record.other_model is not None and not allow_other_model:
            raise OtherModel(
                f"{record.other_model}: publish it for the version that it was fitted on. 'allow_other_model': true "
                "publishes it nevertheless, and is kept in the audit trail"
            )
        then: Callable[[Model, PointRecord], Change] | None = None
        if make_default:
            check_make_default(self.approval)
            asked = Asked(actor, reason, self.approval, override)
            then = lambda model, record: promote(model, record, asked)  # noqa: E731 - short, and typed above
            self.load(version)
        with self._changes:
            changed = self._store.add_point(record, actor, then, job)
            self._show(changed)
        return max((each for each in changed.points if each.name == name), key=lambda each: each.version)

    def change(self, model: str, decide: Callable[[Model], Change | None], actor: str) -> Model:
        """Makes a change that `service.points` decides. Raises: what it raises, `UnknownModel`, `StorageFailed`."""
        with self._changes:
            changed = self._store.change(model, decide, actor)
            self._show(changed)
        return changed

    def keep(self, data: bytes) -> str:
        """Keeps what belongs to a point, and gives its digest. Raises: `StorageFailed`."""
        return self._artifacts.put(data)

    def curve(self, record: PointRecord) -> bytes:
        """The trade-off curve of a point, as the calibration that made it wrote it.

        Raises: `UnknownCurve`, `StorageFailed`.
        """
        digest = record.details.get("curve")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise UnknownCurve(
                f"{record.label} of model '{record.model}' has no curve: one is made where a point of two classes is "
                "calibrated here"
            )
        return self._artifacts.get(digest)

    def audit(self, limit: int, models: frozenset[str] | None = None, before: int | None = None) -> list[AuditEntry]:
        """The newest entries first: of these models alone, and before that number. Raises: `StorageFailed`."""
        return self._store.audit(limit, models, before)

    def _show(self, changed: Model) -> None:
        _tell_broken(changed, self._models.get(changed.name))
        self._models = {**self._models, changed.name: changed}
        if self._loaded.is_held(changed.version(None)):
            self._failed.pop(changed.name, None)

    def _defaults(self) -> set[Key]:
        return {(model.name, model.default.model_version) for model in self._models.values()}


def _described(description: Description, columns: Sequence[Column] | None, ports: Sequence[Port]) -> Description:
    """The file's own description, with the columns that the call names in place of its own.

    Raises: `BadModel` where they are not those of the one input, or are its own in another order.
    """
    if columns is None:
        check_columns(description.columns, ports)
        return description
    check_columns(columns, ports)
    names, own = ([column.name for column in each] for each in (columns, description.columns))
    if names != own and sorted(names) == sorted(own):
        raise BadModel(
            f"columns are {', '.join(names[:20])}, but the model's own are {', '.join(own[:20])}: give them in the "
            "model's order, or leave them out"
        )
    return replace(description, columns=tuple(columns))


def _tell_broken(model: Model, before: Model | None) -> None:
    """Logs the points that cannot be read, each once."""
    for point in model.broken:
        if before is None or point not in before.broken:
            log.error("%s; it does not answer, all else does", point.stated)


def _names(given: Sequence[str] | None, labels: tuple[str, ...] | None, width: int | None) -> tuple[str, ...]:
    """The class names of a model: those given, else the graph's labels, else numbers.

    Names may replace the labels, but never the same names in another order: that would answer with the wrong class.
    """
    if labels is not None and width not in (None, len(labels)):
        labels = None  # of something else in the graph
    if labels is not None:
        width = len(labels)
    if given is None and width is None:
        raise BadModel("the number of classes cannot be told from the model: give classes")
    names = check_classes(given if given is not None else labels or [str(i) for i in range(width or 0)])
    if width is not None and len(names) != width:
        own = "" if labels is None else f"; its own labels are {', '.join(labels[:20])}"
        raise BadModel(
            f"the model tells {width} classes apart, but {len(names)} were named: {', '.join(names[:20])}{own}"
        )
    if labels is not None and names != labels and sorted(names) == sorted(labels):
        raise BadModel(
            f"classes are {', '.join(names[:20])}, but the model's own labels are {', '.join(labels[:20])}: give them "
            "in the model's order, or leave them out"
        )
    return names
