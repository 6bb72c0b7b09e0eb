"""Rows as they lie in memory are decided as the same rows in JSON."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.models import WIDTH, forward, weights
from tests.service.conftest import alive, publish, refused

X = np.random.default_rng(5).normal(size=(40, WIDTH)).astype(np.float32)
FEATURES, LOGITS = forward(weights(2), X)


def npy(array: np.ndarray, **options: Any) -> bytes:
    """The bytes of a `.npy` file."""
    made = io.BytesIO()
    np.save(made, array, **options)
    return made.getvalue()


def arrow(table: pa.Table, is_file: bool = False, **options: Any) -> bytes:
    """The bytes of an Arrow stream, or file."""
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_file if is_file else pa.ipc.new_stream)(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def tensor(array: np.ndarray) -> bytes:
    """The bytes of an Arrow tensor."""
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    return bytes(sink.getvalue())


def lists(array: np.ndarray) -> pa.FixedSizeListArray:
    """A column of lists of one length."""
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


COLUMNS = pa.table({f"c{i}": X[:, i] for i in range(WIDTH)})
BODIES = {
    "npy": npy(X),
    "npy of doubles": npy(X.astype(np.float64)),
    "npy, the other end first": npy(X.astype(">f4")),
    "npy, columns first": npy(np.asfortranarray(X)),
    "tensor": tensor(X),
    "named column of lists": arrow(pa.table({"x": lists(X)})),
    "column of lists": arrow(pa.table({"rows": pa.array(X.tolist(), pa.list_(pa.float32()))})),
    "columns": arrow(COLUMNS),
    "file of columns": arrow(COLUMNS, is_file=True),
    "several batches": arrow(pa.concat_tables([COLUMNS.slice(0, 7), COLUMNS.slice(7)])),
    "packed columns": arrow(COLUMNS, compression="zstd"),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_form_is_decided_alike(fraud: TestClient, name: str) -> None:
    """To the last bit; the point by query or header, others to compare with."""
    publish(fraud, "p", 0.5)
    ask = {"model": "fraud", "inputs": X.tolist(), "operating_point": "p", "compare": ["argmax", "p@1"]}
    expected = fraud.post("/predict", json=ask).json()
    query = "/predict?model=fraud&compare=argmax&compare=p@1"
    for address, headers in ((query + "&operating_point=p", {}), (query, {"Setpoint-Operating-Point": "p"})):
        response = fraud.post(address, content=BODIES[name], headers=headers)
        assert response.status_code == 200, response.text
        assert {**response.json(), "request_id": ""} == {**expected, "request_id": ""}


def test_features_and_logits_too(fraud: TestClient) -> None:
    """Of any model with a head."""
    for kind, rows in (("features", FEATURES), ("logits", LOGITS)):
        expected = fraud.post("/predict", json={"model": "fraud", kind: rows.tolist()}).json()["predictions"]
        found = fraud.post(f"/predict?model=fraud&rows={kind}", content=npy(rows)).json()["predictions"]
        for field in ("margin", "probabilities"):
            assert np.allclose([row[field] for row in found], [row[field] for row in expected], atol=1e-5)


def test_an_answer_as_records(fraud: TestClient) -> None:
    """The same numbers as in JSON; version and point in headers."""
    publish(fraud, "p", 0.5)
    address = "/predict?model=fraud&operating_point=p"
    expected = fraud.post(address, content=npy(X)).json()
    response = fraud.post(address, content=npy(X), headers={"accept": "application/x-npy"})
    assert response.headers["content-type"] == "application/x-npy"
    assert response.headers["setpoint-model-version"] == "1"
    assert response.headers["setpoint-operating-point"] == "p@1"
    assert response.headers["x-request-id"]
    records = np.load(io.BytesIO(response.content), allow_pickle=False)
    for field in ("probabilities", "adjusted", "margin"):
        assert records[field].tolist() == [row[field] for row in expected["predictions"]]
    assert [expected["classes"][i] for i in records["label"]] == [row["label"] for row in expected["predictions"]]


def claimed(shape: str, descr: str = "<f4") -> bytes:
    """A `.npy` header alone, padded as numpy does."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        (b"\x93NUMPY", 422, "bad-cache", "header is cut off"),
        (b"\x93NUMPY\x01\x00\xff\xff{", 422, "bad-cache", "header is cut off"),
        (npy(X)[:-1], 422, "bad-cache", "not the 639 bytes that came"),
        (claimed("(10000000000, 4)"), 422, "bad-cache", "not the 0 bytes that came"),
        (claimed("(-1, 4)"), 422, "bad-cache", "no shape that can be"),
        (claimed("(1, 4)", "|O"), 422, "bad-cache", "must hold numbers"),
        (claimed("(2, 2)", "<U4"), 422, "bad-cache", "must hold numbers"),
        (claimed("__import__('os')"), 422, "bad-cache", "cannot be read"),
        (npy(np.array([{}]), allow_pickle=True), 422, "bad-cache", "must hold numbers"),
        (npy(X[:, :3]), 422, "wrong-shape", "wanted rows of shape (4), got shape (3,)"),
        (npy(X[0]), 422, "wrong-shape", "wanted rows of shape (4), got shape ()"),
        (npy(X[:0]), 422, "no-rows", "wanted at least one row"),
        (npy(np.array(1, np.float32)), 422, "no-rows", "wanted at least one row"),
        (npy(X * np.float32(np.inf)), 400, "bad-request", "[0, 0] has to fit float32"),
        (npy(X * np.float32(np.nan)), 422, "not-finite", "it may not take a missing value"),
        (b"\xff\xff\xff\xff", 422, "bad-cache", "not a whole Arrow file"),
        (BODIES["columns"][:300], 422, "bad-cache", "not a whole Arrow file"),
        (BODIES["tensor"][:-8], 422, "bad-cache", "not a whole Arrow file"),
        (BODIES["file of columns"][:-6], 422, "bad-cache", "does not begin and end as one"),
        (arrow(pa.table({"x": lists(X), "y": X[:, 0]})), 400, "bad-request", "or numbers all"),
        (arrow(pa.table({"x": pa.array([[1.0], [1.0, 2.0]])})), 422, "bad-cache", "lists of one length"),
        (arrow(pa.table({"x": pa.array(["a", "b"])})), 422, "wrong-shape", "input 'x'"),
        (arrow(pa.table({"a": X[:, 0], "b": X[:, 1]})), 422, "wrong-shape", "got shape (2,)"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_refused(
    standing: TestClient, body: bytes, status: int, kind: str, said: str
) -> None:
    """One problem each, and the next call is answered."""
    assert said in refused(standing.post("/predict?model=fraud", content=body), status, kind)
    alive(standing)


def test_json_says_all_in_its_body(standing: TestClient) -> None:
    """What only goes with packed rows is not passed over; what means nothing here is."""
    body = {"model": "fraud", "inputs": X.tolist()}
    for query in ("operating_point=p@1&model_version=1", "x=1&operating%5Fpoint", "compare=argmax", "+=&rows=logits"):
        said = refused(standing.post(f"/predict?{query}", json=body), 400, "bad-request")
        assert "belongs into the body, not into the query" in said
    answer = standing.post("/predict", json=body, headers={"Setpoint-Operating-Point": "p"})
    assert "'Setpoint-Operating-Point' belongs into the body" in refused(answer, 400, "bad-request")
    assert standing.post("/predict?trace=1", json=body).status_code == 200


def test_the_header_that_decides_comes_once(standing: TestClient) -> None:
    """Of two a proxy may read one and the server the other; on each route that reads it."""
    twice = [("Setpoint-Operating-Point", "argmax"), ("Setpoint-Operating-Point", "argmax")]
    for route in ("/predict?model=fraud", "/v2/models/fraud/infer"):
        answer = standing.post(route, content=npy(X), headers=twice)
        assert answer.status_code == 400
        assert "'setpoint-operating-point' came more than once" in answer.text


@pytest.mark.parametrize(
    ("query", "status", "kind", "said"),
    [
        ("", 400, "bad-request", "model must be a text, it is missing"),
        ("model=nope", 404, "unknown-model", "no model 'nope'"),
        ("model=fraud&model=fraud", 400, "bad-request", "more than once"),
        ("model=fraud&theshold=1", 400, "bad-request", "got 'theshold'"),
        ("model=fraud&model_version=x", 400, "bad-request", "model_version must be a whole number"),
        ("model=fraud&model_version=9", 404, "unknown-version", "no version 9"),
        ("model=fraud&operating_point=x", 404, "unknown-point", "'x'"),
        ("model=fraud&rows=x", 400, "bad-request", "rows must be one of inputs, features, logits"),
        ("model=fraud&timeout_ms=0", 400, "bad-request", "timeout_ms must be"),
        ("model=fraud&" + "compare=a&" * 2000, 400, "bad-request", "the query may have"),
        ("model=fraud&" + "compare=a&" * 300, 400, "bad-request", "at most 200 fields"),
        ("model=fraud" + "".join(f"&compare=p@{i}" for i in range(101)), 413, "too-large", "at most 100 points, got"),
    ],
)  # fmt: skip
def test_a_query_that_does_not_fit_is_refused(
    standing: TestClient, query: str, status: int, kind: str, said: str
) -> None:
    """As the same in JSON would be."""
    assert said in refused(standing.post(f"/predict?{query}", content=npy(X)), status, kind)
    alive(standing)
