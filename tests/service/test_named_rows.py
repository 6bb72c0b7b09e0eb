"""Rows that carry names are matched by them. What is right says ONNX Runtime, run on rows in the model's own order."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pyarrow as pa
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from tests.models import WIDTH, build, forward, network, weights
from tests.service.conftest import CLASSES, alive, refused, register
from tests.service.oip.models import two_inputs
from tests.service.test_packed import arrow, lists

NAMES = ["age", "größe, cm", "rows", "sex"]  # an accent, a space and a comma, and a word of our own
CODES = {"F": 0.0, "M": 1.0, "": 2.0}
COLUMNS: list[dict[str, Any]] = [{"name": name, "kind": "number", "missing": f"the mean {name}"} for name in NAMES[:3]]
COLUMNS.append({"name": "sex", "kind": "category", "missing": "neither", "codes": CODES})
ABOUT = {"setpoint": json.dumps({"classes": ["clear", "fraud"], "columns": COLUMNS})}
MODEL = network(2, metadata=ABOUT)
X = np.random.default_rng(7).normal(size=(8, WIDTH)).astype(np.float32)
X[:, 3] = np.arange(8) % 3
TEXTS = [list(CODES)[int(code)] for code in X[:, 3]]
ORDERS = [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 1, 0]]
MANY = 12


def wide() -> bytes:
    """A model of twelve columns, each with a weight of its own."""
    weight = np.stack([np.zeros(MANY), np.arange(MANY) - 3.0]).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1)
    return build([node], {"w": weight, "b": np.zeros(2, np.float32)}, ["z"], input_shape=("rows", MANY))


def by_runtime(data: bytes, **inputs: np.ndarray) -> np.ndarray:
    """What the model gives of rows in its own order."""
    return np.asarray(ort.InferenceSession(data).run(None, inputs)[0])


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`fraud` describes its columns, `plain` and `wide` none, `two` has the inputs `x` (2 numbers) and `kind`."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("named")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        register(client, MODEL)
        register(client, network(2), "plain", classes=CLASSES)
        register(client, wide(), "wide", classes=CLASSES)
        register(client, two_inputs(), "two", classes=CLASSES)
        yield client


def probabilities(response: Any) -> np.ndarray:
    """Of a good answer, (n, k)."""
    assert response.status_code == 200, response.text
    return np.array([row["probabilities"] for row in response.json()["predictions"]])


def records(order: list[int], *, texts: bool = True) -> list[dict[str, Any]]:
    """The rows as clients hold them."""
    table = [[*row[:3], text if texts else row[3]] for row, text in zip(X.tolist(), TEXTS, strict=True)]
    return [{NAMES[i]: row[i] for i in order} for row in table]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("texts", [True, False])
def test_records_and_columns_in_any_order(named: TestClient, order: list[int], texts: bool) -> None:
    """A category by its text or its code; one record alone; columns; and Arrow, with texts or pandas categories."""
    right = by_runtime(MODEL, x=X)
    rows = records(order, texts=texts)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for inputs in (rows, columns):
        found = probabilities(named.post("/predict", json={"model": "fraud", "inputs": inputs}))
        assert np.allclose(found, right, atol=1e-6)
    one = probabilities(named.post("/predict", json={"model": "fraud", "inputs": rows[4]}))
    assert np.allclose(one, right[4:5], atol=1e-6)
    frame = pd.DataFrame(columns)
    tables = [pa.table(columns), pa.Table.from_pandas(frame.astype({"sex": "category"}), preserve_index=False)]
    for table in tables:
        found = probabilities(named.post("/predict?model=fraud", content=arrow(table)))
        assert np.allclose(found, right, atol=1e-6)


def test_numbers_of_columns_are_names_too(named: TestClient) -> None:
    """`10` is the eleventh column, though it comes before `2`; `x_10` and `features_10` likewise."""
    x = np.random.default_rng(1).normal(size=(5, MANY)).astype(np.float32)
    right = by_runtime(wide(), x=x)[:, 1]
    order = sorted(range(MANY), key=str)
    for prefix, rows in (("", "inputs"), ("x_", "inputs"), ("", "features"), ("features_", "features")):
        table = pa.table({f"{prefix}{i}": x[:, i] for i in order})
        reply = named.post(f"/predict?model=wide&rows={rows}", content=arrow(table)).json()
        assert np.allclose([row["margin"] for row in reply["predictions"]], right, atol=1e-4)
    inputs = [{str(i): row[i] for i in order} for row in x.tolist()]
    reply = named.post("/predict", json={"model": "wide", "inputs": inputs}).json()
    assert np.allclose([row["margin"] for row in reply["predictions"]], right, atol=1e-4)
    table = pa.table({f"V{i + 1}": x[:, i] for i in order})
    said = refused(named.post("/predict?model=wide", content=arrow(table)), 422, "wrong-columns")
    assert "nothing describes its columns, so they go by their position, but 'V3' comes after 'V12'" in said
    table = pa.table({f"V{i + 1}": x[:, i] for i in range(MANY)})
    reply = named.post("/predict?model=wide", content=arrow(table)).json()
    assert np.allclose([row["margin"] for row in reply["predictions"]], right, atol=1e-4)


def test_a_missing_value_is_null(named: TestClient) -> None:
    """In records, columns and Arrow, of numbers and of categories."""
    x = X.copy()
    x[2, 0] = x[3, 3] = np.nan
    right = by_runtime(network(2), x=x)
    assert np.isnan(right[2:4]).all()
    rows = records([3, 2, 1, 0])
    rows[2]["age"] = rows[3]["sex"] = None
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    for response in (
        named.post("/predict", json={"model": "fraud", "inputs": rows}),
        named.post("/predict?model=fraud", content=arrow(table)),
    ):
        assert "logits[2, 0] must be finite" in refused(
            response, 422, "not-finite"
        )  # this network takes no missing value
    del rows[3], rows[2]
    found = probabilities(named.post("/predict", json={"model": "fraud", "inputs": rows}))
    assert np.allclose(found, right[[0, 1, 4, 5, 6, 7]], atol=1e-6)


def test_category_texts_in_plain_rows(named: TestClient) -> None:
    """Lists in the model's order may hold them."""
    rows = [[*row[:3], text] for row, text in zip(X.tolist(), TEXTS, strict=True)]
    found = probabilities(named.post("/predict", json={"model": "fraud", "inputs": rows}))
    assert np.allclose(found, by_runtime(MODEL, x=X), atol=1e-6)
    rows[1][0] = "72"
    said = refused(named.post("/predict", json={"model": "fraud", "inputs": rows}), 400, "bad-request")
    assert "input 'x', column 'age'[1] must be a number or null, got a text" in said


