"""The doorway: what every request passes before any route sees it.

It gives the request an id, lets the caller in (`admission`), bounds the body, and answers whatever falls out of the
application as a problem. Hot routes are answered from here, the others by the framework; all of this is the same for
both, and for a whole request to a hot route that a connection hands over without a task (`answer`).
"""

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from calibrate.errors import SetpointError
from service.domain import Principal
from service.monitoring.monitor import Call
from service.web.admission import Admission, Asking
from service.web.begun import Begun
from service.web.bounded import Bounded, check_head
from service.web.errors import problem, to_fact
from service.web.hot import Handler, HotCall, HotRoutes, Message, Receive, Reply, Said, read_body
from service.web.state import Parts

Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]  # the first of each name

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,100}")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in a header it would end that, and begin another
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# What a model says of somebody stays out of caches.
_SECURITY_NOT_KEPT = [*_SECURITY, (b"cache-control", b"no-store")]
_LINES = b"".join(b"%b: %b\r\n" % header for header in [(b"x-request-id", b"%b"), *_SECURITY_NOT_KEPT])
_NOT_PLAIN = {b"transfer-encoding", b"expect"}  # headers of bodies that do not come at once
_IDS_AT_ONCE = 256
_BEGUN = "begun"


class Addressed(NamedTuple):
    """What the head of a request to a hot route says."""

    handler: Handler
    headers: Headers
    asking: Asking
    given_id: str


class Doorway:
    """An ASGI application around another, and the hot routes in front of it."""

    def __init__(self, app: App, parts: Parts, admission: Admission, hot: HotRoutes) -> None:
        self._app, self._parts, self._admission, self._hot = app, parts, admission, hot
        self.monitor, self.lifecycle = parts.monitor, parts.lifecycle
        self._ids = _request_ids()
        self._body_bytes, self._body_s = parts.settings.body_bytes, parts.settings.body_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = scope.setdefault("state", {}).pop(_BEGUN, None)
        headers: Headers = dict(reversed(scope["headers"]))
        call: Call = self._open(scope, _given_id(headers)) if begun is None else scope["state"]["call"]
        marked = _Marked(send, call)
        try:
            if begun is None:
                await self._pass(scope, headers, call, receive, marked)
            else:
                await marked.answer(await Begun[Reply](begun, receive))
        except ClientDisconnect:
            return
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            if marked.is_started:
                if not getattr(Request(scope).state, "told", False):
                    raise
                return
            await self._problem(error, scope, call)(scope, receive, marked)
        finally:
            self._close(call, scope)

    def find(self, scope: Message) -> Addressed | None:
        """What the head of a request says, where it is to a hot route and nothing is out of the ordinary."""
        headers: Headers = dict(reversed(scope["headers"]))
        if self.monitor.traces is not None or not _NOT_PLAIN.isdisjoint(headers):
            return None
        try:
            asking = self._admission.read(scope, headers)
            handler = self._handler(asking)
            check_head(scope, headers, self._body_bytes)
        except SetpointError:  # it is told of where it is answered
            return None
        return None if handler is None else Addressed(handler, headers, asking, _given_id(headers))

    def answer(self, addressed: Addressed, scope: Message, body: bytes) -> Said | None:
        """What is said to a whole request, of an ASGI scope, where nothing has to be waited for.

        None where it must: what was begun is in the scope's state then, and the application that is called with that
        state goes on where it stopped.
        """
        handler, headers, asking, given_id = addressed
        call = self._open(scope, given_id)
        try:
            principal, query = self._admit(scope, asking, call), scope["query_string"]
            call.received = len(body)
            begun = handler(HotCall(self._parts, principal, call.request_id, body, headers, query, asking.given, call))
            try:
                begun.send(None)
            except StopIteration as through:
                said = _say(through.value, call)
            else:
                scope["state"][_BEGUN] = begun
                return None
        except Exception as error:  # as above
            response = self._problem(error, scope, call)
            body, call.status = bytes(response.body), response.status_code
            said = Said(response.status_code, _lines(response.raw_headers, call.request_id), body)
        call.sent = len(said.body)
        self._close(call, scope)
        return said

    def _open(self, scope: Message, given_id: str) -> Call:
        """A request came in."""
        call = self.monitor.begin(scope)
        scope["state"]["request_id"] = call.request_id = given_id or next(self._ids)
        return call

    def _handler(self, asking: Asking) -> Handler | None:
        """What answers, where the address is that of a hot route."""
        return None if asking.rule is None else self._hot.get((asking.rule.verb, asking.rule.path))

    def _admit(self, scope: Message, asking: Asking, call: Call) -> Principal:
        """Who calls. Raises: `Starting`, and what admission raises."""
        self.lifecycle.check(scope["path"])
        scope["state"]["principal"] = principal = self._admission.admit(asking, scope)
        if asking.rule is not None:
            call.route = asking.rule.path
        return principal

    async def _pass(self, scope: Message, headers: Headers, call: Call, receive: Receive, marked: "_Marked") -> None:
        """Has a request answered, by a hot route or by the framework."""
        asking = self._admission.read(scope, headers)
        principal = self._admit(scope, asking, call)
        check_head(scope, headers, self._body_bytes)
        body_of = Bounded(receive, self._body_bytes, self._body_s, call)
        handler = self._handler(asking)
        if handler is None:
            await self._app(scope, body_of, marked)
            return
        body, query = await read_body(body_of), scope["query_string"]
        asked = HotCall(self._parts, principal, call.request_id, body, headers, query, asking.given, call, body_of)
        await marked.answer(await handler(asked))

    def _problem(self, error: Exception, scope: Message, call: Call) -> Response:
        return problem(to_fact(error, Request(scope)), call.request_id, call, scope["path"])

    def _close(self, call: Call, scope: Message) -> None:
        """The request was answered, or its client is gone."""
        self.monitor.end(call, scope)
        if call.problem == "storage-failed":
            self.lifecycle.doubt()


