"""Models that are registered by their classes alone: everything but `inputs` and `features`."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from calibrate.errors import InputError
from service.cli import app
from tests.models import WIDTH, network
from tests.servers import running
from tests.service.conftest import Start, refused, refused_v2, register
from tests.service.oip.ask import infer, read, tensor

CLASSES = ["alive", "died"]
ALONE = "model 'risk' is registered by its classes alone: send logits or probabilities"


def simulated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Margins, and labels that they predict: the log-odds of dying are the margin."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(-2, 1.5, rows)
    return margins, (rng.random(rows) < 1 / (1 + np.exp(-margins))).astype(int)


def by_classes(client: TestClient, **fields: object) -> dict[str, object]:
    """Registers the model `risk` as JSON and gives the answer."""
    response = client.post("/models", json={"name": "risk", "classes": CLASSES, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


def fitted(client: TestClient, **spec: object) -> dict[str, object]:
    """A point of `risk`, calibrated on 400 margins as logits."""
    margins, labels = simulated(400)
    data = {"logits": margins.tolist(), "labels": labels.tolist()}
    asked = {"model": "risk", "name": "f1", "metric": "f1", "search": "exact", **spec, "data": data}
    response = client.post("/calibrate", json=asked)
    assert response.status_code == 201, response.text
    return dict(response.json())


def best_cut(margins: np.ndarray, labels: np.ndarray) -> float:
    """The cut of largest F1 by trying all of them, midway between neighbours; the highest of equal ones."""
    edges = np.unique(margins)
    cuts = np.concatenate([(edges[1:] + edges[:-1]) / 2, [edges[0] - 1]])
    positives = labels.sum()
    f1 = [2 * labels[margins > cut].sum() / ((margins > cut).sum() + positives) for cut in cuts]
    return float(max(cuts[np.isclose(f1, max(f1))]))


def test_a_model_is_registered_by_its_classes_alone(client: TestClient) -> None:
    """As JSON and as a form without a file; the digest is that of the classes, whatever the name."""
    reply = by_classes(client, prior=[0.9, 0.1])
    assert (reply["kind"], reply["model_version"], reply["is_default"]) == ("scores", 1, True)
    assert (reply["inputs"], reply["head"], reply["output"], reply["output_kind"]) == ([], None, None, None)
    assert (reply["provider"], reply["size_bytes"], reply["prior"]) == (None, 0, [0.9, 0.1])
    assert reply["digest"] == hashlib.sha256(b'{"classes":["alive","died"],"kind":"scores"}').hexdigest()
    form = client.post("/models", data={"name": "other", "classes": json.dumps(CLASSES)}, files={"x": b""})
    assert "takes the files file and the texts" in refused(form, 400, "bad-request")
    form = client.post("/models", files={"name": (None, "other"), "classes": (None, json.dumps(CLASSES))})
    assert form.status_code == 201, form.text
    assert form.json()["digest"] == reply["digest"]
    assert client.get("/models/risk").json()["versions"] == [reply]
    assert client.get("/health/ready").json() == {"status": "ok", "reasons": [], "providers": {}}


def test_what_cannot_be_registered_says_what_is_wanted(client: TestClient) -> None:
    """Without file and classes, with what only a file has, with bad classes and priors, and too many of them."""

    def form(**fields: str) -> str:
        files = {name: (None, value) for name, value in {"name": "risk", **fields}.items()}
        return refused(client.post("/models", files=files), 400, "bad-request")

    assert "by its classes alone" in form()
    assert form(classes='["a", "b"]', output="z") == ("output is about an ONNX file; the form has no file 'file'")
    for body, status, kind, text in (
        ({"name": "risk"}, 400, "bad-request", "got JSON without classes"),
        ({"name": "risk", "classes": ["a"]}, 422, "bad-point", "at least 2 classes"),
        ({"name": "risk", "classes": ["a", "a"]}, 422, "bad-point", "'a' comes more than once"),
        ({"name": "risk", "classes": ["a", 1]}, 400, "bad-request", "classes.1"),
        ({"name": "a/b", "classes": CLASSES}, 422, "bad-name", "the name of a model"),
        ({"name": "stats", "classes": CLASSES}, 422, "bad-name", "/v2/models/stats"),
        ({"name": "risk", "classes": CLASSES, "prior": [1.0, 0.0]}, 422, "bad-prior", "died"),
        ({"name": "risk", "classes": CLASSES, "file": "x"}, 400, "bad-request", "file"),
        ({"name": "risk", "classes": [str(i) for i in range(10_001)]}, 422, "bad-model", "at most 10000 classes"),
    ):
        assert text in refused(client.post("/models", json=body), status, kind)
    assert client.get("/models").json() == []


def test_scores_are_calibrated_and_decided(client: TestClient) -> None:
    """The cut is the best one by brute force; decisions on new logits are those of that cut; the curve is there."""
    by_classes(client)
    point = fitted(client)
    margins, labels = simulated(400)
    cut = best_cut(margins, labels)
    assert np.diff(point["point"]["bias"])[0] == pytest.approx(-cut, abs=1e-9)  # type: ignore[index]
    assert point["model_digest"] == client.get("/models/risk").json()["versions"][0]["digest"]
    new, _ = simulated(50, seed=1)
    asked = {"model": "risk", "logits": new.tolist(), "operating_point": "f1", "compare": ["argmax"]}
    reply = client.post("/predict", json=asked).json()
    assert [row["label"] for row in reply["predictions"]] == [CLASSES[int(margin > cut)] for margin in new]
    assert reply["compare"]["argmax"] == [CLASSES[int(margin > 0)] for margin in new]
    curve = client.get("/models/risk/operating-points/f1/curve").json()
    assert curve["rows"] == 400
    assert curve["positive"] == "died"


@pytest.mark.parametrize("rows", ["inputs", "features"])
def test_what_has_no_model_to_run_is_refused_in_a_sentence(client: TestClient, rows: str) -> None:
    """Wherever rows come in: predict as JSON and packed, calibrate, and `/v2`."""
    by_classes(client)
    asked = {"model": "risk", rows: [[1.0, 2.0]]}
    assert refused(client.post("/predict", json=asked), 400, "bad-request") == ALONE
    asked["operating_point"] = ["argmax"]
    assert refused(client.post("/predict", json=asked), 400, "bad-request") == ALONE
    from io import BytesIO

    file = BytesIO()
    np.save(file, np.zeros((1, 2), dtype=np.float32))
    packed = client.post(f"/predict?model=risk&rows={rows}", content=file.getvalue())
    assert refused(packed, 400, "bad-request") == ALONE
    data = {rows: [[1.0, 2.0], [0.0, 1.0]], "labels": CLASSES}
    spec = {"model": "risk", "name": "p", "metric": "f1", "data": data}
    assert refused(client.post("/calibrate", json=spec), 400, "bad-request") == ALONE
    text = refused_v2(infer(client, tensor(rows, [[1.0, 2.0]]), path="/v2/models/risk/infer"), 400)
    assert (
        text
        == "model 'risk' is registered by its classes alone: send one input, 'logits' or 'probabilities' or 'margins'"
    )


def test_v2_describes_logits_and_decides_them(client: TestClient) -> None:
    """Metadata, configuration, readiness and load; the same decisions as the margins' signs."""
    by_classes(client)
    said = client.get("/v2/models/risk").json()
    assert said["platform"] == "setpoint_scores"
    assert said["inputs"] == [{"name": "logits", "datatype": "FP64", "shape": [-1, 2]}]
    assert client.get("/v2/models/risk/config").json()["input"] == [
        {"name": "logits", "data_type": "TYPE_FP64", "dims": [2]}
    ]
    assert client.get("/v2/models/risk/ready").status_code == 200
    assert client.post("/v2/repository/models/risk/load").status_code == 200
    assert client.post("/v2/repository/index").json() == [
        {"name": "risk", "version": "1", "state": "READY", "reason": ""}
    ]
    logits = np.column_stack([np.zeros(20), simulated(20)[0]])
    for datatype in ("FP64", "FP32"):
        _, found = read(infer(client, tensor("logits", logits, datatype), path="/v2/models/risk/infer"))
        assert [CLASSES.index(label) for label in found["label"]] == (logits[:, 1] > 0).astype(int).tolist()
    response = client.post(
        "/v2/models/risk/infer", content=b"\0" * 16, headers={"inference-header-content-length": "0"}
    )
    assert "send one input, 'logits'" in refused_v2(response, 400)