def test_several_inputs_by_name(named: TestClient) -> None:
    """Records of input names, a list where an input is wide; columns; the order does not matter."""
    x, kind = X[:3, :2].copy(), ["bé", "a", "other"]
    right = by_runtime(two_inputs(), x=x, kind=np.array(kind, dtype=object)[:, np.newaxis])
    rows = [{"kind": text, "x": row} for text, row in zip(kind, x.tolist(), strict=True)]
    table = pa.table({"kind": kind, "x": lists(x)})
    for response in (
        named.post("/predict", json={"model": "two", "inputs": rows}),
        named.post("/predict", json={"model": "two", "inputs": {"kind": kind, "x": x.tolist()}}),
        named.post("/predict?model=two", content=arrow(table)),
    ):
        assert np.allclose(
            [row["margin"] for row in response.json()["predictions"]], right[:, 1] - right[:, 0], atol=1e-5
        )
    del rows[1]["x"]
    said = refused(named.post("/predict", json={"model": "two", "inputs": rows}), 422, "wrong-columns")
    assert "inputs, row 1: column 'x' is missing from kind" in said


def test_logits_by_class(named: TestClient) -> None:
    """Records, columns and Arrow, as the class or `logits_<class>`; one logit is the second class's."""
    _, logits = forward(weights(2), X)
    margins = logits[:, 1] - logits[:, 0]
    for prefix in ("", "logits_"):
        rows = [{f"{prefix}fraud": row[1], f"{prefix}clear": row[0]} for row in logits.tolist()]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        for response in (
            named.post("/predict", json={"model": "fraud", "logits": rows}),
            named.post("/predict", json={"model": "fraud", "logits": columns}),
            named.post("/predict?model=fraud&rows=logits", content=arrow(pa.table(columns))),
        ):
            assert np.allclose([row["margin"] for row in response.json()["predictions"]], margins, atol=1e-5)
        one = arrow(pa.table({f"{prefix}fraud": margins}))
        response = named.post("/predict?model=fraud&rows=logits", content=one)
        assert np.allclose([row["margin"] for row in response.json()["predictions"]], margins, atol=1e-5)
        one = arrow(pa.table({f"{prefix}clear": margins}))
        said = refused(named.post("/predict?model=fraud&rows=logits", content=one), 422, "wrong-columns")
        assert "one number a row is that of class 'fraud' over 'clear'" in said


