"""The demo, as `make demo ONCE=1` runs it: the whole path on real patients."""

import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import httpx2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from calibrate import fit, read_cache
from calibrate.io.graph import read_model
from calibrate.logits import to_columns
from service.demo.__main__ import POINTS, RUNNING, hand_over, publish, refuse_while_running
from service.demo.patients import COLUMNS, read_patients, split
from tests.journeys.conftest import Demo
from tests.servers import Server, free_port, running


def test_it_tells_the_whole_path(demo: Demo) -> None:
    """F1 and G-mean of the plain model and of every method on held-out rows, and decisions that agree."""
    for text in ("3163 patients, 151", "plain model", "bias adjustment (decimal)", "bias adjustment (exact)",
                 "a page to sign", "logit adjustment", "prior threshold", "head of 16 features found",
                 "the same as in Python: True", "validation: 2373 of 2373 served decisions",
                 "as ONCE=1 asks"):  # fmt: skip
        assert text in demo.said, text
    assert "/console" not in demo.said  # the server is gone by then


def test_it_ends_with_what_to_open_and_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    """At the port that it found, and with null for a missing value."""
    hand_over(8600, 8000, np.array([72, np.nan]))
    said = capsys.readouterr().out
    assert "http://127.0.0.1:8600/console" in said
    assert """-d '{"model": "thyroid", "inputs": [[72, null]], "operating_point": "balanced"}'""" in said
    assert "runs on port 8600 (not 8000, which was taken)" in said


def test_it_is_refused_while_an_earlier_one_runs(tmp_path: Path, server: Server) -> None:
    """And nothing is touched."""
    (tmp_path / "setpoint-demo").mkdir()
    mark = tmp_path / RUNNING
    mark.write_text(server.address)
    command = [sys.executable, "-m", "service.demo", "--once", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"an earlier demo is still running on {server.address}" in done.stderr
    assert [path.name for path in (tmp_path / "setpoint-demo").iterdir()] == [mark.name]


def test_the_mark_of_a_dead_server_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a power cut."""
    monkeypatch.chdir(tmp_path)
    RUNNING.parent.mkdir()
    RUNNING.write_text(f"http://127.0.0.1:{free_port()}")
    refuse_while_running()


def test_a_second_run_keeps_what_is_there(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's models, and its own where it is the same; another model is the next version, and the default."""
    monkeypatch.chdir(demo.folder)
    shutil.copytree(demo.made / "server", tmp_path / "data")
    model = (demo.made / "model.onnx").read_bytes()
    parts = {name: read_cache(demo.made / f"{name}.npz") for name in ("train", "validation", "test")}
    results = {
        name: fit(parts["validation"], train=parts["train"], metric=metric, evidence=parts["test"])
        for name, metric in POINTS.items()
    }
    with running(tmp_path) as server, httpx2.Client(base_url=server.address, timeout=60) as client:
        client.post("/models", data={"name": "mine"}, files={"file": ("m.onnx", model)}).raise_for_status()
        before = server.get("/models")
        assert publish(client, model, results) == 1
        assert server.get("/models") == before
        other = onnx.load_model_from_string(model)
        other.producer_name = "another day"
        assert publish(client, other.SerializeToString(), results) == 2
        shown = server.get("/models/thyroid")
        assert shown["default"]["model_version"] == 2
        assert len(shown["operating_points"]) == 8
        assert server.get("/models/mine") in before


def test_it_leaves_a_model_caches_points_and_a_picture(demo: Demo) -> None:
    """Everything that the README goes on with."""
    folder = demo.made
    assert {path.name for path in folder.iterdir()} >= {
        "model.onnx", "train.npz", "validation.npz", "test.npz", "best-f1.json", "screening.json", "balanced.json",
        "points.png", "server.log", "server",
    }  # fmt: skip
    assert (folder / "points.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "balanced.json").read_text())["metric"] == "g_mean"


def test_the_served_graph_computes_the_cached_features(demo: Demo) -> None:
    """Preprocessing included: from the raw rows, missing values and all, to the features that torch cached."""
    folder = demo.made
    graph = read_model((folder / "model.onnx").read_bytes())
    assert graph.head is not None
    session = ort.InferenceSession(graph.data, providers=["CPUExecutionProvider"])
    parts = split(read_patients(), (0.5, 0.25, 0.25), np.random.default_rng(0))
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        cache = read_cache(folder / f"{name}.npz")
        assert cache.features is not None
        assert cache.weight is not None
        assert np.array_equal(cache.labels, part.labels)
        logits, features = session.run([graph.head.logits, graph.head.features], {"patient": part.rows})
        assert np.allclose(features, cache.features, atol=1e-4)
        assert np.allclose(to_columns(logits), cache.logits, atol=1e-4)
        assert np.allclose(graph.head.weight, cache.weight)


def test_no_patient_is_on_both_sides_of_a_split() -> None:
    """Not even another one with the same values; every row is somewhere once, classes in proportion."""
    patients = read_patients()
    assert patients.rows.shape == (3163, len(COLUMNS)) == (3163, 19)
    parts = split(patients, (0.5, 0.25, 0.25), np.random.default_rng(3))
    assert sum(len(part.labels) for part in parts) == 3163
    assert sum(part.labels.sum() for part in parts) == 151
    rows = [{row.tobytes() for row in part.rows} for part in parts]
    for one, other in combinations(rows, 2):
        assert not one & other
    assert [part.labels.sum() for part in parts] == pytest.approx([75.5, 37.75, 37.75], abs=2)
