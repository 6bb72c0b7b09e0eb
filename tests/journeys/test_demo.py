"""The demo, as `make demo ONCE=1` runs it: the whole path on real patients."""

import json
from itertools import combinations

import numpy as np
import onnxruntime as ort
import pytest

from calibrate import read_cache
from calibrate.io.graph import read_model
from calibrate.logits import to_columns
from service.demo.patients import COLUMNS, read_patients, split
from tests.journeys.conftest import Demo


def test_it_tells_the_whole_path(demo: Demo) -> None:
    """F1 and G-mean of the plain model and of every method on held-out rows, and decisions that agree."""
    for text in ("3163 patients, 151", "plain model", "bias adjustment (decimal)", "bias adjustment (exact)",
                 "logit adjustment", "prior threshold", "head of 16 features found", "the same as in Python: True",
                 "validation: 2373 of 2373 served decisions", "curl -s http://127.0.0.1:", "/console"):  # fmt: skip
        assert text in demo.said, text


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
