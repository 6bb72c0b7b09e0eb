"""The decision log: why this patient, why this card, told months later from what was kept."""

import csv
import hashlib
import hmac
import io
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service import decisions as module
from service.cli import app
from service.decisions import Answered, DecisionLog, digest_rows, wait_until_kept
from service.domain import Decision, DecisionPage, Default, Model
from service.errors import Busy, StorageFailed
from service.inference import Rows, answer
from service.storage.database import Database, sqlite_address
from service.storage.decisions import SqlDecisions
from tests.contracts.test_store import record, version
from tests.models import network
from tests.service.conftest import CLASSES, Start, alive, publish, refused, register

ROWS = [[1.5, 2.25, 3.0, 4.0], [-1.0, -2.0, -3.0, -4.0], [0.125, 0.25, 0.5, 1.0]]


def logged(client: TestClient, request_id: str, **query: Any) -> list[dict[str, Any]]:
    """What the log says of a request, once it does."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = client.get("/decisions", params={"request_id": request_id, **query})
        assert found.status_code == 200, found.text
        if found.json():
            return list(found.json())
        time.sleep(0.05)
    return []


def decide(client: TestClient, **ask: Any) -> dict[str, Any]:
    """A prediction."""
    response = client.post("/predict", json={"model": "fraud", **ask})
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize("mode", ["best_effort", "required"])
def test_an_entry_leads_to_all_that_decided(start: Start, mode: str, tmp_path: Path) -> None:
    """Label and margin as answered, the model's file, the point with its digest and evidence; never the row itself."""
    client = start(decision_log=mode)
    model = register(client, network(2), classes=CLASSES)
    points = [publish(client, "low", -1.0), publish(client, "high", 1.0)]
    names = [points[0]["operating_point"], points[1]["operating_point"], points[0]["operating_point"]]
    reply = decide(client, inputs=ROWS, operating_point=names)
    entries = logged(client, reply["request_id"])
    assert [entry["row"] for entry in entries] == [0, 1, 2]
    for entry, said, name, row in zip(entries, reply["predictions"], names, ROWS, strict=True):
        assert (entry["label"], entry["margin"]) == (said["label"], said["margin"])
        assert (entry["model"], entry["model_version"], entry["model_digest"]) == ("fraud", 1, model["digest"])
        assert (entry["point"], entry["principal"]) == (name, "local")
        point = client.get(entry["evidence"]).json()
        assert point["digest"] == entry["point_digest"]
        assert any(entry["point"] in json.dumps(each) for each in client.get("/audit").json())
        values = np.array(row, "<f4").tobytes()
        assert entry["input_digest"] == hashlib.sha256(b'["x", "float32", [4]]\n' + values).hexdigest()
    for file in (tmp_path / "data").glob("setpoint.db*"):
        kept = file.read_bytes()
        assert np.array(ROWS[0], "<f4").tobytes() not in kept
        assert b"1.5, 2.25" not in kept
    assert logged(client, reply["request_id"], first_row=1, limit=1) == entries[1:2]


def test_features_logits_and_one_point_for_all(start: Start) -> None:
    """Whatever a request brings has a digest; the names of the arrays are part of it."""
    client = start(decision_log="required")
    register(client, network(2), classes=CLASSES)
    digests = set()
    for name in ("features", "logits"):
        width = 2 if name == "logits" else len(decide_width(client))
        reply = decide(client, **{name: [[0.5] * width] * 2})
        entries = logged(client, reply["request_id"])
        assert len(entries) == 2
        assert entries[0]["input_digest"] == entries[1]["input_digest"]
        digests.add(entries[0]["input_digest"])
    assert len(digests) == 2


def decide_width(client: TestClient) -> range:
    """As many numbers as a row of features has."""
    return range(client.get("/models/fraud").json()["versions"][0]["head"]["width"])


def test_it_is_off_unless_it_is_asked_for(fraud: TestClient) -> None:
    """And then says nothing of anybody."""
    reply = decide(fraud, inputs=ROWS)
    time.sleep(0.3)
    assert fraud.get("/decisions", params={"request_id": reply["request_id"]}).json() == []
    refused(fraud.get("/decisions"), 400, "bad-request")
    wrong = {"limit": (0, 1001, "x", 10**4000), "first_row": (-1, 2**31, 2**63), "after": (-1, 2**63, 10**4000)}
    for name, values in wrong.items():
        for value in values:
            said = refused(fraud.get("/decisions", params={"request_id": "r", name: str(value)}), 400, "bad-request")
            assert said.startswith(name)
            assert len(said) < 300


