"""The doorway: what every request passes before any route sees it, as plain ASGI.

It gives the request an id, lets the caller in (`admission`), bounds the body, and answers whatever falls out of the
application as a problem. Hot routes are answered from here, the others by the framework; all of this is the same for
both.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request

from service.web.admission import Admission
from service.web.bounded import bounded, check_head
from service.web.errors import problem, to_fact
from service.web.hot import Hot, HotCall, HotRoutes, Message, Receive, read_body
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
_NOT_KEPT = (b"cache-control", b"no-store")  # what a model says of somebody stays out of caches


class Doorway:
    """An ASGI application around another, and the hot routes in front of it."""

    def __init__(self, app: App, parts: Parts, admission: Admission, hot: HotRoutes) -> None:
        self._app, self._parts, self._admission, self._hot = app, parts, admission, hot
        self.monitor, self.lifecycle = parts.monitor, parts.lifecycle
        self._body_bytes, self._body_s = parts.settings.body_bytes, parts.settings.body_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = self.monitor.begin(scope)
        headers: Headers = dict(reversed(scope["headers"]))
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        state = scope["state"]
        state["request_id"] = call.request_id = request_id
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started, call.status = True, message["status"]
                given_headers = list(message.get("headers", ()))
                own = [(b"x-request-id", request_id.encode()), *_SECURITY]
                if not any(name == b"cache-control" for name, _ in given_headers):
                    own.append(_NOT_KEPT)
                message = {**message, "headers": [*given_headers, *own]}
            call.sent += len(message.get("body", b""))
            await send(message)

        try:
            self.lifecycle.check(scope["path"])
            state["principal"] = principal = self._admission.admit(scope)
            check_head(scope, self._body_bytes)
            body_of = bounded(receive, self._body_bytes, self._body_s, call)
            hot = self._hot.match(scope["method"], scope["path"])
            if hot is None:
                await self._app(scope, body_of, marked)
            else:
                call.route = hot.path
                body = await read_body(body_of)
                query = scope["query_string"]
                asked = HotCall(self._parts, principal, request_id, body, headers, query, hot.names, body_of, call)
                await _answer(hot, asked, marked)
        except ClientDisconnect:
            return
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            request = Request(scope)
            if started:
                if not getattr(request.state, "told", False):
                    raise
                return
            await problem(to_fact(error, request), request_id, call, scope["path"])(scope, receive, marked)
        finally:
            self.monitor.end(call, scope)
            if call.problem == "storage-failed":
                self.lifecycle.doubt()


async def _answer(hot: Hot, asked: HotCall, send: Send) -> None:
    reply = await hot.handler(asked)
    own = [(b"content-type", reply.media_type), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": own})
    await send({"type": "http.response.body", "body": reply.body})
