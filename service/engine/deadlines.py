"""Ends runs that take too long.

Decided here: one thread watches all runs, and sleeps while there are none; a timer per run would cost as much as a run
of a small model. It looks a few times in the time that a run has, so an end comes a little late, never early. Between
two looks it sleeps, also when there is nothing left to watch: to be woken for each run would cost more than the run.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Endable(Protocol):
    """The options of a run, which ends once `terminate` is set."""

    terminate: bool


class Deadlines:
    """Watches runs, each of which may take `run_s` seconds."""

    def __init__(self, run_s: float) -> None:
        self.run_s = run_s
        self._runs: dict[int, tuple[float, Endable]] = {}
        self._any = threading.Event()
        self._watcher: threading.Thread | None = None
        self._starting = threading.Lock()

    def begin(self, options: Endable) -> None:
        """From now on: sets `terminate` of the options if they are not at their `end` in time."""
        self._runs[id(options)] = (time.monotonic() + self.run_s, options)
        if not self._any.is_set():
            self._start()
            self._any.set()

    def end(self, options: Endable) -> bool:
        """The run is through; whether it was in time, so that nobody sets `terminate` of the options any more."""
        until, _ = self._runs.pop(id(options))
        return until > time.monotonic()

    @contextmanager
    def over(self, options: Endable) -> Iterator[None]:
        """`begin` and `end` around what runs inside."""
        self.begin(options)
        try:
            yield
        finally:
            self.end(options)

    def _start(self) -> None:
        with self._starting:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        while self._any.wait():
            time.sleep(min(0.25, self.run_s / 4))
            now = time.monotonic()  # ahead of the look, so that none is ended that was in time
            for until, options in list(self._runs.values()):
                if until <= now:
                    options.terminate = True
            if not self._runs:
                self._any.clear()
                if self._runs:  # one began in between, and took itself for watched
                    self._any.set()
