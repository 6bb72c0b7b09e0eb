"""Metrics: what happened is counted, under labels that no client can make up, and all of it is in the reference."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.monitoring.metrics import Metrics
from service.monitoring.tallies import Tallies
from tests.service.conftest import Start, publish, refused
from tests.test_docs import rows


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every number by name and labels."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(client: TestClient, name: str, **labels: str) -> float | None:
    """One number."""
    return samples(client).get((name, frozenset(labels.items())))


def test_requests_and_rows_are_counted(fraud: TestClient) -> None:
    """By route template, status and model; runs apart from rows."""
    for status, inputs in ((200, [[0.0] * 4] * 3), (200, [[1.0] * 4]), (422, [[1.0]])):
        assert fraud.post("/predict", json={"model": "fraud", "inputs": inputs}).status_code == status
    fraud.post("/predict", json={"model": "fraud", "logits": [[0.0, 1.0]]})
    found = samples(fraud)

    def number(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    of = {"model": "fraud", "model_version": "1"}
    assert number("setpoint_http_requests_total", method="POST", route="/predict", status="200") == 3
    assert number("setpoint_http_requests_total", method="POST", route="/predict", status="422") == 1
    assert number("setpoint_http_request_duration_seconds_count", method="POST", route="/predict") == 4
    assert number("setpoint_predict_rows_total", **of) == 5
    assert number("setpoint_model_runs_total", **of) == 2
    assert number("setpoint_model_run_rows_sum", **of) == 4
    assert number("setpoint_model_run_duration_seconds_count", **of) == 2
    assert number("setpoint_problems_total", type="wrong-shape") == 1
    assert number("setpoint_http_requests_in_flight") == 1
    assert number("setpoint_model_loads_total", outcome="ok") == 1


def test_the_models_are_told_of_as_they_stand(fraud: TestClient) -> None:
    """Points, default and provider."""
    publish(fraud, "p", 1.0)
    move = {"model_version": 1, "operating_point": "p", "reason": "test"}
    assert fraud.put("/models/fraud/default", json=move).status_code == 200
    of = {"model": "fraud", "model_version": "1"}
    assert value(fraud, "setpoint_operating_points", model="fraud") == 2
    assert value(fraud, "setpoint_model_default_info", **of, operating_point="p@1") == 1
    assert value(fraud, "setpoint_model_default_info", **of, operating_point="argmax@1") is None
    assert value(fraud, "setpoint_model_provider_info", **of, provider="CPUExecutionProvider") == 1


def test_calibrations_are_counted_by_how_they_end(fraud: TestClient) -> None:
    """Done, infeasible, refused."""
    data = {"logits": [[0.0, float(i % 7)] for i in range(40)], "labels": [i % 2 for i in range(40)]}
    call: dict[str, Any] = {"model": "fraud", "name": "p", "metric": "f1", "data": data}
    assert fraud.post("/calibrate", json=call).status_code == 201
    refused(fraud.post("/calibrate", json={**call, "constraints": ["precision >= 0.99"]}), 422, "infeasible")
    refused(fraud.post("/calibrate", json={**call, "metric": "nonsense"}), 422, "unknown-metric")
    for outcome in ("done", "infeasible", "refused"):
        assert value(fraud, "setpoint_calibrations_total", outcome=outcome) == 1
    assert value(fraud, "setpoint_calibration_duration_seconds_count") == 3


def test_no_client_can_make_up_a_label(fraud: TestClient) -> None:
    """Paths, verbs, models and points that there are not."""
    before = len(samples(fraud))
    for i in range(20):
        fraud.get(f"/nothing/{i}")
        fraud.request(f"VERB{i}", "/predict")
        fraud.get(f"/models/none{i}")
        fraud.post("/predict", json={"model": f"none{i}", "inputs": [[0.0]]})
        fraud.post("/predict", json={"model": "fraud", "inputs": [[0.0] * 4], "operating_point": f"none{i}"})
    found = samples(fraud)
    assert not [key for key in found if "none1" in str(key) or "VERB" in str(key) or "nothing" in str(key)]
    assert len(found) < before + 200  # a handful of histograms, which a run that waited has one more of
    other = {"method": "GET", "route": "other", "status": "404"}
    assert found["setpoint_http_requests_total", frozenset(other.items())] == 20


def test_the_reference_has_every_metric(fraud: TestClient) -> None:
    """By name, kind and labels; also those that other parts feed."""
    doorway: Any = fraud.app
    metrics: Metrics = doorway.monitor.metrics
    metrics.audit_length = metrics.queued_jobs = lambda: 1
    metrics.shadow_rows = lambda: {("fraud", "p@1", True): 1}
    metrics.decisions = lambda: {"kept": 1, "dropped": 0}
    metrics.waited("fraud", 1, 0.1)
    metrics.predicted("fraud", 1, 1)
    metrics.model_ran("fraud", 1, 1, 0.1)
    metrics.calibration_ended("done", 1)
    refused(fraud.get("/nothing"), 404, "unknown-route")
    found = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("setpoint_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, labels)
    described = rows("Metrics of the server")
    assert {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, (kind, labels, _) in described.items()} == found


def test_metrics_can_be_switched_off(start: Start) -> None:
    """Then there is nothing."""
    refused(start(metrics=False).get("/metrics"), 404, "unknown-route")


def test_the_documentation_can_be_switched_off(start: Start) -> None:
    """Page, document and what the page is made of."""
    client = start(docs=False)
    for path in ("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
        refused(client.get(path), 404, "unknown-route")
    assert client.get("/console").status_code == 200


def test_a_tally_tells_what_the_librarys_histogram_tells() -> None:
    """The same values, on and between the bounds, in both: the same text."""
    bounds, values = (0.5, 1, 2.5), (0.1, 0.5, 0.50001, 1, 2, 2.5, 3, 1e9)
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("h", "About.", ("a",), buckets=bounds, registry=theirs)
    tallies = Tallies("h", "About.", ("a",), bounds)
    ours.register(tallies)
    for value_ in values:
        histogram.labels("x").observe(value_)
        tallies.of("x").observe(value_)
    created = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == created


def test_no_value_is_lost_between_threads() -> None:
    """Runs are told of from many."""
    metrics = Metrics()

    def run() -> None:
        for _ in range(2000):
            metrics.model_ran("m", 1, 2, 0.1)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(run)
    text = metrics.text().decode()
    of = '{model="m",model_version="1"}'
    assert f"setpoint_model_runs_total{of} 16000.0" in text
    assert f"setpoint_model_run_rows_sum{of} 32000.0" in text