def without(name: str) -> dict[str, Any]:
    """A record that lacks a column."""
    return {key: value for key, value in records(ORDERS[0])[0].items() if key != name}


RECORD = records(ORDERS[0])[0]


@pytest.mark.parametrize(
    ("inputs", "status", "kind", "message"),
    [
        (without("sex"), 422, "wrong-columns", "row 0: column 'sex' is missing from age, größe, cm, rows; send null "
         "where the value is not known (neither)"),
        ([RECORD, without("age")], 422, "wrong-columns", "row 1: column 'age' is missing from größe, cm, rows, sex; "
         "send null where the value is not known (the mean age)"),
        ([RECORD, {**RECORD, "Age": 1}], 422, "wrong-columns", "row 1: wanted the columns age, größe, cm, rows, sex; "
         "got 'Age'"),
        ([{**without("age"), "": 1}], 422, "wrong-columns", "got ''"),
        ([RECORD, [1, 2, 3, 4]], 422, "wrong-shape", "row 1: wanted an object, as row 0 is, got a list"),
        ([[1, 2, 3, 4], RECORD], 422, "wrong-shape", "got 4 items in row 0 and no list in row 1"),
        ([{**RECORD, "sex": "X"}], 422, "unknown-category", "column 'sex', row 0: wanted one of F, M, , got 'X'"),
        ([{**RECORD, "age": "72"}], 400, "bad-request", "column 'age'[0] must be a number or null, got a text"),
        ([{**RECORD, "age": [72]}], 422, "wrong-shape", "column 'age': wanted one number a row, got a list in row 0"),
        ([RECORD, {**RECORD, "age": {"x": 1}}], 400, "bad-request", "column 'age'[1] must be a number or null, got an"),
        ([RECORD, {**RECORD, "rows": 1e300}], 400, "bad-request", "column 'rows'[1] has to fit float32, got 1e+300"),
        ([{}], 422, "wrong-columns", "row 0: column 'age' is missing from"),
        ({**{name: [1, 2] for name in NAMES}, "sex": ["F"]}, 422, "wrong-shape",
         "wanted columns of equal length, got 2 rows in 'age' and 1 in 'sex'"),
        ({name: [] for name in NAMES}, 422, "no-rows", "wanted at least one row"),
        ({**{name: [1] for name in NAMES}, "sex": "F"}, 422, "wrong-shape", "column 'sex': wanted a list, got a text"),
        ({name: [1] for name in NAMES[:3]}, 422, "wrong-columns", "column 'sex' is missing from"),
        ([{str(i): 1 for i in range(100_000)}], 422, "wrong-columns", "got '0'"),
        ([{"x": 1}], 422, "wrong-shape", "wanted rows of shape (4), got shape () for 1 rows"),
        ([{"x": [1, 2]}], 422, "wrong-shape", "wanted rows of shape (4), got shape (2,) for 1 rows"),
    ],
)  # fmt: skip
def test_records_that_do_not_fit_are_refused(
    named: TestClient, inputs: object, status: int, kind: str, message: str
) -> None:
    """With the row and the key; the next call is answered."""
    said = refused(named.post("/predict", json={"model": "fraud", "inputs": inputs}), status, kind)
    assert message in said
    assert len(said) < 1000
    alive(named)


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"sex": TEXTS, "age": X[:, 0], "rows": X[:, 2]}, "wrong-columns", "column 'größe, cm' is missing from"),
        ({**{name: X[:, i] for i, name in enumerate(NAMES)}, "id": X[:, 0]}, "wrong-columns", "got 'id'"),
        ({**{name: X[:, i] for i, name in enumerate(NAMES)}, "sex": ["X"] * 8}, "unknown-category", "row 0"),
        ({**{name: X[:, i] for i, name in enumerate(NAMES)}, "age": TEXTS}, "unknown-category", "row 0: wanted a nu"),
    ],
)  # fmt: skip
def test_arrow_columns_that_do_not_fit_are_refused(
    named: TestClient, columns: dict[str, Any], kind: str, message: str
) -> None:
    """By name."""
    said = refused(named.post("/predict?model=fraud", content=arrow(pa.table(columns))), 422, kind)
    assert message in said


