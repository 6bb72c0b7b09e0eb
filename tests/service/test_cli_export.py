"""`setpoint export`: points out of files, into one file that decides."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from calibrate import OperatingPoint
from tests.models import WIDTH, network
from tests.service.test_cli import setpoint


def test_export_writes_points_into_the_graph(tmp_path: Path) -> None:
    """By the names of their files, with a default; two files of one name are refused."""
    (tmp_path / "model.onnx").write_bytes(network(2))
    biases = {"f1": 1.0, "low": -1.0}
    points = {name: OperatingPoint(("a", "b"), np.ones(2), np.array([0.0, bias])) for name, bias in biases.items()}
    for name, point in points.items():
        point.save(tmp_path / f"{name}.json")
    given = [part for name in points for part in ("--point", tmp_path / f"{name}.json")]
    done = setpoint("export", tmp_path / "model.onnx", *given, "--default", "low", "--out", tmp_path / "scored.onnx")
    assert "operating_point is 0 f1, 1 low (the default)" in done.stdout
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(tmp_path / "scored.onnx", options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)
    for fed, name in (({}, "low"), ({"operating_point": np.zeros(40, np.int64)}, "f1")):
        label, logits = session.run(["label", "logits"], {"x": x, **fed})
        assert np.array_equal(label, points[name].decide(logits))
    (tmp_path / "other").mkdir()
    points["f1"].save(tmp_path / "other" / "f1.json")
    twice = setpoint("export", tmp_path / "model.onnx", *given, "--point", tmp_path / "other" / "f1.json",
                     "--out", tmp_path / "x.onnx", code=1)  # fmt: skip
    assert "whose names must differ" in twice.stderr
    assert not (tmp_path / "x.onnx").exists()
