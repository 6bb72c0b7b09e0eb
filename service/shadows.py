"""Shadows: what points that do not answer would have decided, on every row that another point did answer.

Decided here: an answer waits for none of it. It leaves its logits on a heap, which is a few references; a thread of its
own takes the heap away many times a second, decides all rows of one model and point at once, and counts how often the
shadow agrees, by the hour and by what was answered and what the shadow would have. The counts go to the store every few
seconds. What is on the heap is bounded: beyond that rows are not counted, and how many is told. Logits are dropped as
they were counted; nothing of a row is kept.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float, Int

from calibrate.errors import SetpointError
from service.domain import Model, PointRecord
from service.errors import StorageFailed
from service.inference import Answer
from service.ports import ShadowBook, ShadowCount

log = logging.getLogger(__name__)

MOST_NUMBERS = 2_000_000  # logits that may wait: 16 MB
MOST_COUNTS = 100_000  # kinds of rows that may wait for a store that does not answer
_GATHER_S = 0.05
_KEEP_EVERY_S = 2.0

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


class Shadows:
    """Counts what shadows would have decided, in a thread that starts with the first of them."""

    def __init__(self, book: ShadowBook) -> None:
        self._book = book
        self._lock, self._counting, self._keeping = threading.Lock(), threading.Lock(), threading.Lock()
        self._heap: list[Seen] = []
        self._numbers = 0
        self._kinds: Counter[Kind] = Counter()
        self._totals: Counter[tuple[str, str, bool]] = Counter()
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._work, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, model: Model, logits: Float[np.ndarray, "n k"], found: Answer) -> None:
        """Has an answer counted against every shadow of its model version, later; never waits, never raises."""
        shadows = model.shadows(found.version)
        if not shadows:
            return
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        seen = Seen(model.name, shadows, found.points, logits, found.decided, hour)
        with self._lock:
            if self._numbers + logits.size > MOST_NUMBERS:
                self._skip(seen)
                return
            self._heap.append(seen)
            self._numbers += logits.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)
                self._thread.start()
        self._work.set()

    def totals(self) -> dict[tuple[str, str, bool], int]:
        """Rows by model, shadow (`name@version`) and whether it agreed, since this server started: for metrics."""
        with self._lock:
            return dict(self._totals)

    def skipped(self, model: str, shadow: str) -> int:
        """Rows that this server did not count for a shadow since it started, because there were too many at once."""
        with self._lock:
            return self._skipped[model, shadow]

    def counts(self, model: str, shadow: str) -> list[ShadowCount]:
        """All counts of a shadow, of every server; those of others may be seconds old. Raises: `StorageFailed`."""
        self._count()
        self._keep()
        return self._book.counts(model, shadow)

    def close(self) -> None:
        """Counts and keeps what is left."""
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
            for group in _grouped(heap):
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
