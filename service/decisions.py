"""The decision log: which point decided which row, for whom and when, so that it can be told months later.

An entry leads to the model's file, the operating point and its digest, and through the point to its evidence and the
audit trail; it holds the label and the margin that were answered, and a digest of the row, never what was in it.

Decided here: an answer hands over its arrays, and a thread makes entries of them and keeps them in batches. What waits
is bounded. `best_effort` drops and counts what does not fit, and never holds an answer up; with `required` there is no
answer before its entries are kept, and where they cannot be it is 503. The oldest entries make room for new ones.

A batch is one transaction, however long: what is tried again is never in twice, and what is refused left nothing. An
answer that waited in vain gives its entries up, unless the store is keeping them at that moment; then it waits on.
"""

import contextlib
import hmac
import json
import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from time import monotonic
from typing import Any, Literal

import numpy as np

from calibrate.errors import SetpointError
from calibrate.operating_point import OperatingPoint
from service.domain import Decision
from service.errors import Busy, StorageFailed
from service.inference import Answer, Rows
from service.ports import Decisions

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 2**20  # that wait, counted as arrays
MOST_AT_ONCE = 5000  # rows of one step of the store, as near as whole answers allow: one answer is never divided
LINGER_S = 0.1  # an entry that nobody waits for may wait for others
PATIENCE_S = 10.0  # of an answer that waits for its entries
_KEEPING_S = 30.0  # more, of one whose entries are being kept: no step of the store takes as long
_RETRY_S = 1.0
_ENTRY_BYTES = 500
_NUMBER_BYTES = 32  # in a list of Python's


@dataclass(frozen=True, eq=False)
class Answered:
    """One answer, to be told of row by row: nothing is made per row yet."""

    request_id: str
    principal: str
    rows: Rows
    answer: Answer
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    kept: Future[None] = field(default_factory=Future)

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.answer.decided)

    @property
    def bytes(self) -> int:
        """About what it takes while it waits."""
        rows = self.rows
        given = list(rows.inputs.values()) if rows.inputs is not None else rows[1:]
        return self.count * _ENTRY_BYTES + sum(map(_size, given))


