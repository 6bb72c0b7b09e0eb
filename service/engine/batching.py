"""Runs of models in threads, rows of several callers together where that is right.

Decided here:

- Rows are counted, not calls. What runs together is of one model version and alike in input names, types and shape; the
  operating point is none of the model's business, so callers with different points share a run.
- Nothing is held back to wait for company: while a run is in progress others gather, and the next takes what is there.
- What may wait is bounded in rows and bytes; one more is refused at once. The next run is the most urgent one's:
  priority 1 before 2, the default between; among equals the first come.
- A caller that leaves, or whose time is up, is taken out; those that it would have run with are answered. Where a run
  of several callers fails, each is run alone, so only the one to blame is told.
- A run that is shorter than handing it to a thread is done where the caller stands.
"""

import asyncio
import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from jaxtyping import Float

from service.domain import ModelVersion
from service.errors import Busy, TimedOut
from service.ports import Ran, Session

DEFAULT_PRIORITY = 100  # what 0 stands for
Logits = Float[np.ndarray, "n k"]
Key = tuple[object, ...]
Outcome = Logits | BaseException


@dataclass(eq=False, slots=True)
class _Waiting:
    """A caller's rows, and where it waits for their logits."""

    version: ModelVersion
    session: Session
    inputs: Mapping[str, np.ndarray]
    rows: int
    size_bytes: int
    until: float | None
    since: float
    future: asyncio.Future[Logits]
    told: Callable[[Ran], None] | None = None
    is_gone: bool = False

    @property
    def is_late(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until


@dataclass(eq=False, slots=True)
class _Line:
    """Those that may run together, most urgent first; what has gone from the middle is skipped when its turn comes."""

    heap: list[tuple[int, int, _Waiting]] = field(default_factory=list)


class Batcher:
    """Runs at most `at_once` models at a time, each on `batch_rows` rows at most unless one caller has more.

    `ran` is told of every run (model, version, rows, seconds), `waited` how long a caller's rows waited for theirs.
    """

    def __init__(
        self,
        at_once: int,
        batch_rows: int,
        queued_rows: int,
        queued_bytes: int,
        ran: Callable[[str, int, int, float], None] = lambda *_: None,
        waited: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._at_once, self._batch_rows = at_once, batch_rows
        self._most_rows, self._most_bytes = queued_rows, queued_bytes
        self._ran, self._waited = ran, waited
        self._changed = threading.Condition()
        self._lines: dict[Key, _Line] = {}
        self._numbers = count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self.queued_rows = self.queued_bytes = 0
        self._is_closed = False

    def run_now(self, version: ModelVersion, session: Session, inputs: Mapping[str, np.ndarray]) -> Logits | None:
        """The logits of the rows where that is quicker than asking a thread for them, else None. Raises: as `run`."""
        rows = len(next(iter(inputs.values())))
        return self._run(version, session, inputs, rows) if rows <= session.quick_rows else None

    async def run(
        self,
        version: ModelVersion,
        session: Session,
        inputs: Mapping[str, np.ndarray],
        *,
        priority: int = 0,
        until: float | None = None,
        told: Callable[[Ran], None] | None = None,
    ) -> Logits:
        """The logits of the rows. `until` is a time of `time.monotonic`, after which nobody wants them; `told` is
        called from the thread that ran them.

        Raises: `Busy`, `TimedOut`, and what the session raises.
        """
        rows = len(next(iter(inputs.values())))
        loop = asyncio.get_running_loop()
        size_bytes = sum(array.nbytes for array in inputs.values())
        since, future = time.monotonic(), loop.create_future()
        waiting = _Waiting(version, session, inputs, rows, size_bytes, until, since, future, told)
        self._join(waiting, priority or DEFAULT_PRIORITY)
        alarm = None if until is None else loop.call_later(until - time.monotonic(), self._expire, waiting)
        try:
            return await waiting.future
        finally:
            if alarm is not None:
                alarm.cancel()
            self._leave(waiting)

    def close(self) -> None:
        """Ends the threads once what is running is through. What waits is answered `Busy`."""
        with self._changed:
            self._is_closed = True
            left = [waiting for line in self._lines.values() for *_, waiting in line.heap if not waiting.is_gone]
            self._lines.clear()
            self._changed.notify_all()
        _settle([(waiting, Busy("the server is stopping; nothing was run")) for waiting in left])
        for thread in self._threads:
            thread.join(5)

    def _run(self, version: ModelVersion, session: Session, inputs: Mapping[str, np.ndarray], rows: int) -> Logits:
        started = time.perf_counter()
        logits = session.run(inputs)
        self._ran(version.model, version.version, rows, time.perf_counter() - started)
        return logits

    def _join(self, waiting: _Waiting, priority: int) -> None:
        with self._changed:
            if self._is_closed:
                raise Busy("the server is stopping")
            full = self.queued_rows + waiting.rows > self._most_rows or (
                self.queued_bytes + waiting.size_bytes > self._most_bytes
            )
            if full and self.queued_rows:
                raise Busy(
                    f"{self.queued_rows} rows ({self.queued_bytes} bytes) wait for a run, and {waiting.rows} more are "
                    "more than this server lets wait; try again later"
                )
            self.queued_rows += waiting.rows
            self.queued_bytes += waiting.size_bytes
            line = self._lines.setdefault(_key(waiting), _Line())
            heapq.heappush(line.heap, (priority, next(self._numbers), waiting))
            if self._idle:
                self._changed.notify()
            elif len(self._threads) < self._at_once:
                thread = threading.Thread(target=self._work, name=f"runs-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _leave(self, waiting: _Waiting) -> None:
        """Its caller waits no longer; where it still stood in line, its place is free."""
        with self._changed:
            self._take_out(waiting)

    def _expire(self, waiting: _Waiting) -> None:
        if not waiting.future.done():
            waiting.future.set_exception(_late(waiting))

    def _take_out(self, waiting: _Waiting) -> None:
        if not waiting.is_gone:
            waiting.is_gone = True
            self.queued_rows -= waiting.rows
            self.queued_bytes -= waiting.size_bytes

    def _work(self) -> None:
        """A thread: takes what is most urgent, runs it, answers."""
        while True:
            with self._changed:
                while not (batch := self._take()):
                    if self._is_closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
            late = [waiting for waiting in batch if waiting.is_late]
            _settle([(waiting, _late(waiting)) for waiting in late])
            if batch := [waiting for waiting in batch if waiting not in late]:
                _settle(self._answer(batch))
            del batch, late  # an idle thread holds no session

    def _take(self) -> list[_Waiting]:
        """The next run's callers: the most urgent one, and those of its line that fit beside it."""
        for key in [key for key, line in self._lines.items() if not _clean(line)]:
            del self._lines[key]
        if not self._lines:
            return []
        key = min(self._lines, key=lambda key: self._lines[key].heap[0][:2])
        heap = self._lines[key].heap
        batch = [heapq.heappop(heap)[2]]
        rows = batch[0].rows
        while batch[0].session.is_batchable and _clean(self._lines[key]) and rows + heap[0][2].rows <= self._batch_rows:
            batch.append(heapq.heappop(heap)[2])
            rows += batch[-1].rows
        if not heap:
            del self._lines[key]
        for waiting in batch:
            self._take_out(waiting)
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> list[tuple[_Waiting, Outcome]]:
        """What each gets of a run of all."""
        first = batch[0]
        now = time.monotonic()
        for waiting in batch:
            self._waited(first.version.model, first.version.version, now - waiting.since)
        inputs = first.inputs
        if len(batch) > 1:
            inputs = {name: np.concatenate([waiting.inputs[name] for waiting in batch]) for name in first.inputs}
        rows = sum(waiting.rows for waiting in batch)
        began = time.perf_counter()
        try:
            logits = self._run(first.version, first.session, inputs, rows)
        except Exception as error:  # of whatever kind, it is the callers' answer
            return [(first, error)] if len(batch) == 1 else [self._alone(waiting) for waiting in batch]
        _tell(batch, time.perf_counter() - began, rows)
        ends = np.cumsum([waiting.rows for waiting in batch]).tolist()
        return [(waiting, logits[end - waiting.rows : end]) for waiting, end in zip(batch, ends, strict=True)]

    def _alone(self, waiting: _Waiting) -> tuple[_Waiting, Outcome]:
        """What one of a run that failed gets by itself, unless nobody waits for it any longer."""
        if waiting.future.done() or waiting.is_late:
            return waiting, _late(waiting)
        began = time.perf_counter()
        try:
            logits = self._run(waiting.version, waiting.session, waiting.inputs, waiting.rows)
        except Exception as error:  # as above
            return waiting, error
        _tell([waiting], time.perf_counter() - began, waiting.rows)
        return waiting, logits


def _clean(line: _Line) -> bool:
    """Takes those off the head of a line that have gone; whether anybody is left."""
    while line.heap and line.heap[0][2].is_gone:
        heapq.heappop(line.heap)
    return bool(line.heap)


def _key(waiting: _Waiting) -> Key:
    shapes = ((name, array.dtype.str, array.shape[1:]) for name, array in sorted(waiting.inputs.items()))
    return (waiting.version.model, waiting.version.version, *shapes)


def _tell(batch: Sequence[_Waiting], seconds: float, rows: int) -> None:
    """Tells those of a run who asked to be told."""
    for i, told in enumerate(waiting.told for waiting in batch if waiting.told is not None):
        told(Ran(seconds, rows, i == 0))


def _late(waiting: _Waiting) -> TimedOut:
    return TimedOut(f"the {waiting.rows} rows were not run within the time that the call gave them")


def _settle(outcomes: Sequence[tuple[_Waiting, Outcome]]) -> None:
    """Hands outcomes over to the event loops that wait for them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.future.get_loop(), []).append((waiting, outcome))
    for loop, own in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_hand_over, own)


def _hand_over(outcomes: Sequence[tuple[_Waiting, Outcome]]) -> None:
    for waiting, outcome in outcomes:
        if waiting.future.done():
            continue  # its caller left meanwhile
        if isinstance(outcome, BaseException):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)
