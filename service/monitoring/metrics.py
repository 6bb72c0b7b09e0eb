"""Every metric of a server, in a registry of its own, for Prometheus to read at `GET /metrics`.

Decided here: labels are bounded. A route is its template, a model is one that is registered, an error is the type of
its problem, a verb is a known one; nothing that a client makes up becomes a label. The children of labelled metrics are
looked up once and kept, because the look-up costs more than the count. What is a state and no event (points, defaults,
providers) is read from the registry when the metrics are.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import onnxruntime
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.monitoring.tallies import Count, Counts, Tallies, Tally
from service.registry import Registry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_VERBS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG_S = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384, 65536)
_MODEL = ("model", "model_version")
_FOLD_EVERY = 256  # requests, of which the numbers are counted together, in a fraction of a millisecond
Kept = TypeVar("Kept", bound=Collector)


class Metrics:
    """The metrics of one server; the methods are what the parts of the service call as things happen."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, with a time that nobody asks for
        self.registry = CollectorRegistry()
        self.in_flight = self._unfolded = 0
        self.audit_length: Callable[[], int] | None = None
        self.queued_jobs: Callable[[], int] | None = None
        self.shadow_rows: Callable[[], dict[tuple[str, str, bool], int]] | None = None
        self.decisions: Callable[[], dict[str, int]] | None = None  # rows kept and dropped
        counter, histogram = partial(Counter, registry=self.registry), partial(Histogram, registry=self.registry)
        self._requests = self._kept(
            Counts("setpoint_http_requests", "Requests answered.", ("method", "route", "status"))
        )
        self._request_s = self._tallies(
            "setpoint_http_request_duration_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ("method", "route"),
            _FAST_S,
        )
        self._problems = counter(
            "setpoint_problems", "Requests refused or failed, by the type of the problem that they got.", ("type",)
        )
        self._predicted = self._kept(Counts("setpoint_predict_rows", "Rows decided.", _MODEL))
        self._run_s = self._tallies(
            "setpoint_model_run_duration_seconds",
            "Seconds that a run of a model took.",
            _MODEL,
            _FAST_S,
            ("setpoint_model_runs", "Runs of a model."),
        )
        self._run_rows = self._tallies("setpoint_model_run_rows", "Rows in a run of a model.", _MODEL, _ROWS)
        self._queue_s = self._tallies(
            "setpoint_model_queue_duration_seconds",
            "Seconds that a request waited for its run of a model.",
            _MODEL,
            _FAST_S,
        )
        self._loads = counter("setpoint_model_loads", "Models loaded, or refused by the runtime.", ("outcome",))
        self._load_s = histogram(
            "setpoint_model_load_duration_seconds", "Seconds that loading a model took.", buckets=_LONG_S
        )
        self._calibrations = counter("setpoint_calibrations", "Calibrations that ended.", ("outcome",))
        self._calibration_s = histogram(
            "setpoint_calibration_duration_seconds", "Seconds that a calibration took.", buckets=_LONG_S
        )
        self._answered: dict[tuple[str, str, int], tuple[Count, Tally]] = {}
        self._rows: dict[tuple[str, int], Count] = {}
        self._ran: dict[tuple[str, int], tuple[Tally, Tally]] = {}
        gauge = partial(Gauge, registry=self.registry)
        gauge("setpoint_http_requests_in_flight", "Requests being answered.").set_function(lambda: self.in_flight)
        self._ready = gauge("setpoint_ready", "1 where the server is ready, else 0.")
        about = gauge("setpoint_build_info", "What is running.", ("version", "python", "onnxruntime"))
        about.labels(version("setpoint"), platform.python_version(), onnxruntime.__version__).set(1)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Late(self))

    def watch(self, models: Registry) -> None:
        """Tells of the models that are served, as they stand when the metrics are read."""
        self.registry.register(_Models(models))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def request_ended(self, verb: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is a template of the table, or `OTHER`. Of one thread."""
        key = (verb, route, status)
        child = self._answered.get(key)
        if child is None:
            method = verb if verb in _VERBS else OTHER
            child = self._requests.of(method, route, str(status)), self._request_s.of(method, route)
            if method is not OTHER:  # a verb that a client made up is not kept
                self._answered[key] = child
        child[0].total += 1
        child[1].observe(seconds)
        self._unfolded += 1
        if self._unfolded >= _FOLD_EVERY:
            self._unfolded = 0
            for tallies in (self._request_s, self._run_s, self._run_rows, self._queue_s):
                tallies.fold()

    def problem(self, kind: str) -> None:
        """A request was refused or failed with a problem of that type."""
        self._problems.labels(kind).inc()

    def predicted(self, model: str, model_version: int, rows: int) -> None:
        """Rows were decided by a model that is registered. Of one thread."""
        key = (model, model_version)
        child = self._rows.get(key)
        if child is None:
            child = self._rows[key] = self._predicted.of(model, str(model_version))
        child.total += rows

    def model_ran(self, model: str, model_version: int, rows: int, seconds: float) -> None:
        """A model ran once, on all the rows of a batch."""
        key = (model, model_version)
        child = self._ran.get(key)
        if child is None:
            of = (model, str(model_version))
            child = self._ran[key] = self._run_rows.of(*of), self._run_s.of(*of)
        child[0].observe(rows)
        child[1].observe(seconds)

    def waited(self, model: str, model_version: int, seconds: float) -> None:
        """A request waited that long for its run."""
        self._queue_s.of(model, str(model_version)).observe(seconds)

    def model_loaded(self, outcome: str, seconds: float) -> None:
        """A model was loaded, `ok`, or the runtime refused it, `failed`."""
        self._loads.labels(outcome).inc()
        self._load_s.observe(seconds)

    def calibration_ended(self, outcome: str, seconds: float) -> None:
        """A calibration ended: `done`, `infeasible`, `refused`, `failed`, `cancelled`."""
        self._calibrations.labels(outcome).inc()
        self._calibration_s.observe(seconds)

    def looked(self, ready: bool) -> None:
        """Whether the server is ready, asked just before the metrics are read."""
        self._ready.set(ready)

    def _tallies(self, *given: Any) -> Tallies:
        return self._kept(Tallies(*given))

    def _kept(self, made: Kept) -> Kept:
        self.registry.register(made)
        return made


class _Late(Collector):
    """Numbers that other parts tell when they are asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """The families of which there is a number."""
        for name, about, ask in (
            ("setpoint_audit_entries", "Entries in the audit trail.", self._metrics.audit_length),
            ("setpoint_jobs_queued", "Calibration jobs that wait for a worker.", self._metrics.queued_jobs),
        ):
            if ask is not None:
                yield GaugeMetricFamily(name, about, value=ask())
        if self._metrics.shadow_rows is not None:
            shadows = CounterMetricFamily(
                "setpoint_shadow_rows", "Rows that a shadow decided too, and whether it agreed with the answer.",
                labels=["model", "operating_point", "agrees"],
            )  # fmt: skip
            for (model, point, agrees), number in self._metrics.shadow_rows().items():
                shadows.add_metric([model, point, str(agrees).lower()], number)
            yield shadows

        if self._metrics.decisions is not None:
            for what, rows in self._metrics.decisions().items():
                yield CounterMetricFamily(
                    f"setpoint_decisions_{what}", f"Rows of the decision log, {what}.", value=rows
                )

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked while the collector is taken in."""
        return []


class _Models(Collector):
    """The models that are served."""

    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """One family a fact."""
        points = GaugeMetricFamily("setpoint_operating_points", "Published operating points.", labels=["model"])
        default = GaugeMetricFamily(
            "setpoint_model_default_info", "The version and the point that answer when a request names neither.",
            labels=[*_MODEL, "operating_point"],
        )  # fmt: skip
        provider = GaugeMetricFamily(
            "setpoint_model_provider_info", "What a loaded version really runs on.", labels=[*_MODEL, "provider"]
        )
        for model in self._models.models():
            points.add_metric([model.name], len(model.points))
            default.add_metric([model.name, str(model.default.model_version), model.default.label], 1)
            for version_ in model.versions.values():
                if runs_on := self._models.provider(version_):
                    provider.add_metric([model.name, str(version_.version), runs_on], 1)
        yield from (points, default, provider)

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked while the collector is taken in."""
        return []
