"""The doorway: what every request passes before any route sees it, as plain ASGI.

It gives the request an id, lets the caller in (`admission`), bounds the body, and answers whatever falls out of the
application as a problem. Hot routes are answered from here, the others by the framework; all of this is the same for
both.
"""

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping

from starlette.requests import ClientDisconnect, Request

from service.monitoring.monitor import Call
from service.web.admission import Admission
from service.web.bounded import Bounded, check_head
from service.web.errors import problem, to_fact
from service.web.hot import HotCall, HotRoutes, Message, Receive, Reply, read_body
from service.web.state import Parts

Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]  # the first of each name

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,100}")
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# What a model says of somebody stays out of caches.
_SECURITY_NOT_KEPT = [*_SECURITY, (b"cache-control", b"no-store")]
_IDS_AT_ONCE = 256


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
        call = self.monitor.begin(scope)
        headers: Headers = dict(reversed(scope["headers"]))
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if given and _REQUEST_ID.fullmatch(given) else next(self._ids)
        state = scope["state"]
        state["request_id"] = call.request_id = request_id
        marked = _Marked(send, call)
        try:
            self.lifecycle.check(scope["path"])
            state["principal"] = principal = self._admission.admit(scope, headers)
            check_head(scope, headers, self._body_bytes)
            body_of = Bounded(receive, self._body_bytes, self._body_s, call)
            hot = self._hot.match(scope["method"], scope["path"])
            if hot is None:
                await self._app(scope, body_of, marked)
            else:
                call.route = hot.path
                body = await read_body(body_of)
                query = scope["query_string"]
                asked = HotCall(self._parts, principal, request_id, body, headers, query, hot.names, body_of, call)
                await marked.answer(await hot.handler(asked))
        except ClientDisconnect:
            return
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            request = Request(scope)
            if marked.is_started:
                if not getattr(request.state, "told", False):
                    raise
                return
            await problem(to_fact(error, request), request_id, call, scope["path"])(scope, receive, marked)
        finally:
            self.monitor.end(call, scope)
            if call.problem == "storage-failed":
                self.lifecycle.doubt()


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