def test_the_life_of_a_point_on_scores(start: Start) -> None:
    """Shadow, approval, default, rollback, alias; decisions are logged and the trail has every step."""
    client = start(decision_log="required")
    by_classes(client)
    fitted(client)
    fitted(client, name="gm", metric="g_mean")
    at = "/models/risk/operating-points"
    assert client.post(f"{at}/gm@1/shadow", json={"reason": "try"}).status_code == 200
    why = {"model_version": 1, "operating_point": "f1", "reason": "better", "override": True}
    assert client.put("/models/risk/default", json=why).status_code == 200
    new, _ = simulated(200, seed=2)
    answered = client.post("/predict", json={"model": "risk", "logits": new.tolist()})
    assert answered.json()["operating_point"] == "f1@1"
    compared = {"model": "risk", "logits": new.tolist(), "compare": ["gm@1"]}
    other = client.post("/predict", json=compared).json()
    differ = sum(
        row["label"] != shadow for row, shadow in zip(other["predictions"], other["compare"]["gm@1"], strict=True)
    )
    counted = client.get(f"{at}/gm@1/shadow").json()
    assert (counted["rows"], counted["differ"]) == (400, 2 * differ)
    assert differ > 0
    logged = client.get("/decisions", params={"request_id": answered.headers["x-request-id"]}).json()
    assert [entry["label"] for entry in logged] == [row["label"] for row in answered.json()["predictions"]]
    assert (
        client.post("/models/risk/default/rollback", json={"reason": "worse"}).json()["operating_point"] == "argmax@1"
    )
    alias = {"operating_point": "f1@1", "reason": "terminals"}
    assert client.put("/models/risk/aliases/live", json=alias).status_code == 200
    actions = [entry["action"] for entry in client.get("/audit").json()]
    assert actions == ["set alias", "roll back", "set default", "shadow", "publish", "publish", "register"]


