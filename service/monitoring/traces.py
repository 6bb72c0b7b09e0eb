"""Traces: a span a request and one for each step of it, sent to a collector by OTLP over HTTP.

Decided here: off unless a collector is named, and then nothing of OpenTelemetry is imported; nothing of it is global,
so two servers in one process do not mix. A caller's `traceparent` is honoured. Spans hold names, sizes and outcomes,
never what a user sent.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from calibrate.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

NOTHING: AbstractContextManager[None] = nullcontext()  # the step of a server without traces
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

    def begin(self, headers: Mapping[str, str]) -> "tuple[Span, Any]":
        """The span of a request, current from here to `end`."""
        parent = self._propagator.extract(headers)
        span = self._tracer.start_span("request", parent, kind=self._trace.SpanKind.SERVER)
        return span, self._context.attach(self._trace.set_span_in_context(span, parent))

    def end(self, begun: "tuple[Span, Any]", name: str, attributes: Mapping[str, Any], failed: bool) -> None:
        """Ends a request's span."""
        span, token = begun
        span.update_name(name)
        span.set_attributes({key: value for key, value in attributes.items() if value is not None})
        if failed:
            span.set_status(self._trace.StatusCode.ERROR)
        self._context.detach(token)
        span.end()

    @contextmanager
    def step(self, name: str, **attributes: Any) -> Iterator[None]:
        """A span within the current one; an exception is told by its type alone."""
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
                raise

    def close(self) -> None:
        """Sends what is left, for a few seconds at most."""
        self._provider.force_flush(2000)
        self._provider.shutdown()


def trace_id(begun: "tuple[Span, Any]") -> str:
    """The trace that a request's span belongs to, as in `traceparent`."""
    return f"{begun[0].get_span_context().trace_id:032x}"


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
