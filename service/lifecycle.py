"""From start to stop: what the server is up to, and whether it is ready for traffic.

Decided here: start-up goes on while the server already answers, so that live and startup tell the truth; other calls
are refused meanwhile. A look at the store and the artifacts runs in a thread of its own, one at a time, for `LOOK_S` at
most as far as anyone waits for it: a store that hangs makes the server not ready, never the check hang. Its result is
good for `FRESH_S`, unless a request finds the storage failing, so checks cost the same however many ask; whether models
are loaded and the server stays is told as it is now.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from calibrate.errors import SetpointError
from service.errors import Starting, StorageFailed
from service.registry import Registry

log = logging.getLogger(__name__)

LOOK_S = 2.0
FRESH_S = 0.5


@dataclass(frozen=True)
class Readiness:
    """Why the server is not ready, one sentence a reason and none when it is; and what each default version runs on."""

    reasons: list[str]
    providers: dict[str, str]


class Lifecycle:
    """Starting, serving, draining. The flags are set by one thread or a signal's handler, and read by any."""

    def __init__(self, registry: Registry, then: Callable[[], None] = lambda: None) -> None:
        self._registry, self._then = registry, then
        self.is_started = self.is_draining = False
        self.failure: SetpointError | None = None
        self.audit_entries = 0  # as of the last look
        self._look: asyncio.Future[list[str]] | None = None
        self._looked_at = -FRESH_S
        self._reasons: list[str] = []

    def start(self) -> None:
        """Reads the store and loads every default version, and then does what needs them. Raises: `StorageFailed`."""
        self._registry.start()
        self._then()
        self.is_started = True

    def start_or_tell(self) -> None:
        """Starts; what stands in the way is kept as `failure`, for the server to stop with."""
        try:
            self.start()
        except SetpointError as error:
            self.failure = error
        except Exception as error:  # the edge of the thread
            log.exception("the server cannot start", exc_info=error)
            self.failure = StorageFailed(f"the server cannot start: {type(error).__name__}; its log says where")

    def drain(self) -> None:
        """From now on the server is not ready; it still answers."""
        self.is_draining = True

    def doubt(self) -> None:
        """A request found the storage failing: what the last look saw is not told any more."""
        self._looked_at = -FRESH_S

    def check(self, path: str) -> None:
        """Raises `Starting` for a call that needs what is not loaded yet."""
        if not self.is_started and not path.startswith(("/health/", "/v2/health/")):
            raise Starting("the server is still starting: its models are being loaded; try again shortly")

    async def ready(self) -> Readiness:
        """Whether traffic is welcome; within `LOOK_S` and a little."""
        if self.is_draining:
            return Readiness(["the server is stopping"], {})
        if not self.is_started:
            return Readiness(["the server is still starting"], {})
        models = {model.name: self._registry.provider(model.version(None)) for model in self._registry.models()}
        providers = {name: provider for name, provider in models.items() if provider is not None}
        return Readiness([*await self._storage(), *self._registry.missing()], providers)

    async def _storage(self) -> list[str]:
        now = time.monotonic()
        if self._look is None:
            if now - self._looked_at < FRESH_S:
                return self._reasons
            loop = asyncio.get_running_loop()
            self._look, self._looked_at = loop.create_future(), now
            threading.Thread(target=self._check, args=(loop,), name="health", daemon=True).start()
        look, began = self._look, self._looked_at
        await asyncio.wait({look}, timeout=max(0.0, began + LOOK_S - now))
        if look.done():
            return look.result()
        return [f"the store has not answered for {time.monotonic() - began:.0f} s"]

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._registry.check()
            self.audit_entries = self._registry.audit_entries()
            reasons: list[str] = []
        except SetpointError as error:
            reasons = [str(error)]
        except Exception as error:  # the edge of the thread
            log.exception("the store could not be checked", exc_info=error)
            reasons = ["the store could not be checked; the server's log says why"]
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits
            loop.call_soon_threadsafe(self._done, reasons)

    def _done(self, reasons: list[str]) -> None:
        look, self._look, self._reasons = self._look, None, reasons
        if look is not None and not look.done():
            look.set_result(reasons)
