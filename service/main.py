"""Puts the service together: every part is made here, once, and handed to those that need it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from anyio import to_thread
from fastapi import FastAPI

from service.calibrating import make_calibrating
from service.domain import Unguarded
from service.engine.onnx import OnnxEngine
from service.registry import Registry
from service.settings import Settings
from service.storage.artifacts import FolderArtifacts
from service.storage.database import Database, sqlite_address
from service.storage.lock import only_server
from service.storage.sql import SqlStore
from service.web.app import make_web
from service.web.doorway import Doorway
from service.web.lanes import make_lanes
from service.web.state import Parts


@contextmanager
def opened(settings: Settings) -> Iterator[Doorway]:
    """The application, and its folder for this process alone. Raises: what `make_app` raises."""
    check_guarded(settings)
    with only_server(settings.data):
        yield make_app(settings)


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
    database = Database(sqlite_address(settings.data / "setpoint.db"))
    store = SqlStore(database)
    engine = OnnxEngine(settings.threads, settings.run_s, memory_bytes=settings.trial_bytes)
    registry = Registry(store, FolderArtifacts(settings.data / "artifacts"), engine)
    calibrating = make_calibrating(settings, database, store, registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(registry.start)
        calibrating.start()
        yield
        await to_thread.run_sync(calibrating.stop)
        store.close()

    web, open_paths = make_web(Parts(settings, registry, make_lanes(settings.calibrations), calibrating.desk), lifespan)
    return Doorway(web, settings, open_paths)
