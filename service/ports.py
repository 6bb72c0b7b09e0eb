"""What the service needs of the outside world: a store, a folder of artifacts, and something that runs models.

Each has one contract, which every implementation passes (`tests/contracts`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from calibrate.io.model import Head, OutputKind, Port
from service.domain import (
    AuditEntry,
    Decision,
    DecisionPage,
    Default,
    HeadInfo,
    Model,
    ModelVersion,
    PointRecord,
    PointState,
)
from service.job import Claim, Job
from service.keys import Key


@dataclass(frozen=True)
class Change:
    """What moves in a model, decided on the model as it stands, and what the audit trail says of it.

    `default` is the new one, which with `goes_back` undoes the last move; `point` is one with its new state; `aliases`
    lead to `name@version`, or to None where they are to go.
    """

    action: str
    said: Mapping[str, Any]
    default: Default | None = None
    goes_back: bool = False
    point: PointRecord | None = None
    aliases: Mapping[str, str | None] = field(default_factory=dict)


class Store(Protocol):
    """Where models, points, defaults and the audit trail are kept. Every change and its audit entry are one step,
    which gives the model as it stands after it.

    Raises: `StorageFailed` from every method where the storage does not answer; then nothing was changed.
    """

    def models(self) -> list[Model]:
        """Everything there is."""

    def model(self, name: str) -> Model:
        """One model as it stands now. Raises: `UnknownModel`."""

    def add_version(self, version: ModelVersion, actor: str, state: PointState = "approved") -> Model:
        """Keeps a version under the next number, with the point `argmax`: of the first one it is the default, and
        approved; of a later one it is in that state.

        The number and the time in `version` are the store's to give.
        """

    def add_point(
        self,
        record: PointRecord,
        actor: str,
        then: Callable[[Model, PointRecord], Change] | None = None,
        job: Claim | None = None,
    ) -> Model:
        """Publishes a point under the next number of its name; `then` is given the model with it, and its change is
        made in the same step, in which also the job that made the point is done.

        The number and the time in `record` are the store's to give. Raises: `UnknownModel`, `Conflict` where the name
        is an alias, `NotOurs` where the job is no longer of that claim, `Forbidden` where the key that asked for it has
        ended; what `then` raises, and nothing is published.
        """

    def change(self, model: str, decide: Callable[[Model], Change | None], actor: str) -> Model:
        """Makes the change that `decide` gives for the model as it stands in this step; for None, and whatever it
        raises, nothing is changed.

        Raises: `UnknownModel`.
        """

    def audit(self, limit: int, models: frozenset[str] | None = None, before: int | None = None) -> list[AuditEntry]:
        """The newest entries first: of these models alone, and before that number, where they are told."""

    def changed_since(self, number: int) -> tuple[int, set[str]]:
        """The number of the newest audit entry, and the models that entries after `number` changed, by any server."""

    def check(self) -> None:
        """Raises `StorageFailed` where the storage does not answer, or could not be written."""


@dataclass(frozen=True)
class ShadowCount:
    """How many rows one point decided as `answered` in an hour, that a shadow would have decided as `would`; both are
    class indices, `answered_by` and `shadow` are `name@version`.
    """

    model: str
    shadow: str
    hour: datetime
    answered_by: str
    answered: int
    would: int
    rows: int


class ShadowBook(Protocol):
    """Where the counts of shadows are kept. Raises: `StorageFailed`; then nothing was added."""

    def add(self, counts: Iterable[ShadowCount]) -> None:
        """Adds rows to what there is."""

    def counts(self, model: str, shadow: str) -> list[ShadowCount]:
        """All counts of a shadow, the oldest hour first."""


class Keys(Protocol):
    """Where API keys are kept. Every change and its audit entry are one step.

    Raises: `StorageFailed` from every method where the storage does not answer; then nothing was changed.
    """

    def all(self) -> list[Key]:
        """Every key there ever was, the oldest first."""

    def add(self, key: Key) -> None:
        """Keeps a new key. Raises: `BadKey` where another live key has its name."""

    def rotate(self, old: str, key: Key, expires_at: datetime) -> Key:
        """Keeps a key in the place of another, which holds until then, and gives the new one.

        Raises: `UnknownKey`, `BadKey` where the old one is not live.
        """

    def revoke(self, key_id: str, actor: str, at: datetime, reason: str = "") -> Key:
        """Ends a key now, and for good. Raises: `UnknownKey`, `BadKey` where it was revoked before."""


class Decisions(Protocol):
    """Where decisions are logged. Raises: `StorageFailed` from every method."""

    def add(self, entries: Iterable[Decision], most_rows: int) -> None:
        """Keeps entries, all or none, and asks for them once it has begun; the oldest beyond `most_rows` go."""

    def of_request(self, page: DecisionPage, models: frozenset[str] | None) -> list[tuple[int, Decision]]:
        """Entries of a request with their numbers, row by row, of these models alone where they are told."""


class Artifacts(Protocol):
    """Where model files are kept, named by the SHA-256 of what is in them."""

    def put(self, data: bytes) -> str:
        """Keeps the bytes, whole or not at all, and gives their digest. Raises: `StorageFailed`."""

    def get(self, digest: str) -> bytes:
        """The bytes, checked against their name. Raises: `StorageFailed`."""

    def check(self) -> None:
        """Raises `StorageFailed` where nothing could be kept."""

    def sweep(self) -> None:
        """Takes away what a server that was killed had begun to write, and nothing that another server still writes."""


class Session(Protocol):
    """A model that is loaded and can be run from several threads at once."""

    @property
    def provider(self) -> str:
        """What it really runs on: `CUDAExecutionProvider` or `CPUExecutionProvider`."""

    @property
    def is_batchable(self) -> bool:
        """Whether it answers rows together as it does alone, as far as `warm` could tell; False before that."""

    @property
    def quick_rows(self) -> int:
        """The most rows that it runs faster than a thread could be asked to, 0 before `warm`."""

    def warm(self, inputs: Sequence[Port]) -> None:
        """Runs it on made-up rows of several numbers, so that no caller meets a first run, and takes the time."""

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Float[np.ndarray, "n k"]:
        """The logits of the rows. Raises: `ModelFailed`."""


class Ran(NamedTuple):
    """The run that a caller's rows were part of: its seconds, its rows of all callers together, and whether this caller
    is the first of it that is told, so that a run is counted once.
    """

    seconds: float
    rows: int
    is_first: bool = True


class Runner(Protocol):
    """Runs sessions for many callers at a time."""

    def run_now(
        self, version: ModelVersion, session: Session, inputs: Mapping[str, np.ndarray[Any, Any]]
    ) -> Float[np.ndarray, "n k"] | None:
        """The logits of the rows where that is quicker than asking a thread for them, else None.

        Raises: `ModelFailed`.
        """

    async def run(
        self,
        version: ModelVersion,
        session: Session,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        *,
        priority: int = 0,
        until: float | None = None,
        told: Callable[[Ran], None] | None = None,
    ) -> Float[np.ndarray, "n k"]:
        """The logits of the rows; the most urgent caller is priority 1, and 0 is the default. `until` is a time of
        `time.monotonic`, after which nobody wants them. `told` is called from any thread once they have run.

        Raises: `Busy`, `TimedOut`, `ModelFailed`.
        """


@dataclass(frozen=True, eq=False)
class Examined:
    """A model file that was read, loaded and run on a few rows: `data` is the graph as it is served.

    `labels` are the graph's own, `width` is the number of classes; each None where it is not told. `depends_on_batch`
    says whether a row's answer depends on the other rows of its batch, None where that is not known, `is_random`
    whether it depends on chance or on earlier runs; `warnings` say so in words.
    """

    data: bytes
    inputs: tuple[Port, ...]
    output: str
    kind: OutputKind
    head: HeadInfo | None
    metadata: dict[str, str]
    labels: tuple[str, ...] | None
    width: int | None
    depends_on_batch: bool | None = None
    is_random: bool = False
    warnings: tuple[str, ...] = ()


class Engine(Protocol):
    """Tries models out, and loads those that passed."""

    def examine(
        self, data: bytes, *, output: str | None = None, output_kind: str | None = None, allow_random: bool = False
    ) -> Examined:
        """What is known of a model file once it has run by itself, within limits of memory and time.

        Raises: `BadModel`, also where its answers depend on chance, unless `allow_random`; `NoHead`, `ModelFailed`,
        `WrongShape`.
        """

    def load(self, data: bytes, output: str, kind: OutputKind, *, rows_apart: bool | None = None) -> Session:
        """A session of a graph, one output of which holds logits or probabilities. With `rows_apart` each row is run by
        itself; for None, where the session's first runs show that rows depend on each other.

        Raises: `BadModel` where the runtime refuses it.
        """


class JobStore(Protocol):
    """Where jobs are kept. A job is done by `Store.add_point` alone, in the step that publishes its point.

    Raises: `StorageFailed` from every method where the storage does not answer; then nothing was changed.
    """

    def add(self, job: Job, most_waiting: int) -> Job:
        """Keeps a new job, or gives the one that the same caller asked for under the same key before.

        Raises: `KeyReused` where that was another request, `Busy` where `most_waiting` jobs are queued.
        """

    def job(self, job_id: str) -> Job:
        """One job. Raises: `UnknownJob`."""

    def jobs(self, principal: str | None, limit: int) -> list[Job]:
        """The newest jobs first, of one caller or of all."""

    def unended(self) -> list[Job]:
        """What is queued or running, the oldest first."""

    def claim(self, job: Job, owner: str) -> Job | None:
        """Takes a job as it was seen, for one more attempt; None where it has changed since."""

    def beat(self, owner: str, progress: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
        """Renews what an owner runs and keeps how far each is; gives those that are still its own, and whether they
        are to be cancelled.
        """

    def cancel(self, job_id: str, actor: str) -> Job:
        """Cancels a job that waits; one that runs is marked, for its owner to end. One that is over stays as it is.
        Where another than its principal does, an audit entry tells of it in the same step.

        Raises: `UnknownJob`.
        """

    def end(self, claim: Claim, state: str, error: Mapping[str, Any] | None = None) -> bool:
        """Ends a job as failed or cancelled; False where it is no longer of that claim."""

    def release(self, claim: Claim, *, counted: bool) -> bool:
        """Puts a job back in the queue; False where it is no longer of that claim. Else the attempt is `counted`."""

    def forget(self, before: datetime) -> int:
        """Takes away what was over before then, and gives how many."""


class Spool(Protocol):
    """Where the data of jobs is kept until they are over."""

    @property
    def id(self) -> str:
        """Of the spool: servers that share it can run each other's jobs."""

    @property
    def owner(self) -> str:
        """The name of this process, which no other ever has."""

    def path(self, name: str) -> Path:
        """Where a file of that name is, or will be."""

    def drop(self, name: str) -> None:
        """Takes a file away; one that is gone is no error."""

    def is_gone(self, owner: str) -> bool:
        """Whether a process is known to have ended; False also where nothing is known of it."""

    def sweep(self, kept: frozenset[str]) -> None:
        """Takes away what processes that have ended left behind, but for these files."""


