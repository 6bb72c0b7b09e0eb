"""Puts the service together: every part is made here, once, and handed to those that need it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from service.domain import Unguarded
from service.engine.onnx import OnnxEngine
from service.registry import Registry
from service.settings import Settings
from service.storage.opening import open_artifacts, open_database
from service.storage.sql import SqlStore
from service.watcher import Watcher
from service.web.app import make_web
from service.web.doorway import Doorway
from service.web.lanes import make_lanes
from service.web.state import Parts


def check_guarded(settings: Settings) -> None:
    """Raises `Unguarded` where others could reach the server and it has no token."""
    if settings.token is None and not settings.is_loopback:
        raise Unguarded(
            f"{settings.host} can be reached from other machines, so a token is needed: set SETPOINT_TOKEN to a secret "
            "of 16 characters or more, or listen on 127.0.0.1"
        )


def make_app(settings: Settings) -> Doorway:
    """The whole service as an ASGI application.

    Raises: `Unguarded` where others could reach it and it has no token, `StorageFailed` where the store does not open.
    """
    check_guarded(settings)
    address = None if settings.database is None else settings.database.get_secret_value()
    store = SqlStore(open_database(address, settings.data, settings.start_s))
    engine = OnnxEngine(settings.threads, settings.run_s, memory_bytes=settings.trial_bytes)
    registry = Registry(store, open_artifacts(settings.artifacts, settings.data), engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(registry.start)
        watcher = Watcher(registry.refresh)
        watcher.start()
        yield
        await to_thread.run_sync(watcher.stop)
        store.close()

    web, open_paths = make_web(Parts(settings, registry, make_lanes(settings.calibrations)), lifespan)
    return Doorway(web, settings, open_paths)
