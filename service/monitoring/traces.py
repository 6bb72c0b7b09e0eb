"""Traces: a span a request and one for each step of it, sent to a collector by OTLP over HTTP.

Decided here: off unless a collector is named, and then nothing of OpenTelemetry is imported; nothing of it is global,
so two servers in one process do not mix. A caller's `traceparent` is honoured. Spans hold names, sizes and outcomes,
never what a user sent.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from calibrate.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Traces:
    """Where the spans of one server go."""

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry import context, trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "setpoint")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("setpoint")
        self._propagator = TraceContextTextMapPropagator()
        self._context, self._trace = context, trace

    def begin(self, headers: Mapping[str, str]) -> "Traced":
        """The span of a request, current from here to its end."""
        parent = self._propagator.extract(headers)
        span = self._tracer.start_span("request", parent, kind=self._trace.SpanKind.SERVER)
        token = self._context.attach(self._trace.set_span_in_context(span, parent))
        return Traced(self._tracer, span, lambda: self._context.detach(token), self._trace.StatusCode.ERROR)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most."""
        self._provider.force_flush(2000)
        self._provider.shutdown()


class Traced:
    """A request's span, and in it that of the step that the request is at."""

    def __init__(self, tracer: "Tracer", span: "Span", detach: Callable[[], None], error: Any) -> None:
        self._tracer, self._span, self._detach, self._error = tracer, span, detach, error
        self._step: Span | None = None

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, as in `traceparent`."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def step(self, name: str) -> None:
        """The next step begins, and the one before is over."""
        if self._step is not None:
            self._step.end()
        self._step = self._tracer.start_span(name)

    def end(self, name: str, attributes: Mapping[str, Any], problem: str, failed: bool) -> None:
        """Ends both; the step says which problem ended it."""
        if self._step is not None:
            if problem:
                self._step.set_status(self._error, problem)
            self._step.end()
        self._span.update_name(name)
        self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})
        if failed:
            self._span.set_status(self._error)
        self._detach()
        self._span.end()


def open_traces(collector: str | None) -> Traces | None:
    """Traces to the collector, to the one in OpenTelemetry's own variables, or none.

    Raises: `InputError` where the extra `tracing` is not installed.
    """
    if collector is None and not any(os.environ.get(name) for name in STANDARD):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise InputError("traces need the extra 'tracing': pip install 'setpoint[tracing]'") from None
    if collector is None:
        return Traces(OTLPSpanExporter(timeout=5))
    address = collector.rstrip("/")
    return Traces(OTLPSpanExporter(address if address.endswith("/v1/traces") else f"{address}/v1/traces", timeout=5))
