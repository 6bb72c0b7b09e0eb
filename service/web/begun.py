"""Coroutines that are begun before there is a task for them.

Decided here: most calls of hot routes wait for nothing, so they are through once they were begun, and a task, which
costs as much as their decision, is made for the others alone.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """What is left of a coroutine that was begun, and asked for something where it stands.

    Awaited in a task, it gets `receive` for an answer, and goes on as if it had been the task's from the beginning.
    """

    __slots__ = ("_answer", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, T], answer: Any) -> None:
        self._coroutine, self._answer = coroutine, answer

    def __await__(self) -> Generator[Any, Any, T]:
        """Hands on what it waits for, and what the waiting brings, an end before its time too."""
        answer, step = self._answer, self._coroutine.send
        while True:
            try:
                waits_for = step(answer)
            except StopIteration as through:
                found: T = through.value
                return found
            try:
                answer, step = (yield waits_for), self._coroutine.send
            except BaseException as error:  # a cancellation, which is the coroutine's to hear
                answer, step = error, self._coroutine.throw
