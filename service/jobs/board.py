"""How far the jobs of this process are, and who wants to be told when that changes."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Told = Callable[[], None]


class Board:
    """Progress by job, and listeners. A listener is called from any thread, and must not take long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._listeners: dict[str, list[Told]] = {}

    def write(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Keeps how far a job is, and tells."""
        with self._lock:
            self._progress[job_id] = progress
        self.tell(job_id)

    def wipe(self, job_id: str) -> None:
        """A job no longer runs here."""
        with self._lock:
            self._progress.pop(job_id, None)
        self.tell(job_id)

    def tell(self, job_id: str) -> None:
        """A job has changed."""
        with self._lock:
            listeners = list(self._listeners.get(job_id, ()))
        for listener in listeners:
            listener()

    def read(self, job_id: str) -> Mapping[str, Any] | None:
        """How far a job is, None where it does not run here."""
        return self._progress.get(job_id)

    @contextmanager
    def listening(self, job_id: str, listener: Told) -> Iterator[None]:
        """Calls the listener on every change of a job from here on."""
        with self._lock:
            self._listeners.setdefault(job_id, []).append(listener)
        try:
            yield
        finally:
            with self._lock:
                left = self._listeners[job_id]
                left.remove(listener)
                if not left:
                    del self._listeners[job_id]
