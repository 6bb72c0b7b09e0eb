"""A model whose file describes no columns gets them at its registration."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.cli import app
from tests.models import WIDTH, network
from tests.servers import running
from tests.service.conftest import CLASSES, Start, alive, refused, register
from tests.service.oip.models import two_inputs
from tests.service.test_named_rows import CODES, COLUMNS, NAMES, TEXTS, X, by_runtime, probabilities, records

OWN = {"setpoint": json.dumps({"columns": NAMES})}  # names alone, the short form


@pytest.fixture
def plain(start: Start) -> TestClient:
    """A service on the test's folder with `fraud`, which describes nothing."""
    client = start()
    register(client, network(2), classes=CLASSES)
    return client


def test_names_are_kept_and_matched(start: Start) -> None:
    """As a list of names; they are shown, survive a restart, and rows are matched by them."""
    client = start()
    reply = register(client, network(2), classes=CLASSES, columns=json.dumps(NAMES))
    assert reply["columns"] == [{"name": name, "kind": "number", "missing": "", "codes": {}} for name in NAMES]
    again = start()
    assert again.get("/models/fraud").json()["versions"][0]["columns"] == reply["columns"]
    rows = records([3, 1, 0, 2], texts=False)
    found = probabilities(again.post("/predict", json={"model": "fraud", "inputs": rows}))
    assert np.allclose(found, by_runtime(network(2), x=X), atol=1e-6)
    said = refused(again.post("/predict", json={"model": "fraud", "inputs": [{}]}), 422, "wrong-columns")
    assert said.endswith("send null where the value is not known")


def test_described_columns_have_categories(plain: TestClient) -> None:
    """As objects: a category by its text. They take the place of what the file says of other columns."""
    other = {"setpoint": json.dumps({"columns": ["a", "b", "c", "d"]})}
    for number, metadata in ((2, None), (3, other)):
        register(plain, network(2, metadata=metadata), classes=CLASSES, columns=json.dumps(COLUMNS))
        call = {"model": "fraud", "model_version": number, "operating_point": "argmax", "inputs": records([3, 1, 0, 2])}
        assert np.allclose(probabilities(plain.post("/predict", json=call)), by_runtime(network(2), x=X), atol=1e-6)
    assert set(TEXTS) == set(CODES)


@pytest.mark.parametrize(
    ("metadata", "columns", "status", "kind", "message"),
    [
        (None, NAMES[:3], 422, "bad-model", "3 columns are described, but the rows of input 'x' have 4 numbers"),
        (None, [*NAMES[:3], "age"], 422, "bad-model", "the column 'age' is described more than once"),
        (None, "age", 400, "bad-request", "columns must be JSON"),
        (None, [*NAMES[:3], 4], 422, "bad-model", "must be a list of names, or of objects that describe columns"),
        (None, [*NAMES[:3], {"kind": "number"}], 422, "bad-model", "columns must be a list of names"),
        (None, [*NAMES[:3], {"name": "a", "kind": "text"}], 422, "bad-model", "must be number or category, got 'text'"),
        (OWN, sorted(NAMES, reverse=True), 422, "bad-model", "give them in the model's order, or leave them out"),
        ({"setpoint": json.dumps({"columns": NAMES[:2]})}, None, 422, "bad-model", "2 columns are described, but"),
    ],
)  # fmt: skip
def test_columns_that_are_not_the_inputs_are_refused(
    plain: TestClient, metadata: dict[str, str] | None, columns: Any, status: int, kind: str, message: str
) -> None:
    """With what was wanted; the model stays as it was."""
    texts = {"name": "fraud", "classes": CLASSES}
    if columns is not None:
        texts["columns"] = columns if isinstance(columns, str) else json.dumps(columns)
    response = plain.post("/models", data=texts, files={"file": ("model.onnx", network(2, metadata=metadata))})
    assert message in refused(response, status, kind)
    alive(plain)
    assert len(plain.get("/models/fraud").json()["versions"]) == 1


def test_columns_are_of_one_input(plain: TestClient) -> None:
    """Several inputs have names of their own; classes alone have no input."""
    texts = {"name": "two", "classes": CLASSES, "columns": '["a", "b", "c"]'}
    response = plain.post("/models", data=texts, files={"file": ("model.onnx", two_inputs())})
    assert "takes one input of rows of numbers; the model has 'x' of 2 axes" in refused(response, 422, "bad-model")
    response = plain.post("/models", data=texts, files={"other": ("", b"")})
    assert response.status_code == 400
    response = plain.post("/models", files={name: (None, text) for name, text in texts.items()})
    assert "columns is about an ONNX file; the form has no file 'file'" in refused(response, 400, "bad-request")


def test_publish_names_columns(tmp_path: Path) -> None:
    """`setpoint publish --columns`, as names and as JSON."""
    (tmp_path / "m.onnx").write_bytes(network(2))
    with running(tmp_path) as server:
        for given in (",".join("abcd"[:WIDTH]), json.dumps([{"name": name} for name in "abcd"])):
            arguments = ("publish", str(tmp_path / "m.onnx"), "--model", "m", "--columns", given, "--json")
            done = CliRunner().invoke(app, [*arguments, "--server", server.address])
            assert done.exit_code == 0, done.output
            assert [column["name"] for column in json.loads(done.stdout)["columns"]] == list("abcd")
        done = CliRunner().invoke(
            app, ["publish", "--model", "n", "--classes", "a,b", "--columns", "a", "--server", server.address]
        )
        assert "--columns needs a FILE" in str(done.exception)
