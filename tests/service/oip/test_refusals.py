"""What does not fit is refused in the protocol's own shape, with the item named, and the next request is answered."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.main import make_app
from service.settings import Settings
from service.web.routes import ROUTES
from tests.models import WIDTH, network
from tests.service.conftest import CLASSES, Start, refused_v2, register
from tests.service.oip.ask import INFER, infer, read, tensor

X = np.zeros((1, WIDTH), dtype=np.float32)
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def fraud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for all that is refused: none of it may leave a trace."""
    app = make_app(Settings(data=tmp_path_factory.mktemp("data")))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        register(client, network(2), classes=CLASSES)
        yield client


def alive(client: TestClient) -> None:
    """The next request is answered."""
    read(infer(client, tensor("x", X, binary=True)))


def given(**changes: Any) -> dict[str, Any]:
    """A good request with one input, changed."""
    item = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0], **changes}
    return {"inputs": [{key: value for key, value in item.items() if value is not None}]}


GOOD = given()["inputs"][0]
NESTED = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"inputs": ' + NESTED.encode() + b"}", "not JSON"),
        (b'{"inputs": [{"data": [NaN]}]}', "holds NaN or Infinity, which JSON has not; send the tensor as binary data"),
        (b'{"inputs": [{"data": [-Infinity]}]}', "holds NaN or Infinity"),
        ({}, "inputs must be a list of tensors, it is missing"),
        ({"inputs": {}}, "inputs must be a list of tensors"),
        ({"inputs": []}, "takes the inputs x (and 'operating_point'); got none"),
        ({"inputs": [1]}, "inputs[0] must be an object"),
        ({"inputs": [{}]}, "inputs[0]: name must be a text that is not empty"),
        ({"inputs": [GOOD, GOOD]}, "input 'x' comes more than once"),
        (given(name="y"), "takes the inputs x (and 'operating_point'); got y"),
        ({"inputs": [GOOD, {**GOOD, "name": "y"}]}, "got x, y"),
        (given(name=""), "name must be a text that is not empty"),
        (given(datatype=None), "datatype must be one of BOOL, UINT8"),
        (given(datatype="BF16"), "datatype must be one of"),
        (given(datatype="fp32"), "got 'fp32'"),
        (given(datatype="FP64"), "input 'x' must be FP32, got FP64"),
        (given(datatype="FP16"), "FP16 is taken as binary data only"),
        (given(shape=None), "shape must be a list"),
        (given(shape=4), "shape must be a list"),
        (given(shape=[1] * 17), "a list of at most 16"),
        (given(shape=[-1, 4]), "shape[0] must be a whole number from 0 up, got -1"),
        (given(shape=[1, 4.0]), "shape[1] must be a whole number from 0 up, got 4.0"),
        (given(shape=[True, 4]), "shape[0] must be a whole number from 0 up, got bool"),
        (given(shape=[2**62, 4]), "at most 2147483648 elements"),
        (given(shape=[2**32, 2**32]), "at most 2147483648 elements"),
        (given(shape=[0, 2**62]), "at most 2147483648 elements"),
        (given(shape=[2, 4]), "shape [2, 4] holds 8 elements, data has 4"),
        (given(shape=[4]), "must have shape [-1, 4], got [4]"),
        (given(shape=[], data=[1]), "must have shape [-1, 4], got []"),
        (given(shape=[4, 1]), "must have shape [-1, 4], got [4, 1]"),
        (given(data=None), "has neither data nor binary_data_size"),
        (given(data=3), "data must be a list"),
        (given(data="0000"), "data must be a list"),
        (given(data=[[0, 0], [0, 0]]), "nested data must have 1 items along axis 0, got 2"),
        (given(data=[[0, 0, 0]]), "nested data must have 4 items along axis 1, got 3"),
        (given(data=[[0, 0, 0, [0]]]), "element 3 must be a number or null, got a list"),
        (given(data=[0, 0, "0", 0]), "element 2 must be a number or null, got a text"),
        (given(data=[0, 0, 0, 1e39]), "element 3 has to fit float32, got 1e+39"),
        (given(data=[0, 0, 0, {}]), "element 3 must be a number or null, got an object"),
        (given(parameters=[]), "parameters must be an object"),
        (given(parameters={"a": []}), "'a' must be a text, a number, true or false"),
        (given(parameters={"binary_data_size": 16}), "has both data and binary_data_size"),
        ({**given(), "id": 3}, "id must be a text"),
        ({**given(), "parameters": 3}, "parameters must be an object"),
        ({**given(), "parameters": {"operating_point": 3}}, "operating_point must be a text"),
        ({**given(), "parameters": {"operating_point": ["a"]}}, "must be a text, a number, true or false"),
        ({**given(), "parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
        ({**given(), "parameters": {"priority": -1}}, "priority must be a whole number from 0 up, got '-1'"),
        ({**given(), "parameters": {"timeout": "soon"}}, "timeout must be a whole number from 0 up"),
        ({**given(), "outputs": {}}, "outputs must be a list"),
        ({**given(), "outputs": [{"name": "score"}]}, "there is no output 'score', only label, probabilities"),
        ({**given(), "outputs": [{"name": "label"}] * 2}, "output 'label' comes more than once"),
        ({**given(), "outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({**given(), "outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "cannot be a classif"),
        ({**given(), "outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, "from 0 up, got '-1'"),
        ({"inputs": [{**GOOD, "name": "features"}]}, "features: wanted 6"),
        ({"inputs": [{**GOOD, "name": "logits", "shape": [4]}]}, "must be FP32 or FP64 with 2 axes, got FP32"),
        ({"inputs": [{**GOOD, "name": "logits"}]}, "wanted 2 columns, one per class, got 4"),
    ],
)  # fmt: skip
def test_a_request_that_does_not_fit(standing: TestClient, call: Any, said: str) -> None:
    """400, and what it says names the place."""
    content = call if isinstance(call, bytes) else json.dumps(call).encode()
    assert said in refused_v2(standing.post(INFER, content=content), 400)
    alive(standing)


@pytest.mark.parametrize(
    ("name", "values", "datatype", "status", "said"),
    [
        ("operating_point", ["argmax", "argmax"], "BYTES", 400, "must have shape [1], one a row, got [2]"),
        ("operating_point", [[["argmax"]]], "BYTES", 400, "must have shape [1]"),
        ("operating_point", ["nope"], "BYTES", 404, "no operating point 'nope', only argmax@1"),
        ("operating_point", [""], "BYTES", 404, "no operating point ''"),
        ("operating_point", [1], "INT32", 400, "[0] must be an index from 0 to 0, as the model's metadata lists"),
        ("operating_point", [-1], "INT32", 400, "got -1"),
        ("operating_point", [0.0], "FP32", 400, "must be BYTES, names, or INT32, indices; got FP32"),
        ("operating_point", [True], "BOOL", 400, "must be BYTES, names, or INT32, indices; got BOOL"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_a_point_that_there_is_not(
    standing: TestClient, name: str, values: Any, datatype: str, status: int, said: str, binary: bool
) -> None:
    """For a row, as a parameter, as a header; twice at once is refused too."""
    point = tensor(name, values, datatype, binary=binary)
    assert said in refused_v2(infer(standing, tensor("x", X), point), status)
    twice = infer(standing, tensor("x", X), point, parameters={"operating_point": "argmax"})
    assert "was given as an input and as a parameter" in refused_v2(twice, 400)
    assert "'x@1'" in refused_v2(infer(standing, tensor("x", X), parameters={"operating_point": "x@1"}), 404)
    assert "'y'" in refused_v2(infer(standing, tensor("x", X), headers={"setpoint-operating-point": "y"}), 404)
    alive(standing)


@pytest.mark.parametrize(
    ("size", "behind", "said"),
    [
        (16, 15, "at most the 15 that are left behind the JSON; got 16"),
        (16, 17, "1 bytes are left behind the JSON and its 1 inputs"),
        (16, 0, "got 16"),
        (12, 12, "FP32 of shape [1, 4] is 16 bytes, got 12"),
        (-16, 16, "got -16"),
        (2**70, 16, "binary_data_size must be a whole number of bytes"),
        (16.0, 16, "got 16.0"),
        ("16", 16, "got 16"),
        (True, 16, "got True"),
    ],
)
def test_raw_bytes_that_do_not_add_up(standing: TestClient, size: Any, behind: int, said: str) -> None:
    """Too few, too many, or a size that is none."""
    head = json.dumps(given(data=None, parameters={"binary_data_size": size})).encode()
    response = standing.post(INFER, content=head + b"\0" * behind, headers={LENGTH: str(len(head))})
    assert said in refused_v2(response, 400)
    alive(standing)


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "9" * 18, "9" * 40, "0x10", "²", " ", "1.0", "+5"])
def test_a_header_length_that_is_none(standing: TestClient, length: str) -> None:
    """Not a number, below zero, beyond the body, beyond any integer."""
    head = json.dumps(given()).encode()
    response = standing.post(INFER, content=head, headers={LENGTH.encode(): length.encode()})
    assert "must be a whole number from 0 to the" in refused_v2(response, 400)
    alive(standing)


def test_a_header_length_that_ends_elsewhere(standing: TestClient) -> None:
    """Within the JSON, or behind its tensors' beginning."""
    head = json.dumps(given(data=None, parameters={"binary_data_size": 16})).encode()
    for length in (1, len(head) - 1, len(head) + 1, len(head) + 16):
        refused_v2(standing.post(INFER, content=head + b"\xff" * 16, headers={LENGTH: str(length)}), 400)
    alive(standing)


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"{}", "gzip", "the body is not gzip"),
        (b"{}", "deflate", "the body is not deflate in its zlib form"),
        (zlib.compress(b"{}")[2:-4], "deflate", "not deflate in its zlib form"),
        (gzip.compress(b"{}" * 500, mtime=0)[:-9], "gzip", "the gzip body is cut short"),
        (zlib.compress(b"{}")[:-1], "deflate", "the deflate body is cut short"),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", "4 bytes follow the gzip body"),
        (b"", "gzip", "cut short"),
        (b"{}", "br", "Content-Encoding must be gzip, deflate or identity, got 'br'"),
        (b"{}", "gzip, gzip", "Content-Encoding must be"),
    ],
)
def test_compression_that_is_none(standing: TestClient, content: bytes, encoding: str, said: str) -> None:
    """Another encoding, or a broken one."""
    assert said in refused_v2(standing.post(INFER, content=content, headers={"content-encoding": encoding}), 400)
    alive(standing)


def test_every_error_has_the_protocols_shape(fraud: TestClient) -> None:
    """Whatever part of the server it comes from."""
    head = json.dumps(given()).encode()
    for verb, path, status in [
        ("GET", "/v2/nope", 404),
        ("GET", "/v2/", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/models/fraud", 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/nope/config", 404),
        ("GET", "/v2/models/nope/stats", 404),
        ("POST", "/v2/models/nope/infer", 404),
        ("GET", "/v2/models/a%2Fb", 404),
        ("GET", "/v2/models/a%20b", 404),
        ("POST", "/v2/models/fraud/versions/2/infer", 404),
        ("POST", "/v2/models/fraud/versions/one/infer", 400),
        ("GET", "/v2/models/fraud/versions/-1", 400),
        ("GET", "/v2/models/fraud/versions/99999999999999999999", 400),
        ("GET", "/v2/models/fraud/versions/%C2%B2/ready", 400),
        ("POST", "/v2/repository/models/nope/load", 404),
        ("POST", "/v2/repository/models/nope/unload", 404),
        ("POST", "/v2/repository/models/fraud/unload", 501),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/a/register", 501),
        ("GET", "/v2/trace/setting", 501),
        ("POST", "/v2/models/fraud/trace/setting", 501),
        ("GET", "/v2/logging", 501),
        ("POST", "/v2/models/fraud/generate", 501),
    ]:
        said = refused_v2(fraud.request(verb, path, content=head if path.endswith("infer") else b""), status)
        assert said, path
    alive(fraud)


def test_what_the_protocol_has_and_this_server_has_not(fraud: TestClient) -> None:
    """501 in an infer request too."""
    for call, said in [
        ({**given(), "parameters": {"sequence_id": 3, "sequence_start": True}}, "sequences are not supported"),
        (given(data=None, parameters={"shared_memory_region": "a"}), "shared memory is not supported"),
        ({**given(), "outputs": [{"name": "label", "parameters": {"shared_memory_region": "a"}}]}, "shared memory"),
    ]:
        assert said in refused_v2(fraud.post(INFER, json=call), 501)
    read(fraud.post(INFER, json={**given(), "parameters": {"sequence_id": 0}}))


def test_a_fault_of_ours_is_told_without_its_words(fraud: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 in the protocol's shape."""
    monkeypatch.setattr("service.web.oip.infer.find_logits_now", lambda *_: 1 / 0)
    response = infer(fraud, tensor("x", X))
    assert "division" not in refused_v2(response, 500)


def test_a_web_page_of_another_site_is_refused_in_the_same_shape(fraud: TestClient) -> None:
    """403."""
    for route in (route for route in ROUTES if route.path.startswith("/v2") and route.scope != "open"):
        path = route.path.format(model="fraud", version="1")
        refused_v2(fraud.request(route.verb, path, headers={"origin": "https://evil.example"}), 403)


def test_the_token_may_come_as_a_password(start: Start) -> None:
    """As `tritonclient`'s plugin sends it."""
    client, token = start(token="a-token-of-32-characters-or-more"), "a-token-of-32-characters-or-more"
    assert client.get("/v2", auth=("anyone", token)).status_code == 200
    assert client.get("/v2", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for authorization in ("Basic", "Basic !!!", "Basic " + "YQ==", "Basic w6k6w6k=", "Basic /w==", "Digest a"):
        refused_v2(client.get("/v2", headers={"Authorization": authorization}), 401)
    refused_v2(client.get("/v2", auth=(token, "wrong")), 401)
