"""A request body within its limits, whatever is sent: its bytes, its pieces, and the time that it takes to come.

Decided here: a packed body (`Content-Encoding`) is taken under `/v2` alone, whose protocol has it and which bounds
what it unpacks to; elsewhere it is 415, and `.npz` is the compact form.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
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
            async with asyncio.timeout_at(ends_at):
                message = await receive()
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


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the body may have at most {most_bytes} bytes, got more")
