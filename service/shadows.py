"""Shadows: what points that do not answer would have decided, on every row that another point did answer.

A shadow of the version that answered decides the logits of the answer. One of another version of the model, which a
retrained model is, needs a run of that version: it gets the inputs of the rows, where the request brought them.

Decided here: an answer waits for none of it. It leaves its logits on a heap, which is a few references; a thread of its
own takes the heap away many times a second, decides all rows of one model and point at once, and counts how often the
shadow agrees, by the hour and by what was answered and what the shadow would have. The counts go to the store every few
seconds. What is on the heap is bounded: rows beyond that are not counted, but their number is reported. Logits and
inputs are dropped once they are counted; nothing of a row is kept.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float, Int

from calibrate.errors import SetpointError
from service.domain import Model, ModelVersion, PointRecord
from service.errors import StorageFailed
from service.inference import Answer, check_width
from service.ports import Session, ShadowBook, ShadowCount

log = logging.getLogger(__name__)

MOST_NUMBERS = 2_000_000  # logits that may wait: 16 MB
MAX_INPUT_BYTES = 64 * 2**20  # of rows that wait for a run of another version
MOST_COUNTS = 100_000  # kinds of rows that may wait for a store that does not answer
_GATHER_S = 0.05
_KEEP_EVERY_S = 2.0
_MAX_ROWS = 256  # of several requests in one run of another version
_CLOSE_S = 5.0  # for runs of other versions, once the server stops
_TEXT_BYTES = 100  # about what a text in memory takes

Kind = tuple[str, str, datetime, str, int, int]


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows that were answered: their logits (n, k), the class indices that were answered, and the points that did it:
    one for all rows, or one each.
    """

    model: str
    shadows: tuple[PointRecord, ...]
    points: tuple[PointRecord, ...]
    logits: Float[np.ndarray, "n k"]
    decided: Int[np.ndarray, "n"]
    hour: datetime


@dataclass(frozen=True, eq=False)
class Beside:
    """Rows that the default version answered, for the shadows of another one: `seen.logits` are those of the answer,
    whose place those of a run of `version` on `inputs` take.
    """

    seen: Seen
    version: ModelVersion
    inputs: Mapping[str, np.ndarray]
    bytes: int


