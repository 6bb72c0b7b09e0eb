"""What the service needs of the outside world: a store, a folder of artifacts, and something that runs models.

Each has one contract, which every implementation passes (`tests/contracts`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from calibrate.io.model import OutputKind, Port
from service.domain import AuditEntry, Decision, Default, HeadInfo, Model, ModelVersion, PointRecord
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

    def add_version(self, version: ModelVersion, actor: str) -> Model:
        """Keeps a version under the next number, with the point `argmax`, which is the default of the first one.

        The number and the time in `version` are the store's to give.
        """

    def add_point(
        self, record: PointRecord, actor: str, then: Callable[[Model, PointRecord], Change] | None = None
    ) -> Model:
        """Publishes a point under the next number of its name; `then` is given the model with it, and its change is
        made in the same step.

        The number and the time in `record` are the store's to give. Raises: `UnknownModel`, `Conflict` where the name
        is an alias; what `then` raises, and nothing is published.
        """

    def change(self, model: str, decide: Callable[[Model], Change], actor: str) -> Model:
        """Makes the change that `decide` gives for the model as it stands in this step; whatever it raises, nothing is
        changed.

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

    def add(self, entries: Sequence[Decision], most_rows: int) -> None:
        """Keeps entries, all or none; the oldest beyond `most_rows` go."""

    def of_request(self, request_id: str, models: frozenset[str] | None, first_row: int, limit: int) -> list[Decision]:
        """The entries of a request from a row on, of these models alone where they are told."""


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
    """A model file that was read, loaded and run on two rows: `data` is the graph as it is served.

    `labels` are the graph's own, `width` is the number of classes; each None where it is not told.
    """

    data: bytes
    inputs: tuple[Port, ...]
    output: str
    kind: OutputKind
    head: HeadInfo | None
    metadata: dict[str, str]
    labels: tuple[str, ...] | None
    width: int | None


class Engine(Protocol):
    """Tries models out, and loads those that passed."""

    def examine(self, data: bytes, *, output: str | None = None, output_kind: str | None = None) -> Examined:
        """What is known of a model file once it has run by itself, within limits of memory and time.

        Raises: `BadModel`, `NoHead`, `ModelFailed`, `WrongShape`.
        """

    def load(self, data: bytes, output: str, kind: OutputKind) -> Session:
        """A session of a graph, one output of which holds logits or probabilities.

        Raises: `BadModel` where the runtime refuses it.
        """
