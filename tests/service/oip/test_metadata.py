"""What the server says of itself and its models is true, and as the OpenAPI document describes it."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter
from starlette.testclient import TestClient

from service.domain import Principal
from service.ports import Ran
from service.web.doorway import Doorway
from service.web.oip import schemas
from service.web.oip.statistics import MOST_BATCH_SIZES, Statistics, Times
from tests.models import WIDTH, forest, network
from tests.service.conftest import CLASSES, Start, publish, refused_v2, register
from tests.service.oip.ask import INFER, infer, read, tensor

X = np.zeros((3, WIDTH), dtype=np.float32)


def test_every_answer_is_as_described(fraud: TestClient) -> None:
    """Nothing more and nothing less than the type says."""
    infer(fraud, tensor("x", X))
    kinds: dict[str, type[BaseModel]] = {
        "/v2": schemas.OipServer,
        "/v2/health/live": schemas.OipLive,
        "/v2/health/ready": schemas.OipReady,
        "/v2/models": schemas.OipModels,
        "/v2/models/stats": schemas.OipStatistics,
    }
    for base in ("/v2/models/fraud", "/v2/models/fraud/versions/1"):
        kinds |= {base: schemas.OipModel, f"{base}/ready": schemas.OipReady, f"{base}/config": schemas.OipConfig}
        kinds[f"{base}/stats"] = schemas.OipStatistics
    for path, kind in kinds.items():
        reply = fraud.get(path).json()
        assert json.loads(kind.model_validate(reply).model_dump_json(exclude_unset=True)) == reply, path
    assert fraud.get("/v2/models/fraud").json() == fraud.get("/v2/models/fraud/versions/1").json()
    asked = {"id": "1", "inputs": [tensor("x", X)[0]], "parameters": {"operating_point": "argmax"}}
    schemas.OipRequest.model_validate(asked)
    reply = fraud.post(INFER, json=asked).json()
    assert schemas.OipReply.model_validate(reply).model_dump(exclude_unset=True) == reply
    index = fraud.post("/v2/repository/index").json()
    told = TypeAdapter(list[schemas.OipIndexItem]).validate_python(index)
    assert [item.model_dump() for item in told] == index
    refused_v2(fraud.get("/v2/models/x"), 404)


def test_outputs_are_of_the_types_and_shapes_that_the_metadata_tells(client: TestClient) -> None:
    """Free where there is a -1."""
    register(client, network(3), "fraud")
    said, _ = read(infer(client, tensor("x", X), parameters={"binary_data_output": True}))
    for told, output in zip(client.get("/v2/models/fraud").json()["outputs"], said["outputs"], strict=True):
        assert (told["name"], told["datatype"]) == (output["name"], output["datatype"])
        assert [-1 if i == 0 else length for i, length in enumerate(output["shape"])] == told["shape"]


def test_the_configuration_leaves_out_the_axis_of_rows(fraud: TestClient) -> None:
    """As Triton's does where there is a largest batch."""
    publish(fraud, "p", 1.0)
    config = fraud.get("/v2/models/fraud/config").json()
    assert config["max_batch_size"] == 100_000
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    outputs = {output["name"]: output for output in config["output"]}
    assert outputs["probabilities"] == {"name": "probabilities", "data_type": "TYPE_FP64", "dims": [2]}
    assert outputs["label"]["reshape"] == {"shape": []}
    assert config["parameters"]["operating_points"] == {"string_value": '["argmax@1","p@1"]'}


def test_properties_tell_classes_points_and_the_default(fraud: TestClient) -> None:
    """Of each version its own; a staged one has no default."""
    publish(fraud, "p", 1.0)
    register(fraud, network(2, seed=9), classes=CLASSES)
    publish(fraud, "q", 1.0, model_version=2)
    publish(fraud, "r", 1.0)
    first, second = (fraud.get(f"/v2/models/fraud/versions/{number}").json()["properties"] for number in (1, 2))
    assert json.loads(first["classes"]) == ["clear", "fraud"]
    assert json.loads(first["operating_points"]) == ["argmax@1", "p@1", "r@1"]
    assert json.loads(second["operating_points"]) == ["argmax@2", "q@1"]
    assert (first["default_operating_point"], second["default_operating_point"]) == ("argmax@1", "")
    assert first["model_digest"] != second["model_digest"]
    assert first["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")


def test_the_index_tells_every_version(fraud: TestClient) -> None:
    """Those that are ready, where it is asked for those."""
    register(fraud, forest()[0], "trees", output="probabilities", output_kind="probabilities")
    register(fraud, network(2, seed=9), classes=CLASSES)
    index = fraud.post("/v2/repository/index", content=b"").json()
    assert [(item["name"], item["version"], item["state"]) for item in index] == [
        ("fraud", "1", "READY"), ("fraud", "2", "READY"), ("trees", "1", "READY"),
    ]  # fmt: skip
    assert fraud.post("/v2/repository/index", json={"ready": True}).json() == index
    assert fraud.get("/v2/models").json() == {"models": ["fraud", "trees"]}
    for content, said in ((b'{"ready": 1}', "ready must be true or false"), (b"[" * 250_000, "not JSON")):
        assert said in refused_v2(fraud.post("/v2/repository/index", content=content), 400)


