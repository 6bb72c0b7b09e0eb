"""Connections that cannot be held open for nothing: uvicorn's protocol, with limits on the head of a request.

The parser itself takes a head of any size, and waits for it without end; a client that sends a byte a minute would keep
its connection, and many of them every one there is. So a head has a size and a time, counted from when the server
began to wait for it, be it on a new connection, after an answer, or in what is left of a body that was refused. An idle
connection that was answered is the keep-alive limit's.

No connection changes to another protocol: a server may ignore `Upgrade` (RFC 9110, 7.8), which clients send that would
rather speak HTTP/2 (`h2c`), and read the request as any other. The parser stops behind such a head and passes over its
body, so a new one reads the head without that header, and then what follows. `CONNECT`, behind whose head nothing is
HTTP, is refused.

Headers that come after a body (trailers) are left out: they would join those that were judged when the caller was let
in.

A request that is whole when it is read, and that can be answered where it stands, is: uvicorn's own way, a task and a
cycle of messages, takes longer than a small model. It is held back from uvicorn while it is read, and handed over as it
came where it is not whole, comes behind another in one read, has to wait, or is in any way out of the ordinary. One is
answered so per read, so that no connection takes the loop for itself.
"""

from asyncio import TimerHandle, Transport
from collections.abc import MutableMapping
from typing import Any, NamedTuple, NoReturn, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

CLOSE = (b"connection", b"close")
_LARGE = b"431 Request Header Fields Too Large", b"the head of a request may have at most LIMIT bytes"
_TUNNEL = b"501 Not Implemented", b"CONNECT is not taken"
_SLOW = b"408 Request Timeout", b"the head of a request must come within LIMIT s"


Scope = MutableMapping[str, Any]


class Said(Protocol):
    """An answer as it is sent, but for its first line and the headers of every answer."""

    @property
    def status(self) -> int:
        """Of HTTP."""

    @property
    def headers(self) -> bytes:
        """Lines."""

    @property
    def body(self) -> bytes:
        """The whole of it."""


class InPlace(Protocol):
    """Answers requests where they are read."""

    def find(self, method: str, path: str) -> Any:
        """What may answer at an address, None where nothing does."""

    def answer(self, found: Any, scope: Scope, body: bytes, /) -> Said | None:
        """The answer to a whole request, of an ASGI scope; None where the application is to answer."""


class _Held(NamedTuple):
    """A request that uvicorn does not know of yet."""

    found: Any
    pieces: list[bytes]


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `head_bytes` and `head_s` are its limits, `in_place` answers what can be answered at once."""

    head_bytes = 32 * 2**10
    head_s = 20.0
    in_place: InPlace | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held: _Held | None = None
        self._has_answered, self._is_idle = False, False
        self._in_head, self._has_told, self._counted, self._came = False, False, 0, 0
        self._until: float | None = None  # what it waits for must come by then
        self._timer: TimerHandle | None = None  # goes off at that time or before
        self._look_s = max(0.1, min(self.head_s, self.timeout_keep_alive))  # the shortest that is waited for

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Waits for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came: it is a whole head, or the wait goes on."""
        was_in_head = self._in_head
        self._unset_keepalive_if_required()
        self._has_answered = False
        try:
            self._feed(data)
            if self._held is not None:
                self._hand_over(self._held)  # not whole
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        if was_in_head and self._in_head:
            self._came += len(data)  # of a field that has not ended, which the parser does not tell of yet
            if self._came > self.head_bytes:
                self._refuse(*_LARGE, self.head_bytes)
                return
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            self._wait()

    def _feed(self, data: bytes | memoryview) -> None:
        """Has what came read. Raises: `HttpParserError`."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as stopped:
                data = memoryview(data)[stopped.args[0] :]
            if self.scope["method"] == "CONNECT":
                self._until = None
                self._refuse(*_TUNNEL, 0)
                return
            head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/", self.scope["http_version"].encode()]
            for name, value in self.headers:
                if name != b"upgrade":
                    head += [b"\r\n", name, b": ", value]
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(b"".join([*head, b"\r\n\r\n"]))

    def _should_upgrade(self) -> bool:
        """Whether what follows a head with `Upgrade` is passed over, as it is here: `_feed` has it read again."""
        return True

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._is_idle:
            self._is_idle, self._until = False, None
        self._in_head, self._counted, self._came = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._counted += len(url)
        if self._counted > self.head_bytes:
            self._end_head()
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one after the body is counted and left out."""
        self._counted += len(name) + len(value) + 4
        if self._counted > self.head_bytes:
            self._end_head()
        if self._in_head:
            name = name.lower()
            if name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._until = None
        if self.in_place is not None and self._is_plain():
            path, _, query = self.url.partition(b"?")
            method, plain_path = self.parser.get_method().decode(), path.decode("latin-1")
            found = None if b"%" in path or b"#" in query else self.in_place.find(method, plain_path)
            if found is not None:
                self.scope["method"], self.scope["path"], self.scope["raw_path"] = method, plain_path, path
                self.scope["query_string"] = query
                self._held = _Held(found, [])
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.pieces.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._held is None or self.in_place is None:
            super().on_message_complete()
            return
        held, self._held = self._held, None
        body = held.pieces[0] if len(held.pieces) == 1 else b"".join(held.pieces)
        said = self.in_place.answer(held.found, self.scope, body)  # type: ignore[arg-type]  # a dictionary, as asked for
        if said is None:
            self._hand_over(held)
            super().on_message_complete()
            return
        self._has_answered = True
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join((STATUS_LINE[said.status], *lines, said.headers, b"\r\n", said.body)))
        self.server_state.total_requests += 1
        self._is_idle, self._until = True, self.loop.time() + self.timeout_keep_alive

    def _is_plain(self) -> bool:
        """Whether a request may be answered in place as far as its connection goes: nothing is before it, what was
        written was read, and the connection stays.
        """
        return (
            not self._has_answered
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.transport.is_closing()
            and CLOSE not in self.server_state.default_headers
        )

    def _hand_over(self, held: _Held) -> None:
        """Has uvicorn answer a request, as far as it came."""
        self._held = None
        super().on_headers_complete()
        for piece in held.pieces:
            super().on_body(piece)

    def send_400_response(self, msg: str) -> None:
        """The parser gave up, unless it was told to."""
        self._until = None
        if not self._has_told:
            super().send_400_response(msg)

    def _end_head(self) -> NoReturn:
        self._refuse(*_LARGE, self.head_bytes)
        raise ValueError("the head is too large")  # ends the parser, which then asks for the answer above

    def _wait(self) -> None:
        if self._until is None:
            self._until = self.loop.time() + self.head_s
            if self._timer is None:
                self._timer = self.loop.call_later(self._look_s, self._look)

    def _look(self) -> None:
        """One timer serves many requests: to set and cancel one for each costs as much as the parser."""
        self._timer = None
        if self._until is None:
            return
        left = self._until - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(min(left, self._look_s), self._look)
        else:
            self._until = None
            self._give_up()

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(*_SLOW, self.head_s)
        else:
            self.transport.close()

    def _refuse(self, status: bytes, said: bytes, limit: float) -> None:
        self._has_told = True
        said = said.replace(b"LIMIT", f"{limit:g}".encode())
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, len(said), said)
        )
        self.transport.close()


def guarded(head_bytes: int, head_s: float, in_place: InPlace | None = None) -> type[GuardedProtocol]:
    """The protocol with those limits, for uvicorn's `http`."""
    return type("Guarded", (GuardedProtocol,), {"head_bytes": head_bytes, "head_s": head_s, "in_place": in_place})