def test_a_model_moves_from_scores_to_a_file_and_back(start: Start) -> None:
    """A later version may be of the other kind; each takes what it can, also after a restart."""
    client = start()
    by_classes(client)
    reply = register(client, network(2), "risk", classes=json.dumps(CLASSES))
    assert (reply["model_version"], reply["kind"], reply["is_default"]) == (2, "onnx", False)
    asked = {"model": "risk", "inputs": [[0.0] * WIDTH]}
    assert refused(client.post("/predict", json=asked), 400, "bad-request") == ALONE
    move = {"model_version": 2, "operating_point": "argmax@2", "reason": "the model came"}
    assert client.put("/models/risk/default", json=move).status_code == 200
    assert client.post("/predict", json=asked).status_code == 200
    assert by_classes(client)["model_version"] == 3
    back = {"model_version": 3, "operating_point": "argmax@3", "reason": "scores again"}
    assert client.put("/models/risk/default", json=back).status_code == 200
    client.close()
    again = start()
    assert again.get("/health/ready").json() == {"status": "ok", "reasons": [], "providers": {}}
    assert refused(again.post("/predict", json=asked), 400, "bad-request") == ALONE
    assert again.post("/predict", json={"model": "risk", "logits": [1.0]}).json()["predictions"][0]["label"] == "died"
    assert again.post("/predict", json={**asked, "model_version": 2, "operating_point": "argmax@2"}).status_code == 200


def test_with_a_limit_of_memory_a_model_without_a_file_is_no_load(start: Start) -> None:
    """No version is let go of for it, and it is ready."""
    client = start(models_bytes=1)
    by_classes(client)
    assert client.get("/health/ready").json()["status"] == "ok"
    assert client.post("/predict", json={"model": "risk", "logits": [[0.0, -1.0]]}).status_code == 200


def test_the_command_line_registers_by_classes(tmp_path: Path) -> None:
    """On a real server; what is left out or cannot go without a file is named."""

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["publish", "--model", "risk", *arguments, "--server", server.address])
        if isinstance(done.exception, Exception):
            raise done.exception
        return done.stdout

    with running(tmp_path) as server:
        assert said("--classes", "alive,died", "--prior", "0.9,0.1") == (
            "registered version 1 of model 'risk', by its classes alone, the default\n"
        )
        assert server.get("/models/risk")["versions"][0]["prior"] == [0.9, 0.1]
        with pytest.raises(InputError, match=r"wanted a FILE, .* or --classes"):
            said()
        with pytest.raises(InputError, match="--output-kind needs a FILE"):
            said("--classes", "a,b", "--output-kind", "logits")
