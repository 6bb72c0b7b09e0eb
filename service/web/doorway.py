"""The doorway: what every request passes before any route sees it, as plain ASGI.

Hot routes are answered from here, the others by the framework; who is let in, with how much, and what comes back when
something fails is decided here for both.

It gives the request an id, asks for the token, turns away web pages of other sites, bounds the body, and answers
whatever falls out of the application as a problem. Without a token the server listens on loopback only, where a web
page in a browser on the same machine could still reach it: so the host must be a loopback name (against DNS rebinding)
and a browser must not say that another site is calling (against cross-site requests).
"""

import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from starlette.requests import ClientDisconnect, Request

from service.domain import ForeignOrigin, Principal, Scope, TooLarge, Unauthorized
from service.settings import Settings
from service.web.errors import problem, to_fact
from service.web.hot import Hot, HotCall, HotRoutes, Message, Receive, read_body
from service.web.state import Parts

Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]  # the first of each name

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,100}")
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_SAME_SITE = {b"same-origin", b"none"}
_PAGES = ("/docs", "/openapi.json", "/static-offline-docs/", "/console")  # they hold nothing of the user's
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Doorway:
    """An ASGI application around another, and the hot routes in front of it."""

    def __init__(self, app: App, parts: Parts, open_paths: frozenset[str], hot: HotRoutes) -> None:
        settings: Settings = parts.settings
        self._app, self._parts, self._hot = app, parts, hot
        self.monitor, self.lifecycle = parts.monitor, parts.lifecycle
        self._token = None if settings.token is None else settings.token.get_secret_value().encode()
        self._body_bytes = settings.body_bytes
        self._open_paths = open_paths
        self._caller = Principal("local" if self._token is None else "token")

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

        async def bounded() -> Message:
            message = await receive()
            call.received += len(message.get("body", b""))
            if call.received > self._body_bytes:
                raise self._too_large(call.received)
            return message

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started, call.status = True, message["status"]
                own = [(b"x-request-id", request_id.encode()), *_SECURITY]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            else:
                call.sent += len(message.get("body", b""))
            await send(message)

        try:
            self.lifecycle.check(scope["path"])
            state["principal"] = principal = self.admit(scope, headers)
            hot = self._hot.match(scope["method"], scope["path"])
            if hot is None:
                await self._app(scope, bounded, marked)
            else:
                call.route = hot.path
                if hot.scope != "open":
                    principal.check(cast("Scope", hot.scope))
                body = await read_body(bounded)
                query = scope["query_string"]
                asked = HotCall(self._parts, principal, request_id, body, headers, query, hot.names, bounded, call)
                await _answer(hot, asked, marked)
        except ClientDisconnect:
            return
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            request = Request(scope)
            if started:
                if not getattr(request.state, "told", False):
                    raise
                return
            await problem(to_fact(error, request), request_id, call)(scope, receive, marked)
        finally:
            self.monitor.end(call, scope)

    def admit(self, scope: Message, headers: Headers) -> Principal:
        """Who calls. The one place that lets a request in, to a hot route as to any other.

        Raises: `TooLarge`, `ForeignOrigin`, `Unauthorized`.
        """
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._body_bytes:
            raise self._too_large(int(length[:20]))
        path = scope["path"]
        if path in self._open_paths or path.startswith(_PAGES):
            return self._caller
        if self._token is None:
            _refuse_other_sites(scope, headers)
            return self._caller
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.strip(), self._token):
            raise Unauthorized("this call needs the header 'Authorization: Bearer TOKEN' with the server's token")
        return self._caller

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"the body may have at most {self._body_bytes} bytes, got {size} or more")


async def _answer(hot: Hot, asked: HotCall, send: Send) -> None:
    reply = await hot.handler(asked)
    own = [(b"content-type", reply.media_type), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": own})
    await send({"type": "http.response.body", "body": reply.body})


def _refuse_other_sites(scope: Message, headers: Headers) -> None:
    given = headers.get(b"host", b"").decode("latin-1")
    host = re.sub(r":\d+$", "", given)
    if host not in _LOOPBACK_NAMES:
        raise ForeignOrigin(f"the host must be one of {', '.join(sorted(_LOOPBACK_NAMES))}, got {host[:100]!r}")
    origin = headers.get(b"origin")
    if headers.get(b"sec-fetch-site", b"none") not in _SAME_SITE or (
        origin is not None and origin.decode("latin-1") != f"{scope['scheme']}://{given}"
    ):
        raise ForeignOrigin("a web page of another site may not call a server that has no token")
