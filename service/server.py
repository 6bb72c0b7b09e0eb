"""The server process: uvicorn, with an end that loses no request.

Decided here:
- SIGTERM makes the server not ready at once and tells every connection to close after its next answer; new requests are
  still answered for `drain_s`, so that a load balancer sees it and turns away. Then no connection is taken any more,
  what is in flight has `stop_s` to end, and connections that are merely open are closed. Ctrl+C is a person who waits,
  so there is no delay.
- A second signal ends the process at once: what was acknowledged is in the store already.
- A thread watches the end. Whatever hangs, the loop, a model, a calibration, the process is gone within its limits.
- A stop that was asked for is no failure: the exit code is 0, and 1 where the end had to be forced.
"""

import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from calibrate.errors import InputError
from service.in_place import CLOSE, InPlace, Said, Scope, protocol
from service.lifecycle import Lifecycle
from service.settings import Settings
from service.web.doorway import Doorway

log = logging.getLogger(__name__)

_HANDLED = (signal.SIGINT, signal.SIGTERM)
_TIDY_S = 3.0  # beyond the limit: for the store to be closed and traces to be sent
_HSTS = ("strict-transport-security", "max-age=31536000")


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it stops."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float, stop_s: float) -> None:
        super().__init__(config)
        self._lifecycle, self._drain_s, self._stop_s = lifecycle, drain_s, stop_s
        self._stops_at: float | None = None
        self._is_told = self._is_settled = False
        self._wake, self._waker = os.pipe()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """A signal came; only flags are set here, because whatever was interrupted may hold a lock."""
        if self._lifecycle.is_draining:
            os._exit(128 + sig)
        self._lifecycle.drain()
        delay = self._drain_s if sig == signal.SIGTERM and self._lifecycle.is_started else 0.0
        self._stops_at = time.monotonic() + delay
        os.write(self._waker, b"x")
        if delay == 0:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to stop."""
        stop = await super().on_tick(counter)
        if self._lifecycle.is_started and not self._is_settled:
            self._is_settled = True
            gc.freeze()  # what was made for the start stays; to look through it again and again holds up answers
        if self._stops_at is not None:
            self._tell_connections()
            self.should_exit = self.should_exit or time.monotonic() >= self._stops_at
        if self._lifecycle.failure is not None:
            self.should_exit = True
        return stop or self.should_exit

    def _tell_connections(self) -> None:
        """Every answer from here on closes its connection; the list is shared with answers that are being made."""
        if not self._is_told:
            self._is_told = True
            self.config.encoded_headers.append(CLOSE)
            log.info("stopping: not ready any more, answering for %g s more", self._drain_s)
        if CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers.append(CLOSE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours alone: a stop that was asked for does not end in the signal once more."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in _HANDLED}
        threading.Thread(target=self._watch, name="end", daemon=True).start()
        try:
            yield
        finally:
            for sig, handler in before.items() if self._stops_at is None else ():  # a second one must still be heard
                signal.signal(sig, handler)

    def _watch(self) -> None:
        os.read(self._wake, 1)
        left = (self._stops_at or 0.0) - time.monotonic()
        time.sleep(max(0.0, left) + self._stop_s + _TIDY_S)
        log.error("the stop took longer than its limits and is forced")
        _leave(1)


class Forwarded:
    """Answers in place what proxies forward, as uvicorn has the application answer it: they say who called, and how."""

    def __init__(self, application: InPlace, proxies: list[str] | str) -> None:
        self._application = application
        self._read_headers = ProxyHeadersMiddleware(_nothing, proxies)

    def find(self, scope: Scope) -> Any:
        """What the application finds in the head, once it is that of the one who called the proxy."""
        with contextlib.suppress(StopIteration):
            self._read_headers(scope, None, None).send(None)  # type: ignore[arg-type]  # it waits for nothing
        return self._application.find(scope)

    def answer(self, found: Any, scope: Scope, body: bytes) -> Said | None:
        """The application's answer."""
        return self._application.answer(found, scope, body)


async def _nothing(*_: object) -> None:
    """What is called with what the headers say."""


def serve(application: Doorway, settings: Settings, sockets: list[socket]) -> None:
    """Answers until it is told to stop. Raises: what stood in the way of the start-up."""
    in_place: InPlace = Forwarded(application, settings.proxies) if settings.proxies else application
    config = uvicorn.Config(
        application,
        http=protocol(in_place, settings.head_bytes, settings.head_s),
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.stop_s,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        headers=[_HSTS] if settings.tls_cert else [],
    )
    lifecycle = application.lifecycle
    Server(config, lifecycle, settings.drain_s, settings.stop_s).run(sockets=sockets)
    if lifecycle.failure is not None:
        raise lifecycle.failure


def leave() -> None:
    """Ends the process where threads that cannot be ended, as of a calibration, would hold it up."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        _leave(0)


def check_tls(settings: Settings) -> None:
    """Raises `InputError` where the certificate and the key do not serve."""
    if settings.tls_cert is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert,
            settings.tls_key,
            password="",  # a key that needs one would ask the terminal for it
        )
    except (OSError, ssl.SSLError) as error:
        files = f"{settings.tls_cert} and {settings.tls_key}"
        raise InputError(f"{files} are no certificate and its key: {error.strerror or error}") from None


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
