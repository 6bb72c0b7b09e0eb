"""The doorway: what every request passes before any route sees it, as plain ASGI.

It gives the request an id, asks for the token, turns away web pages of other sites, bounds the body, and answers
whatever falls out of the application as a problem. Without a token the server listens on loopback only, where a web
page in a browser on the same machine could still reach it: so the host must be a loopback name (against DNS rebinding)
and a browser must not say that another site is calling (against cross-site requests).
"""

import hmac
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from service.domain import ForeignOrigin, Principal, TooLarge, Unauthorized
from service.lifecycle import Lifecycle
from service.monitoring.monitor import Monitor
from service.settings import Settings
from service.web.errors import problem, to_fact

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_SAME_SITE = {"same-origin", "none"}
_PAGES = ("/docs", "/openapi.json", "/static-offline-docs/", "/console")  # they hold nothing of the user's
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Doorway:
    """An ASGI application around another."""

    def __init__(
        self, app: App, settings: Settings, open_paths: frozenset[str], monitor: Monitor, lifecycle: Lifecycle
    ) -> None:
        self._app, self.monitor, self.lifecycle = app, monitor, lifecycle
        self._token = None if settings.token is None else settings.token.get_secret_value().encode()
        self._body_bytes = settings.body_bytes
        self._open_paths = open_paths

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answers one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = self.monitor.begin(scope)
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.request_id = call.request_id = request_id
        request.state.principal = Principal("local" if self._token is None else "token")
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
                headers = [(b"x-request-id", request_id.encode()), *_SECURITY]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            call.sent += len(message.get("body", b""))
            await send(message)

        try:
            self.lifecycle.check(scope["path"])
            self._admit(request)
            await self._app(scope, bounded, marked)
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            if started:
                if not getattr(request.state, "told", False):
                    raise
                return
            await problem(to_fact(error, request), request_id, call)(scope, receive, marked)
        finally:
            self.monitor.end(call, scope)

    def _admit(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._body_bytes:
            raise self._too_large(int(length[:20]))
        path = request.url.path
        if path in self._open_paths or path.startswith(_PAGES):
            return
        if self._token is None:
            self._refuse_other_sites(request)
            return
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(credentials.strip().encode(), self._token):
            raise Unauthorized("this call needs the header 'Authorization: Bearer TOKEN' with the server's token")

    def _refuse_other_sites(self, request: Request) -> None:
        host = re.sub(r":\d+$", "", request.headers.get("host", ""))
        if host not in _LOOPBACK_NAMES:
            raise ForeignOrigin(f"the host must be one of {', '.join(sorted(_LOOPBACK_NAMES))}, got {host[:100]!r}")
        origin = request.headers.get("origin")
        if request.headers.get("sec-fetch-site", "none") not in _SAME_SITE or (
            origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}"
        ):
            raise ForeignOrigin("a web page of another site may not call a server that has no token")

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"the body may have at most {self._body_bytes} bytes, got {size} or more")