def test_a_model_that_could_not_be_loaded_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 for it and for the server, with the reason; the others answer."""
    register(start(), network(2), classes=CLASSES)
    register(client := start(), network(2), "other", classes=CLASSES)
    del client
    from service.errors import StorageFailed
    from service.registry import Registry

    whole = Registry.session

    def broken(self: Registry, version: Any) -> Any:
        if version.model == "fraud":
            raise StorageFailed("gone")
        return whole(self, version)

    monkeypatch.setattr(Registry, "session", broken)
    again = start()
    for path, name in (("/v2/models/fraud/ready", "fraud"), ("/v2/health/ready", None)):
        response = again.get(path)
        assert response.status_code == 503
        body = response.json()
        assert body["ready"] is False
        assert body.get("name") == name
        assert "could not be loaded" in body["error"] or "is not loaded" in body["error"]
    index = {item["name"]: item for item in again.post("/v2/repository/index").json()}
    assert (index["fraud"]["state"], index["other"]["state"]) == ("UNAVAILABLE", "READY")
    assert "could not be loaded" in index["fraud"]["reason"]
    assert [item["name"] for item in again.post("/v2/repository/index", json={"ready": True}).json()] == ["other"]
    refused_v2(again.post("/v2/repository/models/fraud/load"), 503)
    assert again.get("/v2/models/other/ready").json()["ready"] is True


def test_load_makes_sure_and_unload_is_refused(fraud: TestClient) -> None:
    """Load is answered exactly 200; it takes no files and no configuration."""
    for content in (b"", b"{}", b'{"parameters": {}}'):
        response = fraud.post("/v2/repository/models/fraud/load", content=content)
        assert (response.status_code, response.json()) == (200, {"name": "fraud", "load": True})
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "YQ=="}):
        response = fraud.post("/v2/repository/models/fraud/load", json={"parameters": parameters})
        assert "files are registered with POST /models" in refused_v2(response, 501)
    response = fraud.post("/v2/repository/models/fraud/unload", json={"parameters": {"unload_dependents": True}})
    assert "a client cannot unload it" in refused_v2(response, 501)
    assert "parameters must be" in refused_v2(
        fraud.post("/v2/repository/models/fraud/load", json={"parameters": 1}), 400
    )
    read(infer(fraud, tensor("x", X)))


def test_statistics_count_requests_rows_and_times(fraud: TestClient) -> None:
    """By version and number of rows; what was refused counts as failed, no rows as no run."""
    for rows in (1, 3, 3, 0):
        read(infer(fraud, tensor("x", np.zeros((rows, WIDTH)))))
    infer(fraud, tensor("y", X))
    (told,) = fraud.get("/v2/models/fraud/versions/1/stats").json()["model_stats"]
    assert fraud.get("/v2/models/stats").json()["model_stats"] == [told]
    assert fraud.get("/v2/models/fraud/stats").json()["model_stats"] == [told]
    assert (told["inference_count"], told["execution_count"], told["last_inference"] > 1.7e12) == (7, 3, True)
    stats = told["inference_stats"]
    counts = {name: entry["count"] for name, entry in stats.items()}
    steps = {"queue", "compute_input", "compute_infer", "compute_output"}
    assert counts == {"success": 4, "fail": 1, "cache_hit": 0, "cache_miss": 0, **dict.fromkeys(steps, 4)}
    assert stats["success"]["ns"] == sum(stats[step]["ns"] for step in steps)
    assert all(stats[step]["ns"] > 0 for step in steps)
    assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in told["batch_stats"]] == [(1, 1), (3, 2)]


def test_odd_batch_sizes_do_not_fill_the_memory() -> None:
    """The first hundred are told apart, all are counted."""
    statistics = Statistics()
    for rows in range(1, 1001):
        statistics.succeeded("m", 1, rows, Times(1, 2, 3, 4), Ran(3e-9, rows))
    told = statistics.told("m", 1)
    assert len(told["batch_stats"]) == MOST_BATCH_SIZES
    assert told["inference_stats"]["success"] == {"count": 1000, "ns": 10_000}
    assert statistics.told("other", 1)["execution_count"] == 0


def test_a_caller_sees_and_uses_only_the_models_it_may(fraud: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists leave the others out; naming one is refused, whether there is one or not."""
    register(fraud, network(2), "mine", classes=CLASSES)
    who = Principal("k", models=frozenset({"mine"}))
    monkeypatch.setattr("service.web.oip.handlers.principal", lambda _: who)
    assert isinstance(fraud.app, Doorway)
    monkeypatch.setattr(fraud.app._admission, "_local", who)
    assert fraud.get("/v2/models").json() == {"models": ["mine"]}
    assert [item["name"] for item in fraud.post("/v2/repository/index").json()] == ["mine"]
    assert [item["name"] for item in fraud.get("/v2/models/stats").json()["model_stats"]] == ["mine"]
    for model in ("fraud", "nope"):
        for path in ("", "/ready", "/config", "/stats", "/versions/1", "/versions/1/stats"):
            assert "may not use model" in refused_v2(fraud.get(f"/v2/models/{model}{path}"), 403)
        assert "k may not use model" in refused_v2(fraud.post(f"/v2/models/{model}/infer", content=b"{}"), 403)
        refused_v2(fraud.post(f"/v2/repository/models/{model}/load"), 403)
    read(infer(fraud, tensor("x", X), path="/v2/models/mine/infer"))
