"""A request body within its limits, whatever is sent: its bytes, its pieces, and the time that it takes to come.

Decided here: a packed body (`Content-Encoding`) is taken under `/v2` alone, whose protocol has it and which bounds
what it unpacks to; elsewhere it is 415, and `.npz` is the compact form. One that is packed on its way
(`Transfer-Encoding: gzip, chunked`) is 415 everywhere: nothing here unpacks it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from service.errors import BadRequest, TooLarge, TooSlow, UnknownEncoding

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

PACKED = "/v2/"
MOST_TINY = 1000  # pieces of a body that may be of any size; beyond them they must be of 64 bytes on average
LEAST_BYTES = 64


class Counted(Protocol):
    """Where the bytes of a body are counted."""

    received: int


def check_head(scope: Message, headers: Mapping[bytes, bytes], most_bytes: int) -> None:
    """What the head of a request says of its body; `headers` are the same by name. Raises: `TooLarge`,
    `UnknownEncoding`.
    """
    if (
        b"content-encoding" not in headers
        and b"transfer-encoding" not in headers
        and len(headers) == len(scope["headers"])
    ):
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > most_bytes:
            raise _too_large(most_bytes)
        return
    for name, value in scope["headers"]:
        if name == b"content-length":
            if value.isdigit() and int(value[:20]) > most_bytes:
                raise _too_large(most_bytes)
        elif name == b"content-encoding" and not (
            value.strip().lower() in (b"", b"identity") or scope["path"].startswith(PACKED)
        ):
            said = value[:50].decode("latin-1")
            raise UnknownEncoding(f"the body must come as it is, without Content-Encoding; got {said!r}")
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            said = value[:50].decode("latin-1")
            raise UnknownEncoding(f"the only Transfer-Encoding is chunked; got {said!r}")


class Bounded:
    """The messages of a body, as long as it stays within its limits; `counted` is told how much came."""

    __slots__ = ("_counted", "_ends_at", "_is_whole", "_most_bytes", "_most_s", "_pieces", "_receive")

    def __init__(self, receive: Receive, most_bytes: int, most_s: float, counted: Counted) -> None:
        self._receive, self._most_bytes, self._most_s, self._counted = receive, most_bytes, most_s, counted
        self._pieces, self._ends_at, self._is_whole = 0, 0.0, False

    async def __call__(self) -> Message:
        """The next message.

        Raises: `TooLarge`, `TooSlow`, `BadRequest` for a body in very many tiny pieces.
        """
        if self._is_whole:
            return await self._receive()  # only the client's leaving is left to come
        self._ends_at = self._ends_at or asyncio.get_running_loop().time() + self._most_s
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError:
            came = self._counted.received
            raise TooSlow(f"the body must come within {self._most_s:g} s; {came} bytes came") from None
        return self._check(message)

    def _check(self, message: Message) -> Message:
        if message["type"] != "http.request":
            return message
        self._counted.received = received = self._counted.received + len(message.get("body", b""))
        self._pieces += 1
        if received > self._most_bytes:
            raise _too_large(self._most_bytes)
        if self._pieces > MOST_TINY + received // LEAST_BYTES:
            raise BadRequest(
                f"the body came in more than {self._pieces - 1} pieces of fewer than {LEAST_BYTES} bytes each"
            )
        self._is_whole = not message.get("more_body", False)
        return message


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the body may have at most {most_bytes} bytes, got more")
