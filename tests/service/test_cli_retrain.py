"""`setpoint retrain`: caches and a model in, a model version with evidence out."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from calibrate import feature_cache, read_cache, write_cache
from calibrate.io.description import Description, read_description
from calibrate.io.graph import read_model
from tests.models import forward, network, weights
from tests.service.test_cli import setpoint


def test_the_new_version_is_written_with_its_evidence(tmp_path: Path) -> None:
    """The model runs with the new head, knows its prior, and gives the logits of the written cache."""
    rng, head = np.random.default_rng(0), weights(3)
    description = Description(classes=("a", "b", "c"), prior=(0.7, 0.2, 0.1), notes=("kept",)).to_metadata()
    (tmp_path / "model.onnx").write_bytes(network(3, softmax=False, metadata=description))
    inputs = {}
    for name in ("train", "val"):
        x = rng.normal(size=(300, 4)).astype(np.float32)
        features, _ = forward(head, x)
        labels = np.digitize(features[:, 0] + 0.3 * rng.normal(size=300), [1.0, 2.0])
        labels[:3], inputs[name] = range(3), x
        cache = feature_cache(
            features=features, labels=labels, weight=head["w2"], bias=head["b2"], classes=["a", "b", "c"]
        )
        write_cache(tmp_path / f"{name}.npz", cache)
    arguments: list[str | Path] = ["retrain", tmp_path / "train.npz", "--validation", tmp_path / "val.npz"]
    arguments += ["--method", "nearest_class_mean", "--model", tmp_path / "model.onnx"]
    arguments += ["--out", tmp_path / "new.onnx", "--out-cache", tmp_path / "new.npz"]
    said = json.loads(setpoint(*arguments, "--json").stdout)
    new, val = (tmp_path / "new.onnx").read_bytes(), read_cache(tmp_path / "new.npz")
    (got,) = onnxruntime.InferenceSession(new).run(None, {"x": inputs["val"]})
    assert np.allclose(got, val.logits, rtol=1e-4, atol=1e-4)
    told = read_description(read_model(new).metadata)
    assert np.allclose(told.prior or (), 1 / 3)
    assert told.notes == ("kept",)
    accuracy = (got.argmax(axis=1) == val.labels).mean()
    assert said["evidence"]["accuracy"]["value"] == np.float64(accuracy)
    assert said["before"]["balanced_accuracy"]["value"] < said["evidence"]["balanced_accuracy"]["value"]
    table = setpoint(*arguments).stdout
    assert "old head" in table
    assert f"saved to {tmp_path / 'new.onnx'}"[:60] in table.replace("\n", "")
    refused = setpoint("retrain", tmp_path / "train.npz", "--out", tmp_path / "new.onnx", code=1)
    assert "--model and --out belong together" in refused.stderr