def _given_id(headers: Headers) -> str:
    """The caller's own id of a request, where it is a plain one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else ""


def _say(reply: Reply, call: Call) -> Said:
    call.status = status = reply.status
    body, lines = reply.body, b"content-type: %b\r\ncontent-length: %d\r\n"
    own = _lines(reply.headers, call.request_id) if reply.headers else _LINES % call.request_id.encode()
    return Said(status, lines % (reply.media_type, len(body)) + own, body)


def _lines(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> bytes:
    """The headers of an answer from here, as they are sent. Raises: `ValueError`: one would end before its end."""
    if _CONTROL.search(b"".join([value for _, value in headers])):
        raise ValueError("a header holds a control character")
    return b"".join([b"%b: %b\r\n" % header for header in headers]) + _LINES % request_id.encode()


class _Marked:
    """Sends what is answered, with the headers that every answer has."""

    __slots__ = ("_call", "_send", "is_started")

    def __init__(self, send: Send, call: Call) -> None:
        self._send, self._call = send, call
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        """One message of the framework."""
        if message["type"] == "http.response.start":
            self.is_started, self._call.status = True, message["status"]
            message = {**message, "headers": self._headers(list(message.get("headers", ())))}
        self._call.sent += len(message.get("body", b""))
        await self._send(message)

    async def answer(self, reply: Reply) -> None:
        """The whole answer of a hot route."""
        body, call, send = reply.body, self._call, self._send
        headers = [(b"content-type", reply.media_type), (b"content-length", b"%d" % len(body)), *reply.headers]
        self.is_started, call.status = True, reply.status
        await send({"type": "http.response.start", "status": reply.status, "headers": self._headers(headers)})
        call.sent = len(body)
        await send({"type": "http.response.body", "body": body})

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        is_kept = b"cache-control" in [name for name, _ in given]
        given.append((b"x-request-id", self._call.request_id.encode()))
        given += _SECURITY if is_kept else _SECURITY_NOT_KEPT
        return given


def _request_ids() -> Iterator[str]:
    """Of 128 random bits each, drawn many at once."""
    while True:
        drawn = os.urandom(16 * _IDS_AT_ONCE).hex()
        for start in range(0, len(drawn), 32):
            yield drawn[start : start + 32]
