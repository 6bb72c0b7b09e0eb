"""Model files that others published, each registered, calibrated and exported, or refused with the reason.

The files are not part of the project: SETPOINT_WILD_MODELS names a folder with them, as the wheels of
rapidocr-onnxruntime, magika, brainmaze-eeg-models and silero-vad unpack, in folders of any depth.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from starlette.testclient import TestClient

import calibrate
from service.main import make_app
from service.settings import Settings

FOLDER = os.environ.get("SETPOINT_WILD_MODELS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="SETPOINT_WILD_MODELS names no folder of published models")
RNG = np.random.default_rng(8)
# Two classes behind MatMul and Add with weights in Constant nodes, and 214 behind a softmax in small operators.
SERVED: dict[str, tuple[int, int, Any]] = {
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": (2, 200, RNG.normal(size=(24, 3, 32, 64)).astype(np.float32)),
    "model.onnx": (214, 512, RNG.integers(0, 257, (24, 2048)).astype(np.int32)),
}
REFUSED = {
    "ch_PP-OCRv4_det_infer.onnx": "name an output and its output_kind",
    "ch_PP-OCRv4_rec_infer.onnx": "(?, ?, 6625), wanted one line of logits for each row",
    "modelA_paper.onnx": "(?, ?, 4), wanted one line of logits for each row",
    "spindle-detector-eeg.onnx": "(?, 30, 3), wanted one line of logits for each row",
    "silero_vad.onnx": "not so 'state' (2, ?, 128) and 'sr' ()",
    "silero_vad_16k_sequence.onnx": "not so 'h' (1, 1, 128) and 'c' (1, 1, 128)",
    "silero_vad_openvino_16k.onnx": "takes 1 rows and no other number",
}


def path(name: str) -> Path:
    """The file of that name."""
    found = sorted(Path(FOLDER or "").rglob(name))
    if not found:
        pytest.skip(f"{name} is not in {FOLDER}")
    return found[0]


@pytest.fixture
def client(tmp_path: Path) -> Any:
    """A service without models."""
    with TestClient(make_app(Settings(data=tmp_path)), base_url="http://127.0.0.1:8000") as started:
        yield started


@pytest.mark.parametrize("name", SERVED)
def test_a_published_classifier_is_registered_calibrated_and_exported(client: TestClient, name: str) -> None:
    """On synthetic labels of its features; the exported file decides inputs as the service does."""
    k, width, inputs = SERVED[name]
    source = path(name).read_bytes()
    registered = client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", source)})
    assert registered.status_code == 201, registered.text
    assert registered.json()["head"]["width"] == width
    features = np.abs(RNG.normal(size=(40 * k if k < 10 else 6 * k, width))).astype(np.float32)
    said = client.post("/predict", json={"model": "m", "features": features.tolist()}).json()
    p = np.array([row["probabilities"] for row in said["predictions"]])
    labels = np.where(RNG.random(len(p)) < 0.3, RNG.integers(0, k, len(p)), (p / p.mean(axis=0)).argmax(axis=1))
    labels[:k] = np.arange(k)  # every class has a row
    spec = {"model": "m", "name": "tuned", "metric": "balanced_accuracy", "method": "prior_threshold",
            "prior": (np.bincount(labels, minlength=k) / len(labels)).tolist()}  # fmt: skip
    data = {"features": features.tolist(), "labels": labels.tolist()}
    fitted = client.post("/calibrate", json={**spec, "data": data})
    assert fitted.status_code == 201, fitted.text
    record = client.get("/models/m/operating-points/tuned").json()
    point = calibrate.OperatingPoint.from_dict(record["point"])

    scored = calibrate.export(source, {"argmax": calibrate.OperatingPoint.argmax(point.classes), "tuned": point})
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(scored, options, providers=["CPUExecutionProvider"])
    index = np.arange(len(inputs)) % 2
    label, logits = session.run(["label", "logits"], {session.get_inputs()[0].name: inputs, "operating_point": index})
    assert np.array_equal(label[index == 1], point.decide(logits[index == 1]))
    asked = ["tuned" if one else "argmax" for one in index]
    body = {"model": "m", "inputs": inputs.tolist(), "operating_point": asked}
    served = client.post("/predict", content=json.dumps(body), headers={"content-type": "application/json"})
    assert served.status_code == 200, served.text
    assert [int(row["label"]) for row in served.json()["predictions"]] == label.tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_a_published_file_that_takes_no_rows_is_refused_with_the_reason(client: TestClient, name: str) -> None:
    """And nothing is kept."""
    answer = client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", path(name).read_bytes())})
    assert answer.status_code == 422
    assert REFUSED[name] in answer.json()["detail"]
    assert client.get("/models").json() == []
