"""Puts the service together: every part is made here, once, and handed to those that need it."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from anyio import create_task_group, to_thread
from fastapi import FastAPI

from calibrate.io.runtime_builds import warning_of_builds
from service.auth.ring import KeyRing
from service.calibrating import make_calibrating
from service.decisions import DecisionLog
from service.engine.batching import Batcher
from service.engine.onnx import OnnxEngine
from service.errors import Unguarded
from service.lifecycle import Lifecycle
from service.monitoring.engine import MeasuredEngine
from service.monitoring.logs import Lines
from service.monitoring.metrics import Metrics
from service.monitoring.monitor import Monitor
from service.monitoring.traces import open_traces
from service.registry import Registry
from service.server import check_tls
from service.settings import Settings
from service.shadows import Shadows
from service.storage import opening
from service.storage.database import Database
from service.storage.decisions import SqlDecisions
from service.storage.keys import SqlKeys
from service.storage.shadows import SqlShadowBook
from service.storage.sql import SqlStore
from service.watcher import Watcher
from service.web.admission import Admission
from service.web.app import make_web
from service.web.doorway import Doorway
from service.web.hot import HotRoutes
from service.web.lanes import make_lanes
from service.web.routes import ROUTES
from service.web.state import Parts

log = logging.getLogger(__name__)


def open_database(settings: Settings) -> Database:
    """The database that the settings name. Raises: `StorageFailed`."""
    address = None if settings.database is None else settings.database.get_secret_value()
    return opening.open_database(address, settings.data, settings.start_s)


def open_existing(settings: Settings) -> Database:
    """The same, where there is a store already: nothing is made. Raises: `StorageFailed`."""
    address = None if settings.database is None else settings.database.get_secret_value()
    return opening.open_existing(address, settings.data)


def check_guarded(settings: Settings, ring: KeyRing) -> None:
    """Raises `Unguarded` where others could reach the server, and it has neither a token nor keys."""
    if not ring.guarded and not settings.is_loopback:
        raise Unguarded(
            f"{settings.host} can be reached from other machines, so callers need keys: make the first with 'setpoint "
            "keys create', or set SETPOINT_TOKEN to a secret of 16 characters or more, or listen on 127.0.0.1"
        )


def make_decision_log(settings: Settings, store: SqlDecisions) -> DecisionLog | None:
    """What logs decisions, None where none are to be."""
    if settings.decision_log == "off":
        return None
    key = settings.decision_key
    secret = None if key is None else key.get_secret_value().encode()
    return DecisionLog(store, settings.decision_log, settings.decision_rows, secret)


def make_app(settings: Settings, lines: Lines | None = None, *, is_answering_first: bool = False) -> Doorway:
    """The whole service as an ASGI application; `lines` is where requests are told of, nowhere unless given.

    With `is_answering_first` it answers while the models are still being loaded, calls that need them by 503.

    Raises: `Unguarded` where others could reach it and it has neither a token nor keys, `StorageFailed` where the store
    or the artifacts cannot be used, `InputError` where the certificate does not serve, or traces are asked for and not
    installed.
    """
    check_tls(settings)
    traces = open_traces(settings.traces)
    artifacts = opening.open_artifacts(settings.artifacts, settings.data)
    database = open_database(settings)
    store = SqlStore(database)
    ring = KeyRing(SqlKeys(database), None if settings.token is None else settings.token.get_secret_value())
    try:
        store.check()
        artifacts.check()
        ring.refresh()
        check_guarded(settings, ring)
    except BaseException:
        store.close()
        raise
    metrics = Metrics()
    engine = OnnxEngine(
        settings.threads, settings.run_s, memory_bytes=settings.trial_bytes, require_gpu=settings.require_gpu
    )
    measured = MeasuredEngine(engine, metrics)
    registry = Registry(store, artifacts, measured, settings.classes, settings.approval, settings.models_bytes)
    metrics.watch(registry)
    shadows = Shadows(SqlShadowBook(database), registry.session)
    calibrating = make_calibrating(settings, database, store, registry, metrics)

    def begin() -> None:
        opening.warn_of_readers(settings.data)  # once the log is the server's own
        if warning := warning_of_builds():
            log.warning(warning)
        calibrating.start()

    lifecycle = Lifecycle(registry, then=begin)
    metrics.audit_length = lambda: lifecycle.audit_entries
    metrics.shadow_rows = shadows.totals
    monitor = Monitor(metrics, lines, traces, settings.log_requests)
    watcher = Watcher(lambda: registry.refresh() if lifecycle.is_started else None)

    kept_decisions = SqlDecisions(database)
    decisions = make_decision_log(settings, kept_decisions)
    if decisions is not None:
        metrics.decisions = decisions.counts

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ring.start()
        if decisions is not None:
            decisions.start()
        async with create_task_group() as tasks:
            if is_answering_first:
                tasks.start_soon(partial(to_thread.run_sync, lifecycle.start_or_tell, abandon_on_cancel=True))
            else:
                await to_thread.run_sync(lifecycle.start)
            watcher.start()
            yield
            tasks.cancel_scope.cancel()
        await to_thread.run_sync(calibrating.stop)
        await to_thread.run_sync(runner.close)
        await to_thread.run_sync(shadows.close)
        await to_thread.run_sync(ring.stop)
        await to_thread.run_sync(watcher.stop)
        if decisions is not None:
            await to_thread.run_sync(decisions.stop)
        await to_thread.run_sync(store.close)
        if traces is not None:
            await to_thread.run_sync(traces.close)

    runner = Batcher(
        settings.runs or max(1, _cores() // settings.threads),
        settings.batch_rows,
        settings.queued_rows,
        settings.queued_bytes,
        metrics.model_ran,
        metrics.waited,
    )
    lanes = make_lanes(settings.calibrations)
    parts = Parts(
        settings, registry, lanes, calibrating.desk, monitor, lifecycle, runner, kept_decisions, decisions, shadows,
        ring,
    )  # fmt: skip
    web, rules = make_web(parts, lifespan)
    hot: HotRoutes = {(route.verb, route.path): route.handler for route in ROUTES if route.hot}
    return Doorway(web, parts, Admission(settings, ring, rules), hot)


def _cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
