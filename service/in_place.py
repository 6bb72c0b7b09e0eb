"""Connections whose requests are answered where they are read.

Decided here: a request that is soon whole, and waits for nothing, is answered at once, because uvicorn's own way, a
task and a cycle of messages, takes longer than a small model, and copies a body several times. It is held back from
uvicorn while it is read, and handed over as it came where it takes long to come, comes behind another in one read, has
to wait, or is in any way out of the ordinary. One is answered so per read, so that no connection takes the loop for
itself.

A client that keeps its connection sends the same head again and again. What a head of the same bytes says is known, so
it is not read again: the parser is between two requests then, and would come to the same. What the server knows and the
head does not, as who holds a key, is asked each time.
"""

from asyncio import TimerHandle
from collections.abc import MutableMapping
from typing import Any, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connections import GuardedProtocol

CLOSE = (b"connection", b"close")
_END = b"\r\n\r\n"
_MOST_KNOWN, _KNOWN_BYTES = 8, 1024  # heads of one connection, and of each
_HELD_S, _HELD_READS, _HELD_BYTES = 0.1, 256, 2**22  # how long a request is held back, in how many reads, how large
_MOST_NEW = 64  # heads in a row that were not known: this client sends no head twice

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

    def find(self, scope: Scope, /) -> Any:
        """What the head of a request, an ASGI scope, says to `answer`; None where the application is to answer."""

    def answer(self, found: Any, scope: Scope, body: bytes, /) -> Said | None:
        """The answer to a whole request. None where it has to wait: then the application goes on with its state."""


class _Held(NamedTuple):
    """A request that uvicorn does not know of yet."""

    found: Any
    scope: Scope
    pieces: list[bytes]


class _Known(NamedTuple):
    """What a head says; `size` is that of its body, `status` that of its first answer."""

    found: Any
    scope: Scope
    size: int
    status: int


class InPlaceProtocol(GuardedProtocol):
    """One connection; `in_place` answers what can be answered at once."""

    in_place: InPlace

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held: _Held | None = None
        self._reads = 0  # of what is held
        self._soon: TimerHandle | None = None  # goes off when it was held for too long
        self._begun: Scope | None = None
        self._answered: _Known | None = None  # what was answered in this read
        self._known: dict[bytes, _Known] = {}
        self._is_inside, self._left = False, _MOST_NEW  # whether the parser is in a request, of which more is to come

    def data_received(self, data: bytes) -> None:
        """Something came: a request like one before, or what is to be read."""
        self._answered, was_inside = None, self._is_inside
        if self._known and not was_inside:
            end = data.find(_END) + len(_END)
            known = self._known.get(data[:end])
            if known is not None and len(data) == end + known.size and self._is_free():
                self._unset_keepalive_if_required()
                scope = {**known.scope, "state": self.app_state.copy()}
                if self._answer(known.found, scope, data[end:]):
                    self._left = _MOST_NEW
                    return
                self._begun = scope
        super().data_received(data)
        if self._answered is not None and self._began == 1 and not was_inside and self._left > 0:
            self._learn(self._answered, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """What came in part came for nothing."""
        self._hold_no_more()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: what has begun to come is answered."""
        self._let_go()
        super().shutdown()

    def _feed(self, data: bytes | memoryview) -> None:
        super()._feed(data)
        if self._held is not None:
            self._reads += 1
            if self._reads > _HELD_READS or sum(map(len, self._held.pieces)) > _HELD_BYTES:
                self._let_go()
            elif self._soon is None:
                self._soon = self.loop.call_later(_HELD_S, self._let_go)

    def _wait(self) -> None:
        if self._held is None:
            super()._wait()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_inside = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            super().on_headers_complete()
            self.scope["state"].update(begun["state"])
            return
        path, _, query = self.url.partition(b"?")
        if self._is_plain() and b"%" not in path and b"#" not in self.url:
            told = {"method": self.parser.get_method().decode(), "path": path.decode("latin-1")}
            scope: Scope = {**self.scope, **told, "raw_path": path, "query_string": query}
            found = self.in_place.find(scope)
            if found is not None:
                self._held = _Held(found, scope, [])
                self.head_is_there()
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
        self._is_inside = False
        if self._held is not None:
            held = found, scope, pieces = self._held
            self._hold_no_more()
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self._is_free() and (status := self._answer(found, scope, body)):
                self._answered = _Known(found, scope, len(body), status)
                return
            self._hand_over(held)
        super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether a request may be answered in place as far as its connection goes, which is to stay."""
        return (
            self._answered is None
            and self._is_free()
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
        )

    def _is_free(self) -> bool:
        """Whether nothing is before a request, what was written was read, and the connection stays."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and CLOSE not in self.server_state.default_headers
        )

    def _answer(self, found: Any, scope: Scope, body: bytes) -> int:
        """The status that a request was answered with; 0 where the application is to go on with its scope's state."""
        said = self.in_place.answer(found, scope, body)
        if said is None:
            return 0
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join((STATUS_LINE[said.status], *lines, said.headers, b"\r\n", said.body)))
        self.server_state.total_requests += 1
        self.be_idle()
        return said.status

    def _let_go(self) -> None:
        """What is held is not soon whole."""
        if self._held is not None:
            held = self._held
            self._hold_no_more()
            self._hand_over(held)

    def _hold_no_more(self) -> None:
        self._held, self._reads = None, 0
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _hand_over(self, held: _Held) -> None:
        """Has uvicorn answer a request, as far as it came."""
        super().on_headers_complete()
        for piece in held.pieces:
            super().on_body(piece)

    def _learn(self, answered: _Known, data: bytes) -> None:
        """Keeps what a head says, where one request and nothing else was read, and was not refused."""
        end = data.find(_END) + len(_END)
        if len(data) == end + answered.size and end <= _KNOWN_BYTES and answered.status < 400:
            self._left -= 1
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[data[:end]] = answered


def protocol(in_place: InPlace, head_bytes: int, head_s: float) -> type[InPlaceProtocol]:
    """The protocol of one server, for uvicorn's `http`."""
    return type("Protocol", (InPlaceProtocol,), {"in_place": in_place, "head_bytes": head_bytes, "head_s": head_s})
