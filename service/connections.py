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
"""

from asyncio import TimerHandle, Transport
from typing import Any, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_LARGE = b"431 Request Header Fields Too Large", b"the head of a request may have at most LIMIT bytes"
_TUNNEL = b"501 Not Implemented", b"CONNECT is not taken"
_SLOW = b"408 Request Timeout", b"the head of a request must come within LIMIT s"


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `head_bytes` and `head_s` are its limits."""

    head_bytes = 32 * 2**10
    head_s = 20.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_idle = False  # since an answer that uvicorn knows nothing of
        self._in_head, self._has_told, self._counted, self._came = False, False, 0, 0
        self._began = 0  # heads in this read
        self._running: RequestResponseCycle | None = None  # what is being answered, which others may wait behind
        self._until: float | None = None  # what it waits for must come by then
        self._timer: TimerHandle | None = None  # goes off at that time or before
        self._look_s = max(0.1, min(self.head_s, self.timeout_keep_alive))  # the shortest that is waited for

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Waits for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more, and what is being answered hears of it: uvicorn tells the last that came alone."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Something came: it is a whole head, or the wait goes on."""
        self._began = 0
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        if self._in_head and not self._began:
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
        self._began += 1
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
        self.head_is_there()
        super().on_headers_complete()

    def head_is_there(self) -> None:
        """It is waited for no more."""
        self._in_head = False
        self._until = None

    def be_idle(self) -> None:
        """An answer was sent that uvicorn knows nothing of: the connection may be idle for as long as after its own."""
        self._is_idle = True
        self._wait_until(self.loop.time() + self.timeout_keep_alive)

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
            self._wait_until(self.loop.time() + self.head_s)

    def _wait_until(self, until: float) -> None:
        self._until = until
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