class Source(Protocol):
    """What a calibration needs of the model that it is for."""

    def logits(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Float[np.ndarray, "n k"]:
        """The model's logits of some rows. Raises: `ModelFailed`, `NotFinite`."""

    def head(self) -> Head | None:
        """The numbers of the model's linear head, None where it has none."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a calibration found: a point as plain values, what the fit says of it, and the curve in bytes, of two
    classes.
    """

    point: Mapping[str, Any]
    details: Mapping[str, Any]
    curve: bytes | None


class Calibration(Protocol):
    """One calibration in a process of its own."""

    def run(self, order: Mapping[str, Any], source: Source, tell: Callable[[Mapping[str, Any]], None]) -> Fitted:
        """Fits what is ordered, and tells how far it is.

        Raises: what `calibrate.fit` raises, `OverLimit`, `WorkerGone` where the process ended or was killed.
        """

    def kill(self) -> None:
        """Ends the process now, from any thread, also before it runs."""


class Calibrator(Protocol):
    """Makes processes for calibrations."""

    def calibration(self) -> Calibration:
        """A new one, which has not begun."""

    def read_spec(self, path: Path) -> dict[str, Any]:
        """The JSON object in a file without its data, read in a process of its own. Raises: `BadRequest`."""

    def evaluate(self, order: Mapping[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
        """What points achieve on new rows, in a process of its own: the reply, and the page where one is ordered.

        Raises: what `calibrate` raises for the rows, `OverLimit`, `BadRequest` where its process ended.
        """
