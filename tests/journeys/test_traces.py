"""Traces of a real server, received by a small collector that speaks OTLP over HTTP."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.client import Client
from tests.models import WIDTH, network
from tests.servers import running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NUMBER = 8675309.125


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Its address, and the bodies that came."""
    bodies: list[bytes] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.path.encode() + b"\n" + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans(bodies: list[bytes]) -> list[Span]:
    """All that were sent."""
    found: list[Span] = []
    for body in bodies:
        path, _, data = body.partition(b"\n")
        assert path == b"/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            assert any(each.value.string_value == "setpoint" for each in resource.resource.attributes)
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def test_a_request_is_a_span_with_its_steps(tmp_path: Path) -> None:
    """Under the caller's own trace; health is left out; what was sent is in none of them."""
    with collector() as (address, bodies):
        settings = {"SETPOINT_TRACES": address, "SETPOINT_LOG_FORMAT": "json", "SETPOINT_LOG_REQUESTS": "all"}
        with running(tmp_path, **settings) as server:
            (tmp_path / "net.onnx").write_bytes(network(2))
            with Client(server.address) as client:
                client.register(tmp_path / "net.onnx", "m")
            body = json.dumps({"model": "m", "inputs": [[NUMBER] * WIDTH]}).encode()
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            request = urllib.request.Request(f"{server.address}/predict", body, headers)  # noqa: S310
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                request_id = answer.headers["x-request-id"]
            data = {"logits": [[0.0, i % 7 + NUMBER] for i in range(40)], "labels": [i % 2 for i in range(40)]}
            server.post("/calibrate", {"model": "m", "name": "p", "metric": "f1", "data": data})
        found = spans(bodies)
    by_name = {span.name: span for span in found}
    whole = by_name["POST /predict"]
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, PARENT)
    told = {each.key: each.value for each in whole.attributes}
    assert told["http.route"].string_value == "/predict"
    assert told["http.response.status_code"].int_value == 200
    assert told["setpoint.request_id"].string_value == request_id
    assert told["setpoint.rows"].int_value == 1
    for step in ("parse", "run", "decide"):
        assert by_name[step].parent_span_id == whole.span_id
    assert by_name["calibrate"].parent_span_id == by_name["POST /calibrate"].span_id
    assert by_name["calibrate"].trace_id != whole.trace_id
    assert not [span.name for span in found if "health" in span.name]
    assert not [body for body in bodies if b"8675309" in body]
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["trace_id"] for line in lines if line.get("request_id") == request_id] == [TRACE]


def test_a_collector_that_is_down_costs_no_request(tmp_path: Path) -> None:
    """Nor does the stop wait for it beyond its limits."""
    with running(tmp_path, SETPOINT_TRACES="http://127.0.0.1:9") as server:
        began = time.monotonic()
        for _ in range(20):
            assert server.get("/models") == []
        assert time.monotonic() - began < 5
        server.process.terminate()
        began = time.monotonic()
        assert server.process.wait(20) in (0, 1)
        assert time.monotonic() - began < 14


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    """It takes time to import, and may not be installed."""
    code = "import sys, service.main, service.cli; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