def test_columns_that_come_twice_are_refused(named: TestClient) -> None:
    """Arrow can hold them; of a JSON object the last of two equal keys counts, which nobody can see later."""
    table = pa.table([pa.array(X[:, i]) for i in (0, 1, 2, 3, 0)], names=[*NAMES, "age"])
    said = refused(named.post("/predict?model=fraud", content=arrow(table)), 422, "bad-cache")
    assert "the record batches hold the column 'age' more than once" in said


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("logits", {"clear": X[:, 0], "other": X[:, 1]}, "logits: wanted the columns clear, fraud; got 'other'"),
        ("logits", {"clear": X[:, 0], "fraud": X[:, 0], "x": X[:, 1]}, "got 'x'"),
        ("features", {"features_0": X[:, 0], "features_2": X[:, 1]}, None),
    ],
)
def test_scores_under_other_names_are_refused(
    named: TestClient, kind: str, columns: dict[str, Any], message: str | None
) -> None:
    """Classes by name; features have none, so their number has to be the head's."""
    response = named.post(f"/predict?model=fraud&rows={kind}", content=arrow(pa.table(columns)))
    said = refused(response, 422, "wrong-columns" if message else "wrong-shape")
    assert (message or "wanted 6 columns, got 2") in said


def test_names_need_a_description(named: TestClient) -> None:
    """Records of names that nothing explains are refused with what to do; unnamed Arrow columns go in order."""
    said = refused(named.post("/predict", json={"model": "plain", "inputs": [RECORD]}), 422, "wrong-columns")
    assert "the model does not describe its columns, so names cannot be matched; got 'age'" in said
    table = arrow(pa.table({name: X[:, i] for i, name in enumerate(NAMES)}))
    assert np.allclose(
        probabilities(named.post("/predict?model=plain", content=table)), by_runtime(MODEL, x=X), atol=1e-6
    )


def test_calibration_on_records(named: TestClient) -> None:
    """Rows by name, columns by name and logits by class give the point of the same rows in the model's order."""
    x = np.random.default_rng(3).normal(size=(60, WIDTH)).astype(np.float32)
    x[:, 3] = np.arange(60) % 2
    labels = (np.arange(60) % 5 == 0).astype(int).tolist()
    _, logits = forward(weights(2), x)
    order = [2, 3, 0, 1]
    rows = [{NAMES[i]: "FM"[int(row[i])] if i == 3 else row[i] for i in order} for row in x.tolist()]
    forms: dict[str, dict[str, Any]] = {
        "lists": {"inputs": x.tolist()},
        "records": {"inputs": rows},
        "columns": {"inputs": {name: [row[name] for row in rows] for name in rows[0]}},
        "classes": {"logits": [{"fraud": row[1], "clear": row[0]} for row in logits.tolist()]},
    }
    biases = []
    for name, data in forms.items():
        call = {"model": "fraud", "name": name, "metric": "f1", "data": {**data, "labels": labels}}
        response = named.post("/calibrate", json=call)
        assert response.status_code == 201, response.text
        biases.append(response.json()["point"]["bias"])
    assert np.allclose(biases, biases[0], atol=1e-5)
    data = {"inputs": [*rows[:59], without("age")], "labels": labels}
    call = {"model": "fraud", "name": "no", "metric": "f1", "data": data}
    assert "row 59: column 'age' is missing" in refused(named.post("/calibrate", json=call), 422, "wrong-columns")


def test_a_record_is_logged_as_the_row_it_is(tmp_path: Path) -> None:
    """Decisions on the same row in two forms have one input digest."""
    app = make_app(Settings(data=tmp_path / "data", decision_log="required"))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        register(client, MODEL)
        digests = set()
        for inputs in (X[:1].tolist(), records(ORDERS[1])[0], records(ORDERS[2])[:1]):
            reply = client.post("/predict", json={"model": "fraud", "inputs": inputs}).json()
            (entry,) = client.get("/decisions", params={"request_id": reply["request_id"]}).json()
            digests.add(entry["input_digest"])
    assert len(digests) == 1
