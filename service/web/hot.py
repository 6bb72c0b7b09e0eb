"""Routes that are answered ahead of the framework: the doorway has let the caller in and bounded the body, and the
handler gets bytes and gives bytes.

Decided here: a row of a small model is decided in a few tens of microseconds, and the framework's own middleware,
request and response take several times that, and so does a task of the event loop. A handler of a hot route knows none
of them. It begins where the request was read (`Doorway.answer`), and what waits for nothing is through there; where it
has to wait, it asks for a task and goes on in that. The same function also stands in the framework's table, so that the
route is described there, and other verbs on it are refused there.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, NamedTuple, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.domain import Principal
from service.monitoring.monitor import Call
from service.web.state import Parts, call, parts, principal, request_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
T = TypeVar("T")
JSON = b"application/json"
_NAMED = re.compile(r"\{(\w+)\}")
_WATCH_AFTER_S = 0.02  # most calls are through by then, and need nobody to look whether their client still waits


@dataclass(eq=False, slots=True)
class HotCall:
    """A call whose caller was let in: the whole body, headers by their lower-case names, what the path names, and what
    is told of the call when it ends. Without `receive` the handler runs outside of a task, until it asks for one.
    """

    parts: Parts
    principal: Principal
    request_id: str
    body: bytes
    headers: Mapping[bytes, bytes]
    query: bytes
    names: Mapping[str, str]
    told: Call
    receive: Receive | None = None

    async def wait_for(self, work: Awaitable[T]) -> T:
        """What the work gives, which is cancelled when the client leaves. For what waits; what is done in place need
        not look whether somebody still waits. Raises: `ClientDisconnect`.
        """
        watch = _Watch(self.receive or await _Task(self))
        try:
            return await work
        except asyncio.CancelledError:
            if watch.is_gone:
                raise ClientDisconnect from None
            raise
        finally:
            watch.close()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What the work gives, in a thread of predictions. Raises: `Busy`, and what the work raises."""
        if self.receive is None:
            await _Task(self)
        return await self.parts.lanes.predictions.run(work)


class _Task:
    """Has a handler that is to wait go on in a task, which brings `receive` along."""

    __slots__ = ("_call",)

    def __init__(self, call: HotCall) -> None:
        self._call = call

    def __await__(self) -> Generator["_Task", Receive, Receive]:
        """What the one who began the handler hands in."""
        self._call.receive = receive = yield self
        return receive


class Reply(NamedTuple):
    """What is sent back."""

    body: bytes
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200


class Said(NamedTuple):
    """An answer as it is sent, but for its first line: the lines of its headers, and the body."""

    status: int
    headers: bytes
    body: bytes


Handler = Callable[[HotCall], Coroutine[Any, Any, Reply]]


HotRoutes = Mapping[tuple[str, str], Handler]  # by verb and path, with `{name}` where that names something


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises: `ClientDisconnect` where the client left before it was through."""
    message = await receive()
    pieces: list[bytes] = []
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if not message.get("more_body", False):
            break
        pieces.append(message.get("body", b""))
        message = await receive()
    last: bytes = message.get("body", b"")
    return b"".join([*pieces, last]) if pieces else last


class _Watch:
    """Ends the task that is answering a call when its client leaves, so that nothing is worked on for nobody."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start)
        self.is_gone = False

    def close(self) -> None:
        """The call is answered."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        with suppress(Exception):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.is_gone = True
            if self._task is not None:
                self._task.cancel()


def as_endpoint(handler: Handler, path: str) -> Callable[..., Awaitable[Response]]:
    """The same handler as the framework calls one: under its name, with its words and what its path names."""

    async def endpoint(request: Request, **_: str) -> Response:
        reply = await handler(
            HotCall(
                parts(request),
                principal(request),
                request_id(request),
                await request.body(),
                dict(reversed(request.headers.raw)),
                request.scope.get("query_string", b""),
                request.path_params,
                call(request),
                request.receive,
            )
        )
        response = Response(reply.body, reply.status, media_type=reply.media_type.decode())
        response.raw_headers.extend(reply.headers)
        return response

    endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
    named = [("request", Request), *((name, str) for name in _NAMED.findall(path))]
    given = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind) for name, kind in named]
    endpoint.__signature__ = Signature(given)  # type: ignore[attr-defined]
    return endpoint
