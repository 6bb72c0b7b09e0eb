"""A request body within its limits, whatever is sent: its bytes, its pieces, and the time that it takes to come.

Decided here: a packed body (`Content-Encoding`) is taken under `/v2` alone, whose protocol has it and which bounds
what it unpacks to; elsewhere it is 415, and `.npz` is the compact form.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any, Protocol

from service.domain import BadRequest, TooLarge, TooSlow, UnknownEncoding

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

PACKED = "/v2/"
MOST_TINY = 1000  # pieces of a body that may be of any size; beyond them they must be of 64 bytes on average
LEAST_BYTES = 64


class Counted(Protocol):
    """Where the bytes of a body are counted."""

    received: int


def check_head(scope: Message, most_bytes: int) -> None:
    """What the head of a request says of its body. Raises: `TooLarge`, `UnknownEncoding`."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            if value.isdigit() and int(value[:20]) > most_bytes:
                raise _too_large(most_bytes)
        elif name == b"content-encoding" and not (
            value.strip().lower() in (b"", b"identity") or scope["path"].startswith(PACKED)
        ):
            said = value[:50].decode("latin-1")
            raise UnknownEncoding(f"the body must come as it is, without Content-Encoding; got {said!r}")


def bounded(receive: Receive, most_bytes: int, most_s: float, counted: Counted) -> Receive:
    """The messages of a body, as long as it stays within its limits; `counted` is told how much came.

    Raises, where they are awaited: `TooLarge`, `TooSlow`, `BadRequest` for a body in very many tiny pieces.
    """
    pieces = 0
    ends_at: float | None = None
    is_whole = False

    async def next_message() -> Message:
        nonlocal pieces, ends_at, is_whole
        if is_whole:
            return await receive()  # only the client's leaving is left to come
        if ends_at is None:
            ends_at = asyncio.get_running_loop().time() + most_s
        try:
            message = await _by(receive, ends_at)
        except TimeoutError:
            raise TooSlow(f"the body must come within {most_s:g} s; {counted.received} bytes came") from None
        if message["type"] != "http.request":
            return message
        counted.received += len(message.get("body", b""))
        pieces += 1
        if counted.received > most_bytes:
            raise _too_large(most_bytes)
        if pieces > MOST_TINY + counted.received // LEAST_BYTES:
            raise BadRequest(f"the body came in more than {pieces - 1} pieces of fewer than {LEAST_BYTES} bytes each")
        is_whole = not message.get("more_body", False)
        return message

    return next_message


async def _by(receive: Receive, ends_at: float) -> Message:
    """The next message, by a time. One that is already there, as that of a small body mostly is, needs no clock.

    Raises: `TimeoutError`.
    """
    asked = receive()
    if not isinstance(asked, Coroutine):
        async with asyncio.timeout_at(ends_at):
            return await asked
    try:
        waits_for = asked.send(None)
    except StopIteration as there:
        message: Message = there.value
        return message
    async with asyncio.timeout_at(ends_at):
        return await _Rest(asked, waits_for)


class _Rest:
    """What is left of a coroutine that has begun to wait."""

    def __init__(self, begun: Coroutine[Any, Any, Message], waits_for: Any) -> None:
        self._begun, self._waits_for = begun, waits_for

    def __await__(self) -> Generator[Any, Any, Message]:
        """Waits on, and hands on what the waiting brings, an end before its time too."""
        waits_for = self._waits_for
        while True:
            try:
                try:
                    got = yield waits_for
                except BaseException as error:  # a cancellation, which is the coroutine's to hear
                    waits_for = self._begun.throw(error)
                else:
                    waits_for = self._begun.send(got)
            except StopIteration as through:
                message: Message = through.value
                return message


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the body may have at most {most_bytes} bytes, got more")
