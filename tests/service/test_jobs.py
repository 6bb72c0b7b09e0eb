"""Calibrations as jobs: real processes, in a real service."""

import io
import json
import os
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from calibrate import OperatingPoint, fit, write_cache
from calibrate.cache import feature_cache
from calibrate.curve import curve
from service.domain import SCOPES
from service.identity import UNKNOWN
from service.jobs.runner import Runner
from service.storage.database import sqlite_address
from service.web import jobs as web_jobs
from tests.databases import raw
from tests.models import network
from tests.service.conftest import CLASSES, Start, alive, refused, register
from tests.service.jobs import LABELS, LOGITS, LONG, SHORT, ask, begin, begun, ended, five, job, npz, rows, until
from tests.service.test_keys import bearer, setpoint
from tests.service.test_keys import made as made_key


def spooled(tmp_path: Path) -> list[str]:
    """The data that is kept, beside what a process keeps of its own."""
    return [path.name for path in (tmp_path / "data" / "jobs").glob("*/*") if path.name != "lock"]


def process(client: TestClient, job_id: str) -> int:
    """The process of a job that runs."""
    runner = client.app._app.state.parts.desk._runner  # type: ignore[attr-defined]
    return int(until(lambda: (found := runner._running.get(job_id)) and found.pid))


def gone(pid: int) -> bool:
    """Whether there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_call_that_does_not_wait_is_answered_with_a_job(fraud: TestClient, tmp_path: Path) -> None:
    """Which tells how far it is, and at the end the point as the waiting call would have; its data is taken away."""
    made = begin(fraud, SHORT, model="fraud")
    assert made["state"] in ("queued", "running")
    over = ended(fraud, made["id"])
    assert (over["state"], over["operating_point"], over["attempts"], over["error"]) == ("done", "p@1", 1, None)
    assert over["result"] == fraud.get("/models/fraud/operating-points/p").json()
    until(lambda: not spooled(tmp_path))
    assert fraud.get("/audit?limit=1").json()[0]["details"]["job"] == made["id"]
    listed = fraud.get("/jobs").json()
    assert [(each["id"], each["result"]) for each in listed] == [(made["id"], None)]


@pytest.mark.parametrize(
    ("k", "spec"),
    [
        (2, {"metric": "f1", "search": "exact"}),
        (2, {"metric": "precision", "constraints": ["recall >= 0.6 @ 95%"]}),
        (2, {"metric": "cost(fp=1, fn=9)", "method": "minimum_risk", "calibration": "auto"}),
        (4, {"metric": "f1_macro"}),
        (4, {"metric": "g_mean", "method": "logit_adjustment"}),
        (4, {"metric": "f1", "method": "plug_in"}),
        (4, {"metric": "accuracy", "constraints": ["recall[2] >= 0.5 @ 90%"]}),
        (4, {"metric": "log_loss_is_not_read", "method": "temperature"}),
    ],
)
def test_a_job_gives_the_librarys_very_point_and_evidence(client: TestClient, k: int, spec: dict[str, Any]) -> None:
    """To the last bit: methods, more classes, promises, maps."""
    spec = {**spec, "metric": "f1"} if "temperature" in spec.values() else spec
    logits, labels = rows(400, k)
    version = register(client, network(k), "m")
    said = ask(client, npz(logits=logits, labels=labels), model="m", prior=[1 / k] * k, **spec)
    assert said.status_code == 201, said.text
    result = fit(logits=logits, labels=labels, prior=[1 / k] * k, **spec)
    reply, expected = said.json(), result.to_dict()
    assert OperatingPoint.from_dict(reply["point"]).digest == result.point.digest
    expected["model_digest"] = version["digest"]  # which the service knows, and the library does not
    expected["warnings"].append(UNKNOWN)  # logits in a file without an origin could be any model's
    for key in expected.keys() - {"point"}:
        assert reply[key] == expected[key], key


def test_uploads_of_every_kind_come_to_the_same_point(fraud: TestClient, tmp_path: Path) -> None:
    """Parquet, Arrow, CSV and .npz; each within the same limits."""
    cache = feature_cache(logits=LOGITS, labels=LABELS, classes=["clear", "fraud"])
    for name in ("d.npz", "d.parquet", "d.arrow"):
        write_cache(tmp_path / name, cache)
    names = np.array(["clear", "fraud"])[LABELS]
    lines = [f"{a!r},{b!r},{name}" for (a, b), name in zip(LOGITS.astype(float).tolist(), names, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["logits_clear,logits_fraud,labels", *lines]) + "\n")
    points = []
    for name in ("d.npz", "d.parquet", "d.arrow", "d.csv"):
        response = ask(fraud, (tmp_path / name).read_bytes(), name=name)
        assert response.status_code == 201, (name, response.text)
        points.append(response.json()["point"])
    assert points[1:] == points[:1] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels,logits\nclear,0.5\nfraud,\n", "column 'logits', row 1 is empty"),
        ("labels,logits\nclear,0.5\nfraud,secret\n", "column 'logits' must hold numbers"),
        ("labels,card\nclear,0.5\n", "got 'card'"),
        ("labels,logits,logits\nclear,0.5,1\n", "more than once"),
        ("labels,logits,logits_1\nclear,0.5,1\n", "one or the other"),
        ("labels,logits\nclear,0.5,7\n", "not a whole CSV file"),
        ("labels\nclear\n", "data needs labels, and inputs, features or scores"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_without_its_content(fraud: TestClient, text: str, said: str) -> None:
    """The column and the row are named; what is in the cell is not."""
    detail = refused(ask(fraud, text.encode(), name="d.csv"), 422, "bad-cache")
    assert said in detail
    assert "secret" not in detail
    refused(ask(fraud, b"labels,logits\n", name="d.csv"), 422, "no-rows")
    alive(fraud)


def test_many_rows_are_not_waited_for(start: Start) -> None:
    """Above the documented number, which is known once the data was read."""
    client = start(async_rows=1000)
    five(client)
    response = ask(client, LONG, model="five")
    assert response.status_code == 202, response.text
    assert response.json()["progress"]["rows"] == 20_000
    assert client.delete(response.headers["location"]).json()["state"] == "cancelled"


def test_a_fit_that_cannot_be_made_says_so_later_as_it_does_at_once(fraud: TestClient) -> None:
    """The same problem, with what is nearest; asked for again under its key, too."""
    spec: dict[str, Any] = {"model": "fraud", "constraints": ["recall >= 0.99", "precision >= 0.99"]}
    at_once = ask(fraud, **spec)
    refused(at_once, 422, "infeasible")
    over = ended(fraud, begin(fraud, SHORT, key="k", **spec)["id"])
    assert over["state"] == "failed"
    again = ask(fraud, headers={"Idempotency-Key": "k"}, **spec)
    refused(again, 422, "infeasible")
    for problem in (over["error"], again.json()):
        assert {**problem, "request_id": ""} == {**at_once.json(), "request_id": ""}


def test_the_same_request_under_the_same_key_is_one_job(fraud: TestClient) -> None:
    """Also when it is made several times at once; another request under that key is refused."""
    headers = {"Idempotency-Key": "again"}
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(fraud, headers=headers))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.append(ask(fraud, headers=headers))
    assert {answer.status_code for answer in answers} == {201}
    assert [answer.json()["operating_point"] for answer in answers] == ["p@1"] * 5
    assert len(fraud.get("/jobs").json()) == 1
    for other in (
        ask(fraud, headers=headers, metric="mcc"),
        ask(fraud, npz(logits=-LOGITS, labels=LABELS), headers=headers),
    ):
        assert "was used for another request" in refused(other, 422, "key-reused")
    for bad in ("", "x" * 201):
        refused(ask(fraud, headers={"Idempotency-Key": bad}), 400, "bad-request")


def test_a_job_that_runs_is_cancelled_and_its_process_ends(client: TestClient, tmp_path: Path) -> None:
    """At once; it stays cancelled, nothing is published, its data is taken away, and who waits for it is told."""
    five(client)
    made = begin(client, key="k")
    begun(client, made["id"])
    pid = process(client, made["id"])
    waiting: list[Any] = []
    thread = threading.Thread(
        target=lambda: waiting.append(ask(client, LONG, model="five", headers={"Idempotency-Key": "k"}))
    )
    thread.start()
    assert client.delete(f"/jobs/{made['id']}").json()["state"] == "cancelled"
    until(lambda: gone(pid))
    thread.join()
    refused(waiting[0], 409, "job-cancelled")
    assert client.delete(f"/jobs/{made['id']}").json()["state"] == "cancelled"
    assert len(client.get("/models/five/operating-points").json()) == 1
    until(lambda: not spooled(tmp_path))


@pytest.mark.parametrize(("nice", "policy"), [(19, "SCHED_IDLE"), (18, "SCHED_OTHER")])
def test_a_process_gives_way_to_everything_else(start: Start, nice: int, policy: str) -> None:
    """Nice, and in a session of its own, where Linux shares the processors out by session; at the most, idle."""
    client = five(start(job_nice=nice))
    made = begin(client)
    begun(client, made["id"], "fitting")
    pid = process(client, made["id"])
    assert os.getpriority(os.PRIO_PROCESS, pid) == nice
    assert os.sched_getscheduler(pid) == getattr(os, policy)
    assert os.getsid(pid) == pid
    shared = Path(f"/proc/{pid}/autogroup")
    assert not shared.exists() or shared.read_text().split()[-1] == str(nice)
    assert client.delete(f"/jobs/{made['id']}").json()["state"] == "cancelled"


def test_what_is_over_or_not_there_cannot_be_cancelled(fraud: TestClient) -> None:
    """409 and 404."""
    made = ended(fraud, begin(fraud, SHORT, model="fraud")["id"])
    assert "is done" in refused(fraud.delete(f"/jobs/{made['id']}"), 409, "job-is-over")
    for verb in ("GET", "DELETE"):
        refused(fraud.request(verb, "/jobs/nope"), 404, "unknown-job")
    refused(fraud.get("/jobs/nope/events"), 404, "unknown-job")
    refused(fraud.get("/jobs?limit=0"), 400, "bad-request")


def test_a_full_queue_refuses_at_once_and_before_the_body_is_read(start: Start) -> None:
    """503 with Retry-After; one that waits is cancelled without ever having run; then there is room again."""
    client = five(start(calibrations=1, jobs_waiting=1))
    register(client, network(2), classes=CLASSES)
    running = begin(client)
    begun(client, running["id"])  # else the first may still hold the one place in the queue
    waiting = begin(client)
    assert job(client, waiting["id"])["state"] == "queued"
    for late in (ask(client), client.post("/calibrate", content=b"not JSON")):
        assert "1 calibrations wait for their turn" in refused(late, 503, "busy")
        assert late.headers["retry-after"] == "1"
    alive(client)
    assert client.delete(f"/jobs/{waiting['id']}").json()["attempts"] == 0
    assert client.delete(f"/jobs/{running['id']}").json()["state"] == "cancelled"
    assert ask(client).status_code == 201


def test_too_much_memory_is_a_problem_that_names_the_limit(start: Start) -> None:
    """The worker's limit, not the server's; it is not tried again."""
    client = start(job_bytes=2**28, unpacked_bytes=2**30, async_rows=10**7, calibrate_rows=10**7)
    register(client, network(2), classes=CLASSES)
    n = 6_000_000
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("logits", np.zeros(n)), ("labels", np.arange(n) % 2)):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    detail = refused(ask(client, stream.getvalue()), 422, "over-limit")
    assert "more than 256 MiB of memory" in detail
    assert "SETPOINT_JOB_BYTES" in detail
    assert client.get("/jobs").json()[0]["attempts"] == 1
    alive(client)


def test_too_much_time_is_a_problem_that_names_the_limit(start: Start) -> None:
    """And the process is gone."""
    client = five(start(job_s=3))
    made = begin(client)
    pid = process(client, made["id"])
    over = ended(client, made["id"])
    assert over["error"]["type"] == "urn:setpoint:problem:over-limit"
    assert "more than 3 s" in over["error"]["detail"]
    assert over["attempts"] == 1
    until(lambda: gone(pid))


def test_a_worker_that_is_killed_is_replaced_and_the_point_published_once(fraud: TestClient) -> None:
    """Whatever ended it; a job that ends every process that tries it has failed after three."""
    five(fraud)
    made = begin(fraud, key="k")
    for _ in range(3):
        seen = begun(fraud, made["id"])["attempts"]
        os.kill(process(fraud, made["id"]), signal.SIGKILL)
        until(lambda: (now := job(fraud, made["id"]))["attempts"] > seen or now["state"] == "failed")  # noqa: B023
    over = ended(fraud, made["id"])
    assert (over["state"], over["attempts"]) == ("failed", 3)
    assert over["error"]["type"] == "urn:setpoint:problem:job-lost"
    assert "ended 3 times" in over["error"]["detail"]
    refused(ask(fraud, LONG, model="five", headers={"Idempotency-Key": "k"}), 500, "job-lost")
    assert ask(fraud).json()["operating_point"] == "p@1"


def test_what_a_server_left_running_goes_on_when_it_starts_again(start: Start, tmp_path: Path) -> None:
    """After an orderly stop the attempt does not count; the key gives the same job's answer."""
    app = start()
    register(app, network(3), "three")
    logits, labels = rows(3000, 3)
    data = npz(logits=logits, labels=labels)
    made = begin(app, data, model="three", key="k")
    begun(app, made["id"])
    app.__exit__()
    again = start()
    over = ended(again, made["id"])
    assert (over["state"], over["attempts"], over["operating_point"]) == ("done", 1, "p@1")
    same = ask(again, data, model="three", headers={"Idempotency-Key": "k"})
    assert same.json() == over["result"]
    assert [each["name"] for each in again.get("/models/three/operating-points").json()] == ["argmax", "p"]
    until(lambda: not spooled(tmp_path))


