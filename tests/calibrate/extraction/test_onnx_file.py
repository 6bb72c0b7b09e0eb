"""ONNX files: the graph's head and features, its labels and description, and its inputs by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from calibrate import FeatureCache, extract
from calibrate.errors import BadModel, NoHead
from tests import models

X = np.random.default_rng(0).normal(size=(30, models.WIDTH)).astype(np.float32)
Y = np.arange(30) % 3


def got(model: Any, data: Any, **options: Any) -> FeatureCache:
    """The cache, in memory."""
    cache = extract(model, data, **options)
    assert isinstance(cache, FeatureCache)
    return cache


def test_a_graph_is_cut_at_its_head(tmp_path: Path) -> None:
    """Features and logits are those of numpy; classes and prior are the graph's own; the digest is of the file."""
    described = {"setpoint": json.dumps({"classes": ["a", "b", "c"], "prior": [0.5, 0.3, 0.2]})}
    data = models.network(3, metadata=described)
    file = tmp_path / "model.onnx"
    file.write_bytes(data)
    features, logits = models.forward(models.weights(3), X)
    for model in (data, file, str(file)):
        for given in ((X, Y), {"x": X, "labels": Y}, {"x": X.astype(np.float64), "labels": Y}):
            cache = got(model, given, batch_rows=7)
            assert np.allclose(cache.features, features, atol=1e-6)  # type: ignore[arg-type]
            assert np.allclose(cache.logits, logits, atol=1e-5)
            assert cache.classes == ("a", "b", "c")
            assert cache.prior is not None
            assert np.allclose(cache.prior, [0.5, 0.3, 0.2])


def test_models_of_scikit_learn() -> None:
    """Labels are the very ones that the model was trained with; a linear model's features are its inputs."""
    y = np.array([7, 3, 5])[Y]
    linear = LogisticRegression().fit(X, y)
    cache = got(to_onnx(linear, X[:1], options={"zipmap": False}).SerializeToString(), (X, y))
    assert np.array_equal(cache.features, X)  # type: ignore[arg-type]
    assert np.allclose(cache.logits, linear.decision_function(X), atol=1e-4)
    assert cache.classes == ("3", "5", "7")
    assert [cache.classes[i] for i in cache.labels] == y.astype(str).tolist()
    forest = RandomForestClassifier(5, random_state=0).fit(X, y)
    data = to_onnx(forest, X[:1], options={"zipmap": False}).SerializeToString()
    with pytest.raises(NoHead):
        extract(data, (X, y))
    cache = got(data, (X, y), output="probabilities", output_kind="probabilities")
    assert cache.features is None
    assert np.allclose(np.exp(cache.logits), forest.predict_proba(X), atol=1e-5)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    """Inputs by name and shape; a file that is no model."""
    data = models.network(3)
    with pytest.raises(BadModel, match=r"batch 0: the model takes x; got y, without x"):
        extract(data, {"y": X, "labels": Y})
    with pytest.raises(BadModel, match=r"batch 0: the model could not be run on x: float32 \(4, 3\)"):
        extract(data, (X[:, :3], Y))
    with pytest.raises(BadModel, match="not an ONNX"):
        extract(b"nonsense", (X, Y))
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "none.onnx", (X, Y))