class Shadows:
    """Counts what shadows would have decided, in a thread that starts with the first of them.

    `session` loads what runs a version.
    """

    def __init__(self, book: ShadowBook, session: Callable[[ModelVersion], Session]) -> None:
        self._book, self._session = book, session
        self._lock, self._counting, self._keeping = threading.Lock(), threading.Lock(), threading.Lock()
        self._heap: list[Seen] = []
        self._numbers = 0
        self._beside: list[Beside] = []
        self._bytes = 0
        self._until = float("inf")
        self._kinds: Counter[Kind] = Counter()
        self._totals: Counter[tuple[str, str, bool]] = Counter()
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._without_inputs: Counter[tuple[str, str]] = Counter()
        self._work, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def offer(
        self,
        model: Model,
        logits: Float[np.ndarray, "n k"],
        found: Answer,
        inputs: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Has an answer counted against every shadow of its model version, and of others that take the same inputs,
        later; never waits, never raises. `inputs` are those of the rows, None where they came as scores or features.
        """
        shadows, beside = model.shadows(found.version), model.shadows_beside(found.version)
        if not shadows and not beside:
            return
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        seen = Seen(model.name, shadows, found.points, logits, found.decided, hour)
        with self._lock:
            if shadows:
                if self._numbers + logits.size > MOST_NUMBERS:
                    self._skip(seen)
                else:
                    self._heap.append(seen)
                    self._numbers += logits.size
            for group in beside:
                self._offer_beside(model.versions[group[0].model_version], replace(seen, shadows=group), inputs)
            if self._thread is None and (self._heap or self._beside):
                self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)
                self._thread.start()
        self._work.set()

    def _offer_beside(self, version: ModelVersion, seen: Seen, inputs: Mapping[str, np.ndarray] | None) -> None:
        """Puts rows on the heap for another version, or counts them as skipped; under the lock."""
        if inputs is None:
            self._skip(seen)
            for record in seen.shadows:
                self._without_inputs[seen.model, record.label] += len(seen.logits)
            return
        size = sum(array.size * _TEXT_BYTES if array.dtype.kind == "O" else array.nbytes for array in inputs.values())
        if self._bytes + size > MAX_INPUT_BYTES:
            self._skip(seen)
        else:
            self._bytes += size
            self._beside.append(Beside(seen, version, inputs, size))

    def totals(self) -> dict[tuple[str, str, bool], int]:
        """Rows by model, shadow (`name@version`) and whether it agreed, since this server started: for metrics."""
        with self._lock:
            return dict(self._totals)

    def skipped(self, model: str, shadow: str) -> tuple[int, int]:
        """Rows that this server did not count for a shadow since it started: all of them, and those of them that came
        without the inputs that another version would have to be run on.
        """
        with self._lock:
            return self._skipped[model, shadow], self._without_inputs[model, shadow]

    def counts(self, model: str, shadow: str) -> list[ShadowCount]:
        """All counts of a shadow, of every server; those of others may be seconds old. Raises: `StorageFailed`."""
        self._count()
        self._keep()
        return self._book.counts(model, shadow)

    def close(self) -> None:
        """Counts and keeps what is left, as far as runs of other versions take a few seconds at most."""
        self._until = time.monotonic() + _CLOSE_S
        self._stop.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()
        self._try_to_keep()

    def _run(self) -> None:
        waited = 0.0
        while not self._stop.is_set():
            self._work.wait()
            self._stop.wait(_GATHER_S)
            self._work.clear()
            self._count()
            waited += _GATHER_S
            if waited >= _KEEP_EVERY_S:
                waited = 0.0
                self._try_to_keep()
            if self._kinds:
                self._work.set()  # comes back until it is kept

    def _try_to_keep(self) -> None:
        try:
            self._count()
            self._keep()
        except StorageFailed as error:
            log.warning("the counts of shadows wait for the store: %s", error)

    def _count(self) -> None:
        """Counts what is on the heap."""
        with self._counting:
            with self._lock:
                heap, self._heap, self._numbers = self._heap, [], 0
                beside, self._beside = self._beside, []
            for group in _grouped(heap):
                self._count_group(group)
            for together in _runs(beside, self._session):
                self._count_run(together)
                with self._lock:
                    self._bytes -= sum(each.bytes for each in together)

    def _count_group(self, group: Seen) -> None:
        kinds, totals = Counter[Kind](), Counter[tuple[str, str, bool]]()
        try:
            _compare(group, kinds, totals)
        except (SetpointError, ValueError, FloatingPointError) as error:
            log.warning("rows of model '%s' could not be decided by its shadows: %s", group.model, error)
            kinds.clear()
        with self._lock:
            if kinds and len(self._kinds) < MOST_COUNTS:
                self._kinds += kinds
                self._totals += totals
            else:
                self._skip(group)

    def _count_run(self, together: list[Beside]) -> None:
        """Runs rows of several answers through the version of their shadows, and counts what those decide."""
        version = together[0].version
        try:
            if time.monotonic() > self._until:
                raise StorageFailed("the server stops")
            names = together[0].inputs
            inputs = {name: np.concatenate([each.inputs[name] for each in together]) for name in names}
            logits = check_width(self._session(version).run(inputs), version)
        except (SetpointError, ValueError) as error:
            log.warning("rows of model '%s' were not run through %s: %s", version.model, version.shown, error)
            with self._lock:
                for each in together:
                    self._skip(each.seen)
            return
        ends = np.cumsum([len(each.seen.logits) for each in together]).tolist()
        for group in _grouped(
            replace(each.seen, logits=logits[end - len(each.seen.logits) : end])
            for each, end in zip(together, ends, strict=True)
        ):
            self._count_group(group)

    def _keep(self) -> None:
        """Adds what was counted to the store; whoever comes second finds it there."""
        with self._keeping:
            with self._lock:
                kinds, self._kinds = self._kinds, Counter()
            if not kinds:
                return
            try:
                self._book.add(ShadowCount(*kind, rows) for kind, rows in kinds.items())
            except BaseException:
                with self._lock:
                    self._kinds += kinds
                raise

    def _skip(self, seen: Seen) -> None:
        for record in seen.shadows:
            self._skipped[seen.model, record.label] += len(seen.logits)


def _grouped(heap: Iterable[Seen]) -> list[Seen]:
    """Rows of the same model, hour, shadows and answering point together: each shadow decides them in one go."""
    groups: dict[tuple[str, datetime, int, str | int], list[Seen]] = {}
    for seen in heap:
        by = seen.points[0].label if len(seen.points) == 1 else id(seen)
        groups.setdefault((seen.model, seen.hour, id(seen.shadows), by), []).append(seen)
    return [
        Seen(
            group[0].model,
            group[0].shadows,
            group[0].points,
            np.concatenate([seen.logits for seen in group]),
            np.concatenate([seen.decided for seen in group]),
            group[0].hour,
        )
        for group in groups.values()
    ]


def _runs(beside: Iterable[Beside], session: Callable[[ModelVersion], Session]) -> Iterable[list[Beside]]:
    """Rows that run together: of one version, alike in shape and type, a few hundred at most unless one answer has
    more; where the version's answers depend on the batch, each answer's rows alone.
    """
    groups: dict[tuple[object, ...], list[list[Beside]]] = {}
    for each in beside:
        shapes = ((name, array.dtype.str, array.shape[1:]) for name, array in sorted(each.inputs.items()))
        runs = groups.setdefault((each.version.model, each.version.version, *shapes), [[]])
        rows = sum(len(other.seen.logits) for other in runs[-1])
        if runs[-1] and (rows + len(each.seen.logits) > _MAX_ROWS or not _is_batchable(each.version, session)):
            runs.append([])
        runs[-1].append(each)
    return [run for runs in groups.values() for run in runs]


def _is_batchable(version: ModelVersion, session: Callable[[ModelVersion], Session]) -> bool:
    try:
        return session(version).is_batchable
    except SetpointError:
        return True  # the run will say why it cannot be loaded


def _compare(seen: Seen, kinds: Counter[Kind], totals: Counter[tuple[str, str, bool]]) -> None:
    """Counts the rows of a group for each of its shadows."""
    k = seen.logits.shape[1]
    if len(seen.points) == 1:
        parts = [(seen.points[0].label, np.arange(len(seen.logits)))]
    else:
        labels = np.array([record.label for record in seen.points])
        parts = [(str(label), np.flatnonzero(labels == label)) for label in np.unique(labels)]
    for shadow in seen.shadows:
        would = shadow.point.decide(seen.logits)
        for by, rows in parts:
            pairs, numbers = np.unique(seen.decided[rows] * k + would[rows], return_counts=True)
            for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
                answered, other = divmod(pair, k)
                kinds[seen.model, shadow.label, seen.hour, by, answered, other] += number
                totals[seen.model, shadow.label, answered == other] += number