def test_a_job_whose_server_is_not_heard_of_is_taken_over(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its lease says that there is time: the clock of whoever wrote it was ahead, or ours went back."""
    app = start(calibrations=1)
    five(app)
    first = begin(app)
    waiting = begin(app, SHORT, model="five", method="no such")
    app.__exit__()
    lease = (
        "UPDATE jobs SET state = 'running', owner = 'ghost', attempts = 1, lease_until = '2099-01-01 00:00:00.000000'"
    )
    raw(sqlite_address(tmp_path / "data" / "setpoint.db"), lambda connection: connection.execute(text(lease)))
    assert Runner.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Runner.__init__.__kwdefaults__, "stale_s", 3.0)
    again = start(calibrations=1)
    refused(again.get("/jobs/nope"), 404, "unknown-job")
    assert job(again, first["id"])["attempts"] == 1
    assert begun(again, first["id"])["attempts"] == 2
    assert again.delete(f"/jobs/{first['id']}").json()["state"] == "cancelled"
    assert ended(again, waiting["id"])["error"]["type"].endswith("wrong-shape")


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The events of a stream: id, kind, data."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found


def test_progress_streams_until_the_job_is_over(fraud: TestClient) -> None:
    """In honest steps; who comes back with the last event that it saw is told nothing twice."""
    register(fraud, network(3), "three")
    logits, labels = rows(2000, 3)
    made = begin(fraud, npz(logits=logits, labels=labels), model="three")
    with fraud.stream("GET", f"/jobs/{made['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events("".join(stream.iter_text()))
    stages = [data["progress"]["stage"] for _, kind, data in told if kind == "progress" and data["progress"]]
    order = ["starting", "reading", "fitting", "evidence", "scores", "curve", "publishing"]
    assert {"fitting", "evidence"} <= set(stages)
    assert [order.index(stage) for stage in stages] == sorted(order.index(stage) for stage in stages)
    assert told[-1][1] == "done"
    assert told[-1][2] == job(fraud, made["id"])
    assert len({name for name, _, _ in told}) == len(told)
    path = f"/jobs/{made['id']}/events"
    assert events(fraud.get(path).text) == told[-1:]
    assert fraud.get(path, headers={"Last-Event-ID": told[-1][0]}).status_code == 204


def test_streams_are_bounded(fraud: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, of a server and of one caller; a place is given back when a stream ends."""
    made = ended(fraud, begin(fraud, SHORT, model="fraud")["id"])
    monkeypatch.setattr(web_jobs, "_streams", web_jobs.Streams(9, 8))
    for _ in range(3):
        assert fraud.get(f"/jobs/{made['id']}/events").status_code == 200
    for _ in range(8):
        web_jobs._streams.take("local")
    response = fraud.get(f"/jobs/{made['id']}/events")
    assert "local has 8 streams of events open" in refused(response, 429, "too-many")
    assert response.headers["retry-after"] == "1"
    web_jobs._streams.take("ann")
    web_jobs._streams.give_back("local")
    web_jobs._streams.take("ben")
    response = fraud.get(f"/jobs/{made['id']}/events")
    assert "9 streams of events are open" in refused(response, 503, "busy")
    assert response.headers["retry-after"] == "1"


def test_a_revoked_key_publishes_nothing_and_hears_nothing(start: Start, tmp_path: Path) -> None:
    """What it asked for before, default and all, fails with the fact when its turn comes; its stream ends by itself."""
    data = tmp_path / "data"
    every = [f"--scope={scope}" for scope in SCOPES]
    ops, leaked = (made_key(data, "--name", name, *every) for name in ("ops", "leaked"))
    client = start(calibrations=1)
    client.headers.update(bearer(ops["key"]))
    five(client)
    register(client, network(2), classes=CLASSES)
    running = begin(client)
    as_leaked = {**bearer(leaked["key"]), "Prefer": "respond-async"}
    waits = ask(client, headers=as_leaked, make_default=True, reason="mine").json()
    assert (waits["state"], waits["principal"]) == ("queued", "leaked")
    heard: list[Any] = []
    path = f"/jobs/{waits['id']}/events"
    thread = threading.Thread(target=lambda: heard.append(client.get(path, headers=bearer(leaked["key"]))))
    thread.start()
    revoked = setpoint("revoke", leaked["id"], "--reason", "leaked", data=data)
    assert revoked.exit_code == 0, revoked.output
    thread.join(10)
    assert not thread.is_alive()
    assert job(client, waits["id"])["state"] == "queued"
    assert client.delete(f"/jobs/{running['id']}").json()["state"] == "cancelled"
    over = ended(client, waits["id"])
    assert (over["state"], over["error"]["type"]) == ("failed", "urn:setpoint:problem:forbidden")
    assert f"the key {leaked['id']} of leaked, which asked for this, is revoked by now" in over["error"]["detail"]
    assert client.get("/models/fraud/default").json()["operating_point"] == "argmax@1"
    assert client.get("/models/fraud").json()["operating_points"] == ["argmax@1"]


def test_inputs_are_run_by_the_model_that_serves(fraud: TestClient) -> None:
    """In parts, as many as there are; what the model refuses is said with the row where the part begins."""
    x = np.random.default_rng(5).normal(size=(10_000, 4)).round(3)
    labels = (x[:, 0] > 0.5).astype(int).tolist()
    data: dict[str, Any] = {"inputs": x.tolist(), "labels": labels}
    body = {"model": "fraud", "name": "p", "metric": "f1", "data": data}
    response = fraud.post("/calibrate", json=body)
    assert response.status_code == 201, response.text
    served = fraud.post("/predict", json={"model": "fraud", "inputs": x.tolist(), "operating_point": "p"}).json()
    decided = np.array([row["label"] == "fraud" for row in served["predictions"]])
    best = fraud.get("/models/fraud/operating-points/p/curve").json()
    cut = best["best"]["f1"]
    assert decided.sum() == best["columns"]["tp"][cut] + best["columns"]["fp"][cut]
    data["inputs"][9000][0] = None
    detail = refused(fraud.post("/calibrate", json=body), 422, "not-finite")
    assert detail.startswith("of the rows from 8192 on: the model's logits[808, 0] must be finite")


def test_the_curve_of_a_point_is_the_librarys(fraud: TestClient) -> None:
    """Thinned, with bands; points of more classes, and those from elsewhere, have none."""
    ask(fraud)
    said = fraud.get("/models/fraud/operating-points/p/curve").json()
    cache = feature_cache(logits=LOGITS, labels=LABELS, classes=["clear", "fraud"])
    expected = curve(cache, confidence=0.95).thinned(200)
    assert said["columns"]["margin"] == expected.margin.tolist()
    assert said["columns"]["f1"] == [None if np.isnan(v) else v for v in expected.metrics["f1"].tolist()]
    assert said["columns"]["recall low"] == expected.bands["recall"][0].tolist()
    assert (said["operating_point"], said["positive"], said["rows"]) == ("p@1", "fraud", 300)
    rarer = fraud.get("/models/fraud/operating-points/p/curve", params={"prevalence": 0.005}).json()
    elsewhere = expected.at_prevalence(0.005)
    assert (rarer["prevalence"], rarer["best"]) == (0.005, dict(elsewhere.best))
    assert rarer["columns"]["precision"] == [None if np.isnan(v) else v for v in elsewhere.metrics["precision"]]
    low = elsewhere.bands["precision"][0].tolist()
    assert rarer["columns"]["precision low"] == [None if np.isnan(v) else v for v in low]
    assert rarer["columns"].keys() == said["columns"].keys()
    for name in ("margin", "tp", "recall", "recall low", "recall high"):  # which survive
        assert np.allclose(rarer["columns"][name], said["columns"][name], rtol=1e-12)
    for query in ("prevalence=0", "prevalence=1", "prevalence=-0.1", "prevalence=nan", "prevalence=inf"):
        text = refused(fraud.get(f"/models/fraud/operating-points/p/curve?{query}"), 422, "bad-prior")
        assert "share between 0 and 1" in text
    for query in ("prevalance=0.1", "prevalence=0.1&prevalence=0.2", "prevalence=0.1&thin=9", "prevalence=1%25"):
        refused(fraud.get(f"/models/fraud/operating-points/p/curve?{query}"), 400, "bad-request")
    for name in ("argmax", "argmax@1"):
        refused(fraud.get(f"/models/fraud/operating-points/{name}/curve"), 404, "unknown-curve")
    details = {"curve": fraud.get("/models/fraud/operating-points/p").json()["curve"]}
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 1.0]}
    fraud.post("/models/fraud/operating-points", json={"name": "q", "point": point, "details": details})
    refused(fraud.get("/models/fraud/operating-points/q/curve"), 404, "unknown-curve")
