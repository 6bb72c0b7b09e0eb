"""What happens to a request, told once and passed on to metrics, log and trace.

The doorway begins and ends a `Call`; on its way the parts that know more write it down there. Decided here: health
checks are counted, but neither logged nor traced; of the other requests the setting `log_requests` says which have a
line: `most` leaves out predictions that were answered, of which the metrics tell more than a thousand lines a second.
"""

import time
from collections.abc import Mapping
from typing import Any, Literal

from service.monitoring.logs import Lines
from service.monitoring.metrics import OTHER, Metrics
from service.monitoring.traces import Traced, Traces

LogRequests = Literal["all", "most", "errors"]


class Call:
    """One request as it is told of: what is known when it ends. `route` is the template of its address, told
    once the caller was let in; `problem` the type of the problem that it was answered with.
    """

    __slots__ = (
        "began", "model", "model_version", "problem", "received", "request_id", "route", "rows", "sent", "span",
        "status",
    )  # fmt: skip

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.request_id = self.problem = self.route = ""
        self.model: str | None = None
        self.model_version: int | None = None
        self.rows: int | None = None
        self.received = self.sent = self.status = 0
        self.span: Traced | None = None

    def of(self, model: str, model_version: int) -> None:
        """The registered model that it is about."""
        self.model, self.model_version = model, model_version

    def step(self, name: str) -> None:
        """The next step of it begins, and the one before is over: a span each, where there are traces."""
        if self.span is not None:
            self.span.step(name)


class Monitor:
    """Metrics, log and traces of one server."""

    def __init__(
        self,
        metrics: Metrics,
        lines: Lines | None = None,
        traces: Traces | None = None,
        log_requests: LogRequests = "most",
    ) -> None:
        self.metrics, self.lines, self.traces = metrics, lines, traces
        self._all, self._errors = log_requests == "all", log_requests == "errors"

    def begin(self, scope: Any) -> Call:
        """A request came in; its call is also `request.state.call`."""
        call = Call()
        scope.setdefault("state", {})["call"] = call
        self.metrics.in_flight += 1
        if self.traces is not None and not _is_health(scope["path"]):
            wanted = {b"traceparent", b"tracestate"}
            call.span = self.traces.begin({k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in wanted})
        return call

    def end(self, call: Call, scope: Any) -> None:
        """The request was answered, or its connection is gone (status 0)."""
        seconds = time.perf_counter() - call.began
        verb, route = scope["method"], call.route or OTHER
        status = call.status or 499
        metrics = self.metrics
        metrics.in_flight -= 1
        metrics.request_ended(verb, route, status, seconds)
        if call.problem:
            metrics.problem(call.problem)
        if call.rows is not None and status < 400 and call.model is not None:
            metrics.predicted(call.model, call.model_version or 0, call.rows)
        is_most = call.rows is not None and status < 400 and not self._all  # of which there are the most by far
        if self.lines is not None and not is_most and self._is_told(status, scope["path"]):
            principal = scope["state"].get("principal")
            self.lines.write(
                "error" if status >= 500 else "info",
                "request",
                method=verb if status != 405 else OTHER,
                route=route,
                status=status,
                seconds=round(seconds, 6),
                request_id=call.request_id,
                principal=None if principal is None else principal.name,
                model=call.model,
                model_version=call.model_version,
                rows=call.rows,
                received_bytes=call.received,
                sent_bytes=call.sent,
                problem=call.problem or None,
                trace_id=None if call.span is None else call.span.trace_id,
            )
        if call.span is not None:
            call.span.end(f"{verb} {route}", _attributes(call, verb, route, status), call.problem, status >= 500)

    def _is_told(self, status: int, path: str) -> bool:
        return not _is_health(path) and (self._all or status >= 400 or not self._errors)


def _is_health(path: str) -> bool:
    return path.startswith(("/health/", "/v2/health/"))


def _attributes(call: Call, verb: str, route: str, status: int) -> Mapping[str, Any]:
    return {
        "http.request.method": verb,
        "http.route": route,
        "http.response.status_code": status,
        "http.request.body.size": call.received,
        "http.response.body.size": call.sent,
        "setpoint.request_id": call.request_id,
        "setpoint.model": call.model,
        "setpoint.model_version": call.model_version,
        "setpoint.rows": call.rows,
        "error.type": call.problem or None,
    }
