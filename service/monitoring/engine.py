"""An engine whose loading is measured."""

import time

from calibrate.io.model import OutputKind
from service.monitoring.metrics import Metrics
from service.ports import Engine, Examined, Session


class MeasuredEngine:
    """Another engine, and how often and how long it loads."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine, self._metrics = engine, metrics

    def examine(
        self, data: bytes, *, output: str | None = None, output_kind: str | None = None, allow_random: bool = False
    ) -> Examined:
        """What the engine finds."""
        return self._engine.examine(data, output=output, output_kind=output_kind, allow_random=allow_random)

    def load(self, data: bytes, output: str, kind: OutputKind, *, rows_apart: bool | None = None) -> Session:
        """What the engine loads."""
        began, outcome = time.perf_counter(), "failed"
        try:
            session = self._engine.load(data, output, kind, rows_apart=rows_apart)
            outcome = "ok"
        finally:
            self._metrics.model_loaded(outcome, time.perf_counter() - began)
        return session