def test_callers_that_chose_the_same_request_id_are_told_apart(start: Start) -> None:
    """Page by page every entry is reached, and one caller's alone where that is asked for."""
    client = start(decision_log="required")
    register(client, network(2), classes=CLASSES)
    for _ in range(2):
        said = client.post("/predict", json={"model": "fraud", "inputs": ROWS}, headers={"X-Request-ID": "case-17"})
        assert said.status_code == 200
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {}
    while page := client.get("/decisions", params={"request_id": "case-17", "limit": 1, **query}).json():
        found += page
        query = {"first_row": page[0]["row"], "after": page[0]["number"]}
    assert [each["row"] for each in found] == [0, 0, 1, 1, 2, 2]
    assert len({each["number"] for each in found}) == 6
    assert logged(client, "case-17", principal="local") == found
    assert client.get("/decisions", params={"request_id": "case-17", "principal": "x"}).json() == []


def test_the_log_out_of_the_store(start: Start, tmp_path: Path) -> None:
    """As CSV and as JSON lines, between two moments, while the server runs."""
    client = start(decision_log="required", decision_key="a secret")
    register(client, network(2), classes='["=clear", "fraud"]')
    reply = decide(client, inputs=ROWS)
    head = b'["x", "float32", [4]]\n'
    want = [hmac.digest(b"a secret", head + np.array(row, "<f4").tobytes(), "sha256").hex() for row in ROWS]

    def export(*options: str) -> Any:
        return CliRunner().invoke(app, ["decisions", "export", "--data", str(tmp_path / "data"), *options])

    table = list(csv.DictReader(io.StringIO(export("--from", "2020-01-01").stdout)))
    lines = [json.loads(line) for line in export("--format", "jsonl").stdout.splitlines()]
    assert [line["input_digest"] for line in lines] == [row["input_digest"] for row in table] == want
    assert [line["request_id"] for line in lines] == [reply["request_id"]] * 3
    assert [line["label"] for line in lines] == [each["label"] for each in reply["predictions"]]
    assert [row["label"] for row in table] == [
        "'=clear" if line["label"] == "=clear" else line["label"] for line in lines
    ]
    assert export("--to", "2020-01-01T00:00+02:00", "--format", "jsonl").stdout == ""
    for options, said in ((("--format", "xml"), "csv or jsonl"), (("--from", "soon"), "--from must be a moment")):
        assert said in str(export(*options).exception)
    slip = CliRunner().invoke(app, ["decisions", "export", "--data", str(tmp_path / "typo")])
    assert (str(slip.exception), slip.stdout) == (f"there is no store in {tmp_path / 'typo'}", "")
    assert not (tmp_path / "typo").exists()