class DecisionLog:
    """Takes answers from any thread, and has one of its own to keep them."""

    def __init__(
        self, store: Decisions, mode: Literal["best_effort", "required"], most_rows: int, key: bytes | None = None
    ) -> None:
        self._store, self._most_rows, self._key = store, most_rows, key
        self.is_required = mode == "required"
        self.kept_rows = self.dropped_rows = 0
        self._waiting: deque[Answered] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._told_at = -60.0

    def start(self) -> None:
        """Begins to keep what is put."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def stop(self, most_s: float = 5.0) -> None:
        """Keeps what waits, as far as the time allows, and ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(most_s)
        with self._changed:
            self._drop(sum(each.count for each in self._waiting))
            self._waiting.clear()

    def put(self, answered: Answered) -> Future[None] | None:
        """Takes an answer; gives what must be waited for before it is sent, None where nothing need be.

        Raises: `Busy` where entries are required and too many wait.
        """
        with self._changed:
            if self._bytes and self._bytes + answered.bytes > MOST_BYTES:
                if self.is_required:
                    raise Busy("the decision log, without which nothing is answered, cannot keep up")
                self._drop(answered.count)
                return None
            self._waiting.append(answered)
            self._bytes += answered.bytes
            self._changed.notify()
        return answered.kept if self.is_required else None

    def counts(self) -> dict[str, int]:
        """Rows so far, for the metrics."""
        return {"kept": self.kept_rows, "dropped": self.dropped_rows}

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._keep(batch)

    def _next(self) -> list[Answered] | None:
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
            if not self.is_required and not self._stopping:
                self._changed.wait_for(lambda: self._stopping or self._bytes > MOST_BYTES // 8, LINGER_S)
            batch: list[Answered] = []
            rows = 0
            while self._waiting and (not batch or rows + self._waiting[0].count <= MOST_AT_ONCE):
                batch.append(self._waiting.popleft())
                rows += batch[-1].count
            return batch

    def _keep(self, batch: list[Answered]) -> None:
        try:
            while True:
                try:
                    self._store.add(self._entries(batch), self._most_rows)
                except StorageFailed as error:
                    if self.is_required or self._stopping:
                        raise
                    self._tell("decisions wait, the store does not keep them: %s", error)
                    with self._changed:
                        self._changed.wait_for(lambda: self._stopping, _RETRY_S)
                else:
                    break
        except Exception as error:  # the edge of the thread, which must outlive it
            failed = error if isinstance(error, SetpointError) else StorageFailed("the decision log failed")
            if not isinstance(error, SetpointError):
                log.exception("the decision log failed", exc_info=error)
            with self._changed:
                self._drop(sum(each.count for each in batch))
            for each in filter(_claim, batch):
                each.kept.set_exception(failed)
        else:
            kept = [each for each in batch if not each.kept.cancelled()]
            rows = sum(each.count for each in kept)
            self.kept_rows += rows
            with self._changed:
                self._drop(sum(each.count for each in batch) - rows)
            for each in kept:
                each.kept.set_result(None)
        with self._changed:
            self._bytes -= sum(each.bytes for each in batch)

    def _entries(self, batch: list[Answered]) -> Iterator[Decision]:
        """Made while the store takes them, so that what nobody waits for any more is left out."""
        for answered in filter(_claim, batch):
            yield from _entries(answered, self._key)

    def _drop(self, rows: int) -> None:
        if rows:
            self.dropped_rows += rows
            self._tell("decisions are not logged, %d rows so far", self.dropped_rows)

    def _tell(self, text: str, *what: object) -> None:
        if monotonic() - self._told_at >= 60:
            self._told_at = monotonic()
            log.error(text, *what)


def _size(given: Any) -> int:
    if isinstance(given, np.ndarray):
        return given.nbytes
    return _NUMBER_BYTES * len(given) * len(given[0]) if isinstance(given, list) and isinstance(given[0], list) else 0


def arrays(rows: Rows) -> Mapping[str, np.ndarray]:
    """What a request brought, as arrays by name: its inputs, or features or scores under their name as float64."""
    if rows.inputs is not None:
        return rows.inputs
    others = zip(rows._fields[1:], rows[1:], strict=True)
    return {name: np.asarray(given, dtype=np.float64) for name, given in others if given is not None}


def digest_rows(given: Mapping[str, np.ndarray], key: bytes | None = None) -> list[str]:
    """A digest for each row, hex: SHA-256, or HMAC-SHA-256 with a key, over its arrays in the order of their names.

    Each array adds a line of JSON, `[name, type, shape of a row]`, and the row's values as they lie in memory,
    little-endian; texts add a line of JSON instead. Without a key, whoever can guess a row can prove the guess.
    """
    pieces = [list(_pieces(name, given[name])) for name in sorted(given)]
    said = (b"".join(parts) for parts in zip(*pieces, strict=True))
    if key is None:
        return [sha256(each).hexdigest() for each in said]
    return [hmac.digest(key, each, "sha256").hex() for each in said]


def _pieces(name: str, array: np.ndarray[Any, Any]) -> Iterator[bytes]:
    head = _head(name, array.dtype, array.shape[1:])
    if array.dtype.kind == "O":
        for row in array:
            texts = row.tolist() if isinstance(row, np.ndarray) else row
            yield head + json.dumps(texts).encode() + b"\n"
        return
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data, size = plain.tobytes(), plain.nbytes // max(1, len(plain))
    for i in range(len(plain)):
        yield head + data[i * size : (i + 1) * size]


@lru_cache(256)
def _digest(point: OperatingPoint) -> str:
    """Of a point, which is the same object in every answer of a server."""
    return point.digest


@lru_cache(256)
def _head(name: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return json.dumps([name, "str" if kind.kind == "O" else kind.name, list(shape)]).encode() + b"\n"


def wait_until_kept(kept: Future[None]) -> None:
    """Holds an answer back until its entries are kept, in the thread that made it. Raises: `StorageFailed`."""
    with contextlib.suppress(TimeoutError):
        return kept.result(PATIENCE_S)
    if kept.cancel():
        raise StorageFailed("the decision log did not keep the decisions in time; nothing is answered or kept")
    try:
        kept.result(_KEEPING_S)
    except TimeoutError:
        raise StorageFailed("the decision log may have kept the decisions, too late; nothing is answered") from None


def _claim(answered: Answered) -> bool:
    """Whether the answer is still waited for; from now on its waiter learns what becomes of it."""
    return answered.kept.running() or answered.kept.set_running_or_notify_cancel()


def _entries(answered: Answered, key: bytes | None) -> Iterator[Decision]:
    found = answered.answer
    version = found.version
    points = found.points if len(found.points) == answered.count else found.points * answered.count
    told = {id(point): (point.label, _digest(point.point)) for point in {id(each): each for each in points}.values()}
    decided, margins = found.decided.tolist(), found.margin.tolist()
    for row, (point, label, margin, digest) in enumerate(
        zip(points, decided, margins, digest_rows(arrays(answered.rows), key), strict=True)
    ):
        yield Decision(
            request_id=answered.request_id,
            row=row,
            at=answered.at,
            model=version.model,
            model_version=version.version,
            model_digest=version.digest,
            point=told[id(point)][0],
            point_digest=told[id(point)][1],
            label=version.classes[label],
            margin=margin,
            principal=answered.principal,
            input_digest=digest,
        )
