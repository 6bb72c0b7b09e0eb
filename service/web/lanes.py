"""Threads by kind of work, so that one kind that is stuck or slow never takes the threads of another.

Decided here: a lane has its own threads, a bounded number of calls may wait for them, and one more is refused at once.
A thread that hangs in foreign code cannot be ended, so it keeps its place: a model that never finishes loading takes
one of the two places for registrations, and no more.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from service.errors import Busy

T = TypeVar("T")


class Lane:
    """Runs at most `at_once` calls, in threads, while at most `waiting` more wait for theirs."""

    def __init__(self, what: str, at_once: int, waiting: int = 0) -> None:
        self._what, self._at_once = what, at_once
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._threads = CapacityLimiter(at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """What the work gives. Raises: `Busy` where there is no place, and whatever the work raises."""
        if not self._places.acquire(blocking=False):
            raise Busy(
                f"{self._at_once} {self._what} are running, which is all this server runs at once; try again later"
            )
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._places.release()


@dataclass(frozen=True)
class Lanes:
    """Every kind of work."""

    predictions: Lane
    calibrations: Lane
    registrations: Lane
    changes: Lane
    health: Lane


def make_lanes(calibrations: int) -> Lanes:
    """The lanes of one server."""
    return Lanes(
        predictions=Lane("predictions", 32, waiting=1000),
        calibrations=Lane("readings of calibrations", calibrations, waiting=16),
        registrations=Lane("registrations", 2),
        changes=Lane("changes and look-ups", 8, waiting=200),
        health=Lane("health checks", 2, waiting=100),
    )