def test_what_is_required_is_kept_before_the_answer(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, on disk; and where it cannot be kept there is no answer, until it can again."""
    client = start(decision_log="required")
    register(client, network(2), classes=CLASSES)
    reply = decide(client, inputs=ROWS[:1])
    database = Database(sqlite_address(tmp_path / "data" / "setpoint.db"))
    assert len(SqlDecisions(database).of_request(DecisionPage(reply["request_id"]), None)) == 1
    database.close()

    def fails(*_: Any) -> None:
        raise StorageFailed("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqlDecisions, "add", fails)
        response = client.post("/predict", json={"model": "fraud", "inputs": ROWS})
        assert refused(response, 503, "storage-failed") == "the disk is full"
    alive(client)
    text = client.get("/metrics").text
    assert "setpoint_decisions_kept_total 2.0" in text
    assert "setpoint_decisions_dropped_total 3.0" in text


class Store:
    """A store that is slow, or fails, as it is told."""

    def __init__(self) -> None:
        self.entries: list[Decision] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def add(self, entries: Iterable[Decision], most_rows: int) -> None:  # noqa: ARG002
        """Keeps entries when the gate opens."""
        self.gate.wait(10)
        if self.fails:
            raise StorageFailed("gone")
        self.entries += entries


def answered(rows: int = 2, request_id: str = "r") -> Answered:
    """An answer on some rows."""
    point = record()
    first = replace(version(), version=1)
    found = answer(np.zeros((rows, 2)), Model("m", {1: first}, (point,), Default(1, "p", 0)), first, "p@0")
    return Answered(request_id, "triage", Rows(inputs={"x": np.zeros((rows, 3), np.float32)}), found)


def wait_for(condition: Any) -> None:
    """Until it holds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer is never held up; it is told once a minute, not once a row."""
    monkeypatch.setattr(module, "MOST_BYTES", 5000)
    store = Store()
    log = DecisionLog(store, "best_effort", 100)  # type: ignore[arg-type]
    store.gate.clear()
    log.start()
    began = time.monotonic()
    assert [log.put(answered()) for _ in range(20)] == [None] * 20
    assert time.monotonic() - began < 1
    store.gate.set()
    log.stop()
    assert len(store.entries) + log.dropped_rows == 40
    assert len(store.entries) == log.kept_rows >= 4
    assert log.dropped_rows >= 20
    assert len(caplog.records) == 1


def test_best_effort_waits_for_a_store_that_comes_back() -> None:
    """What waited is kept then, in order; the last words are kept at the stop."""
    store = Store()
    store.fails = True
    log = DecisionLog(store, "best_effort", 100)  # type: ignore[arg-type]
    log.start()
    log.put(answered(request_id="a"))
    time.sleep(0.3)
    store.fails = False
    wait_for(lambda: log.kept_rows == 2)
    log.put(answered(request_id="b"))
    log.stop()
    assert [entry.request_id for entry in store.entries] == ["a", "a", "b", "b"]
    assert log.dropped_rows == 0


def test_required_refuses_when_it_cannot_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than answer unlogged; those that wait learn what became of them."""
    monkeypatch.setattr(module, "MOST_BYTES", 3000)
    store = Store()
    log = DecisionLog(store, "required", 100)  # type: ignore[arg-type]
    store.gate.clear()
    log.start()
    first, second = log.put(answered()), log.put(answered())
    assert first is not None
    assert second is not None
    with pytest.raises(Busy, match="cannot keep up"):
        log.put(answered())
    assert not first.done()
    store.gate.set()
    first.result(5)
    second.result(5)
    store.fails = True
    third = log.put(answered())
    assert third is not None
    with pytest.raises(StorageFailed, match="gone"):
        third.result(5)
    log.stop()


@pytest.mark.parametrize("mode", ["best_effort", "required"])
def test_a_store_that_fails_halfway_has_neither_half_nor_twice(
    tmp_path: Path, mode: Literal["best_effort", "required"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is tried again is kept once; what is refused is not kept at all."""
    database = Database(sqlite_address(tmp_path / "setpoint.db"))
    store, made, tries = SqlDecisions(database), module._entries, iter(range(100))

    def breaks(answered: Answered, key: bytes | None) -> Iterator[Decision]:
        fails = next(tries) == 0
        for entry in made(answered, key):
            if fails and entry.row == 7_000:
                raise StorageFailed("locked")
            yield entry

    monkeypatch.setattr(module, "_entries", breaks)
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    log = DecisionLog(store, mode, 100_000)
    log.start()
    kept = log.put(answered(12_000))
    if kept is None:
        wait_for(lambda: log.kept_rows == 12_000)
    else:
        with pytest.raises(StorageFailed, match="locked"):
            kept.result(20)
    log.stop()
    rows = [entry.row for entry in store.between(None, None)]
    database.close()
    assert rows == ([] if kept else list(range(12_000)))


def test_an_answer_that_waited_in_vain_leaves_no_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the store does not take longer than the next one waits; that one is kept and answered."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    database = Database(sqlite_address(tmp_path / "setpoint.db"))
    store = SqlDecisions(database)
    other = sqlite3.connect(tmp_path / "setpoint.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log = DecisionLog(store, "required", 100_000)
    log.start()
    kept = log.put(answered(10, "late"))
    assert kept is not None
    with pytest.raises(StorageFailed, match="nothing is answered or kept"):
        wait_until_kept(kept)
    other.execute("ROLLBACK")
    other.close()
    kept = log.put(answered(10, "next"))
    assert kept is not None
    kept.result(20)
    log.stop()
    found = {entry.request_id for entry in store.between(None, None)}
    database.close()
    assert found == {"next"}
    assert (log.kept_rows, log.dropped_rows) == (10, 10)


def test_an_answer_is_not_refused_while_its_entries_are_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for what becomes of them, however long it has waited; not for ever."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    kept = answered().kept
    assert kept.set_running_or_notify_cancel()
    threading.Timer(0.3, kept.set_result, [None]).start()
    wait_until_kept(kept)
    monkeypatch.setattr(module, "_KEEPING_S", 0.1)
    kept = answered().kept
    assert kept.set_running_or_notify_cancel()
    with pytest.raises(StorageFailed, match="may have kept"):
        wait_until_kept(kept)


def test_a_large_answer_is_kept_whole() -> None:
    """In one step of the store."""
    store = Store()
    log = DecisionLog(store, "required", 100_000)  # type: ignore[arg-type]
    log.start()
    kept = log.put(answered(12_000))
    assert kept is not None
    kept.result(20)
    assert [entry.row for entry in store.entries] == list(range(12_000))
    log.stop()


def test_a_digest_is_of_the_row_alone() -> None:
    """Not of its place, its memory, or its neighbours; every value, name and type counts."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 6)).astype(np.float32)
    whole = digest_rows({"x": table})
    assert [digest_rows({"x": row[None]})[0] for row in table] == whole
    assert digest_rows({"x": np.asfortranarray(table)}) == whole
    assert digest_rows({"x": table.astype(">f4")}) == whole
    assert digest_rows({"y": table})[0] != whole[0]
    assert digest_rows({"x": table.astype(np.float64)})[0] != whole[0]
    assert digest_rows({"x": table.reshape(50, 2, 3)})[0] != whole[0]
    assert digest_rows({"x": table}, b"k")[0] != whole[0]
    texts = {"s": np.array([["a", "bc"], ["ab", "c"]], dtype=object), "x": table[:2]}
    assert len(set(digest_rows(texts))) == 2
    assert digest_rows({"x": np.array([[np.nan]], np.float32)}) == digest_rows({"x": np.array([[np.nan]], np.float32)})
    assert len(set(whole)) == 50
