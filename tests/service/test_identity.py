"""Rows and points of another model file: refused where they meet a version, warned of where it is unknown, audited."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from calibrate import FeatureCache, fit, read_cache, write_cache
from calibrate.extraction.extract import extract
from calibrate.origin import Origin
from service.evidence import UNKNOWN_MODEL
from service.identity import UNKNOWN
from tests.models import WIDTH, network
from tests.service.conftest import alive, refused
from tests.service.test_calibrate import npz, upload

RNG = np.random.default_rng(8)
X = RNG.normal(size=(300, WIDTH)).astype(np.float32)
Y = (RNG.random(300) < 0.3).astype(int)
POINTS = "/models/fraud/operating-points"


def rows(folder: Path, seed: int, suffix: str = ".npz") -> Path:
    """Labelled rows, extracted from the network of that seed; a service of the tests has that of seed 0."""
    model, out = folder / f"{seed}.onnx", folder / f"{seed}{suffix}"
    model.write_bytes(network(2, seed=seed))
    extract(model, X, labels=Y, classes=["clear", "fraud"], out=out, progress=False)
    return out


def file_digest(cache: FeatureCache) -> str:
    """The SHA-256 of the file that the rows say made them."""
    assert cache.origin is not None
    return str(cache.origin.file_digest)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
def test_a_cache_of_another_file_is_refused_naming_both(fraud: TestClient, suffix: str, tmp_path: Path) -> None:
    """One of this file is no word; one that is let through warns, is audited, and needs an override to answer."""
    ours, theirs = (rows(tmp_path, seed, suffix) for seed in (0, 1))
    version = fraud.get("/models/fraud").json()["versions"][0]
    other = file_digest(read_cache(theirs))

    made = upload(fraud, ours.read_bytes()).json()
    assert UNKNOWN not in made["warnings"]
    assert made["origin"]["file_digest"] == version["digest"]

    detail = refused(upload(fraud, theirs.read_bytes()), 422, "other-model")
    assert other in detail
    assert version["digest"] in detail

    let = upload(fraud, theirs.read_bytes(), allow_other_model=True).json()
    assert let["warnings"][-1].startswith(f"the rows were made by the model file {other}; version 1 of model 'fraud'")
    entry = next(each for each in fraud.get("/audit").json() if each["action"] == "publish")
    assert entry["details"]["operating_point"] == let["operating_point"] == "p@2"
    assert other in entry["details"]["overridden"][0]
    call = {"operating_point": "p@2", "reason": "because"}
    assert other in refused(fraud.put("/models/fraud/default", json=call), 409, "bad-evidence")
    moved = fraud.put("/models/fraud/default", json={**call, "override": True})
    assert moved.status_code == 200
    assert other in fraud.get("/audit?limit=1").json()[0]["details"]["overridden"][0]
    alive(fraud)


def test_what_the_server_runs_is_known_and_plain_numbers_are_not(fraud: TestClient, tmp_path: Path) -> None:
    """Inputs, an old cache, one of torch, one with a comment by another program, logits and features in JSON."""
    ours = read_cache(rows(tmp_path, 0))
    torch = replace(ours, origin=Origin("torch", "ab" * 32, "cd" * 32, 300))
    for name, cache in (("bare", replace(ours, origin=None)), ("torch", torch)):
        write_cache(tmp_path / f"{name}.npz", cache)
    call = {"model": "fraud", "name": "p", "metric": "f1"}
    digest = fraud.get("/models/fraud").json()["versions"][0]["digest"]
    known = fraud.post("/calibrate", json={**call, "data": {"inputs": X.tolist(), "labels": Y.tolist()}}).json()
    assert UNKNOWN not in known["warnings"]
    assert known["origin"]["file_digest"] == digest
    for field in ("logits", "features"):
        data = {field: getattr(ours, field).tolist(), "labels": Y.tolist()}
        assert fraud.post("/calibrate", json={**call, "data": data}).json()["warnings"][-1] == UNKNOWN
    bare = upload(fraud, (tmp_path / "bare.npz").read_bytes()).json()
    assert bare["warnings"][-1] == UNKNOWN
    assert bare["model_digest"] == digest  # of the version that it was published for
    torch_warning = upload(fraud, (tmp_path / "torch.npz").read_bytes()).json()["warnings"][-1]
    assert torch_warning == f"{UNKNOWN} file: they come from torch abababababab"
    commented = npz(logits=ours.logits, labels=Y)[:-2] + b"\x07\x00by hand"
    assert upload(fraud, commented).json()["warnings"][-1] == UNKNOWN


def test_a_fitted_point_says_its_model_when_it_is_published(fraud: TestClient, tmp_path: Path) -> None:
    """What `to_dict` holds is enough; another file is refused, let through it is audited; unknown is a doubt."""
    ours, theirs = (fit(read_cache(rows(tmp_path, seed)), metric="f1").to_dict() for seed in (0, 1))

    def publish(saved: dict[str, Any], **fields: Any) -> Any:
        details = {key: value for key, value in saved.items() if key not in ("point", "threshold")}
        return fraud.post(POINTS, json={"name": "p", "point": saved["point"], "details": details, **fields})

    assert publish(ours).status_code == 201
    assert theirs["model_digest"] in refused(publish(theirs), 422, "other-model")
    assert "send one of them" in refused(publish(theirs, model_digest=ours["model_digest"]), 400, "bad-request")
    assert publish(theirs, allow_other_model=True).json()["operating_point"] == "p@2"
    assert theirs["model_digest"] in fraud.get("/audit?limit=1").json()[0]["details"]["overridden"][0]
    assert publish({**ours, "model_digest": None, "origin": None}).json()["operating_point"] == "p@3"
    for point, expected in (("p@1", []), ("p@3", [UNKNOWN_MODEL])):
        call = {"operating_point": point, "reason": "because", "override": True}
        warnings = fraud.put("/models/fraud/default", json=call).json()["warnings"]
        assert [text for text in warnings if text == UNKNOWN_MODEL] == expected
    refused(fraud.put("/models/fraud/default", json={"operating_point": "p@2", "reason": "x"}), 409, "bad-evidence")
    assert fraud.get(f"{POINTS}/p@2").json()["origin"] == theirs["origin"]
