"""The doorway: what every request passes before any route sees it, as plain ASGI.

It gives the request an id, lets the caller in (`admission`), bounds the body, and answers whatever falls out of the
application as a problem.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from service.domain import TooLarge
from service.lifecycle import Lifecycle
from service.monitoring.monitor import Monitor
from service.settings import Settings
from service.web.admission import Admission
from service.web.errors import problem, to_fact

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Doorway:
    """An ASGI application around another."""

    def __init__(
        self, app: App, settings: Settings, admission: Admission, monitor: Monitor, lifecycle: Lifecycle
    ) -> None:
        self._app, self.monitor, self.lifecycle = app, monitor, lifecycle
        self._admission = admission
        self._body_bytes = settings.body_bytes

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
            self._check_length(request)
            request.state.principal = self._admission.admit(scope)
            await self._app(scope, bounded, marked)
        except Exception as error:  # the outermost edge: nothing leaves it unanswered
            if started:
                if not getattr(request.state, "told", False):
                    raise
                return
            await problem(to_fact(error, request), request_id, call)(scope, receive, marked)
        finally:
            self.monitor.end(call, scope)

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._body_bytes:
            raise self._too_large(int(length[:20]))

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"the body may have at most {self._body_bytes} bytes, got {size} or more")
