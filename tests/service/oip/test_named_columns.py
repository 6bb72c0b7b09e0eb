"""`infer` takes the described columns of a model's one input as tensors of their own, by name in any order."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from tests.models import WIDTH, network
from tests.service.conftest import CLASSES, publish, refused_v2, register
from tests.service.oip.ask import infer, read, tensor
from tests.service.test_named_rows import CODES, MODEL, NAMES, ORDERS, TEXTS, X, by_runtime

POINT_COLUMNS = ["a", "operating_point", "features", "b"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`fraud` describes its columns, `odd` has columns of our own words, `plain` describes none."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("named")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        register(client, MODEL)
        odd = {"setpoint": json.dumps({"columns": POINT_COLUMNS})}
        register(client, network(2, metadata=odd), "odd", classes=CLASSES)
        register(client, network(2), "plain", classes=CLASSES)
        publish(client, "p", 3.0)
        yield client


def columns(order: list[int], *, binary: bool, texts: bool, deep: bool) -> list[Any]:
    """A tensor for each column: whole numbers, doubles and texts side by side."""
    x = X.copy()
    x[:, 0] = np.arange(len(x))
    made = []
    for i in order:
        values, datatype = x[:, i], ["INT64", "FP64", "FP32", "FP32"][i]
        if i == 3 and texts:
            values, datatype = np.array(TEXTS, dtype=object), "BYTES"
        made.append(tensor(NAMES[i], values[:, np.newaxis] if deep else values, datatype, binary=binary))
    return made


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("binary", "texts", "deep"), [(False, True, False), (True, True, True), (True, False, False)])
def test_columns_are_matched_by_name(
    named: TestClient, order: list[int], binary: bool, texts: bool, deep: bool
) -> None:
    """In JSON and as raw tensors, [n] and [n, 1], each with a type of its own; with a point for each row too."""
    x = X.copy()
    x[:, 0] = np.arange(len(x))
    right = by_runtime(MODEL, x=x)
    tensors = columns(order, binary=binary, texts=texts, deep=deep)
    _, found = read(infer(named, *tensors))
    assert np.allclose(found["probabilities"], right, atol=1e-6)
    points = tensor("operating_point", ["p", "argmax"] * 4, "BYTES", binary=binary)
    _, found = read(infer(named, points, *tensors))
    assert found["operating_point"].tolist() == ["p@1", "argmax@1"] * 4
    assert np.allclose(found["probabilities"], right, atol=1e-6)


def test_columns_called_as_our_own_inputs(named: TestClient) -> None:
    """They are the model's where the others come too; beside the whole input `operating_point` names points."""
    right = by_runtime(network(2), x=X)
    path = "/v2/models/odd/infer"
    tensors = [tensor(name, X[:, i]) for i, name in enumerate(POINT_COLUMNS)]
    _, found = read(infer(named, *reversed(tensors), path=path))
    assert np.allclose(found["probabilities"], right, atol=1e-6)
    points = tensor("operating_point", ["argmax"] * 8, "BYTES")
    _, found = read(infer(named, points, tensor("x", X), path=path))
    assert np.allclose(found["probabilities"], right, atol=1e-6)


def test_no_rows_are_no_rows(named: TestClient) -> None:
    """As of the whole input."""
    tensors = [tensor(name, np.empty(0), "FP32", binary=True) for name in NAMES]
    _, found = read(infer(named, *tensors))
    assert found["probabilities"].shape == (0, 2)


def all_but(name: str, *instead: Any) -> list[Any]:
    """The columns without one, and what comes in its place."""
    return [*(tensor(each, X[:, i]) for i, each in enumerate(NAMES) if each != name), *instead]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (all_but("age"), "input 'x': column 'age' is missing from größe, cm, rows, sex"),
        (all_but("age", tensor("Age", X[:, 0])), "wanted the columns age, größe, cm, rows, sex; got 'Age'"),
        (all_but("age", tensor("x", X)), "the model takes the inputs x, or its columns, (and 'operating_point'); got"),
        ([tensor("y", X)], "the model takes the inputs x, or its columns, (and 'operating_point'); got y"),
        ([tensor("age", X)], "input 'age': a column must have shape [n] or [n, 1], got [8, 4]"),
        (all_but("age", tensor("age", X[:3, 0])), "got 8 in 'größe, cm' and 3 in 'age'"),
        (all_but("sex", tensor("sex", ["F"] * 7 + ["X"], "BYTES")), "'sex', row 7: wanted one of F, M, , got 'X'"),
        (all_but("age", tensor("age", ["72"] * 8, "BYTES")), "column 'age', row 0: wanted a number, got '72'"),
        (all_but("age", tensor("age", [1e300] * 8, "FP64")), "column 'age'[0] has to fit float32"),
        ([*all_but(""), tensor("age", X[:, 0])], "comes more than once"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(named: TestClient, inputs: list[Any], message: str) -> None:
    """By name and row, in the protocol's shape."""
    assert message in refused_v2(infer(named, *inputs), 400)


def test_what_describes_no_columns_takes_none(named: TestClient) -> None:
    """The metadata stays that of the one input, so clients that read it see what they saw."""
    said = refused_v2(infer(named, *all_but(""), path="/v2/models/plain/infer"), 400)
    assert "the model takes the inputs x (and 'operating_point'); got age" in said
    inputs = named.get("/v2/models/fraud").json()["inputs"]
    assert inputs == [{"name": "x", "datatype": "FP32", "shape": [-1, WIDTH]}]
    assert len(CODES) == 3
