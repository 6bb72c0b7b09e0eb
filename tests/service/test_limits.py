"""Every limit, just below it and just above it, on real connections where the wire matters."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.models import network
from tests.servers import Server, running
from tests.service.conftest import CLASSES, Start, alive, refused, register

ASK = {"model": "fraud", "inputs": [[0.0, 0.0, 0.0, 0.0]]}
HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with small limits."""
    with running(
        tmp_path_factory.mktemp("limits"),
        SETPOINT_BODY_S="1",
        SETPOINT_HEAD_S="1",
        SETPOINT_HEAD_BYTES="4096",
        SETPOINT_BODY_BYTES="50000",
    ) as started:
        yield started


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    """A connection to it."""
    port = int(server.address.rsplit(":", 1)[1])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        yield connection


def answer_to(server: Server, *pieces: bytes, pause_s: float = 0) -> bytes:
    """All that comes back for what is sent, until the server closes, or two seconds after it fell silent."""
    with connected(server) as connection:
        came = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
        except OSError:  # closed meanwhile
            pass
        connection.settimeout(2)
        try:
            while more := connection.recv(65536):
                came += more
        except OSError:
            pass
    return came


def wait_for_close(connection: socket.socket) -> float:
    """Sends a byte now and then; the seconds until the server has closed, 10 where it does not."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < 10:
            connection.sendall(b"x")
            time.sleep(0.1)
    except OSError:
        pass
    return time.monotonic() - began


def status(answer: bytes) -> int:
    """Of the first answer; 0 where the server closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def is_alive(server: Server) -> bool:
    """Whether the next call is answered at once."""
    began = time.monotonic()
    return server.get("/health/live")["status"] == "ok" and time.monotonic() - began < 2


def test_a_head_has_a_size(server: Server) -> None:
    """In many headers, in one, in one without end, and in the address."""
    for fits, head in (
        (True, HEAD + "X: " + "a" * 3900 + "\r\nContent-Length: 2\r\n\r\n{}"),
        (False, HEAD + "X: " + "a" * 4200 + "\r\n\r\n"),
        (False, HEAD + "".join(f"X-{i}: a\r\n" for i in range(1000)) + "\r\n"),
        (True, "GET /" + "a" * 3900 + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        (False, "GET /" + "a" * 5000 + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    ):
        answer = answer_to(server, head.encode())
        assert status(answer) in ((400, 404) if fits else (431,)), answer
        assert fits or b"at most 4096 bytes" in answer
    endless = answer_to(server, HEAD.encode() + b"X: ", *[b"a" * 1000] * 100, pause_s=0.001)
    assert status(endless) == 431
    assert is_alive(server)


def test_a_head_has_a_time(server: Server) -> None:
    """Whoever sends a byte now and then, or nothing at all, is let go of; so is who sends on after a refusal."""
    for pieces in ([b"POST"], [b"POST /predict HTTP/1.1\r\n"] + [b"X: a\r\n"] * 30, [b""], [b"\r\n"] * 30):
        began = time.monotonic()
        answer = answer_to(server, *pieces, pause_s=0.1)
        assert time.monotonic() - began < 6
        assert status(answer) in (0, 408)
    too_much = HEAD.encode() + b"Content-Length: 60000\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(too_much)
        came = connection.recv(65536)
        assert status(came) == 413
        assert wait_for_close(connection) < 5
    assert is_alive(server)


def test_a_connection_may_be_used_again_and_idle(server: Server) -> None:
    """The time of a head is not that of a connection that was answered."""
    get = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(get[:10])
            time.sleep(0.3)
            connection.sendall(get[10:])
            came = b""
            while b'"status"' not in came:
                came += connection.recv(65536)
            assert status(came) == 200
            time.sleep(1.3)


def test_a_body_has_a_time(server: Server) -> None:
    """One that comes slowly but in time is answered; a second too late it is 408."""
    body = json.dumps(ASK).encode()
    head = HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(body)
    assert status(answer_to(server, head, body[:5], body[5:], pause_s=0.2)) == 404
    late = answer_to(server, head, *[body[i : i + 1] for i in range(20)], pause_s=0.1)
    assert status(late) == 408
    assert b"within 1 s" in late
    assert is_alive(server)


def test_a_body_in_very_many_pieces(server: Server) -> None:
    """A few tiny ones are fine; thousands of them, each by itself, are not read to their end."""

    def chunks(count: int) -> list[bytes]:
        return [b"1\r\n \r\n" for _ in range(count)]

    head = HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    assert status(answer_to(server, head, *chunks(50), b"2\r\n{}\r\n0\r\n\r\n", pause_s=0.001)) == 400
    began = time.monotonic()
    assert status(answer_to(server, head + b"".join(chunks(49_000)) + b"2\r\n{}\r\n0\r\n\r\n")) == 400
    assert status(answer_to(server, head + b"".join(chunks(51_000)) + b"0\r\n\r\n")) == 413
    assert time.monotonic() - began < 15
    assert is_alive(server)


SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SMUGGLING = {
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
    "two lengths in one": b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED),
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked and another": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 0\r\n\r\n",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a length in hex": b"Content-Length: 0x0\r\n\r\n",
    "a length past 64 bits": b"Content-Length: 18446744073709551616\r\n\r\n",
    "a chunk past 64 bits": b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk of no size": b"Transfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    "a chunk longer than it says": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "a bare line feed": b"Content-Length: 0\n\n",
    "a bare carriage return": b"X: a\rContent-Length: 0\r\n\r\n",
    "a null in a header": b"X: a\0b\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_a_second_request_cannot_hide_in_a_first(server: Server, name: str) -> None:
    """Where a proxy might see one request and the server two: one refusal, and nothing else."""
    answer = answer_to(server, HEAD.encode() + SMUGGLING[name] + SMUGGLED)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert is_alive(server)


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


def upgrading(body: bytes = b"", more: bytes = b"") -> bytes:
    """A request that would rather speak HTTP/2, as `curl --http2` sends it."""
    return HEAD.encode() + UPGRADE + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_an_upgrade_is_ignored(server: Server) -> None:
    """The body is the request's, whole or in pieces, by its length or in chunks; requests behind it are answered once
    each, and what hides in it is not.
    """
    body = b'{"model": "nope", "logits": [[0, 1]]}'
    whole = upgrading(body)
    chunked = HEAD.encode() + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    pieces = [whole[:30], whole[30:-20], whole[-20:]]
    websocket = whole.replace(b"h2c", b"websocket")
    for sent in ([whole], [chunked], pieces, [websocket], [bytes([byte]) for byte in whole]):
        answer = answer_to(server, *sent, pause_s=0.002)
        assert status(answer) == 404
        assert b"no model 'nope'" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
    plain = HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for at_once, answers in (
        (plain + whole + whole + plain, 4),
        (chunked + plain + chunked, 3),
        (upgrading() + plain, 2),
        (SMUGGLED.replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n") + plain, 2),
        (upgrading(SMUGGLED) + SMUGGLED, 2),
        (whole * 200, 200),
    ):
        answer = answer_to(server, at_once)
        assert answer.count(b"HTTP/1.1 ") == answers, answer
        assert b"HTTP/1.1 101" not in answer
    assert is_alive(server)


@pytest.mark.parametrize("name", SMUGGLING)
def test_nor_does_a_request_hide_behind_an_upgrade(server: Server, name: str) -> None:
    """Such a head is as strictly read as any other."""
    answer = answer_to(server, HEAD.encode() + UPGRADE + SMUGGLING[name] + SMUGGLED)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1, answer


def test_a_head_that_upgrades_has_the_same_limits(server: Server) -> None:
    """Of size, and of time where it does not end."""
    assert status(answer_to(server, upgrading(more=b"X: %b\r\n" % (b"a" * 5000)))) == 431
    assert status(answer_to(server, upgrading()[:-2], pause_s=1.5)) == 408
    assert status(answer_to(server, upgrading(b"{}")[:-1], pause_s=1.5)) == 408
    assert status(answer_to(server, upgrading(b"{" + b" " * 60_000))) == 413


def test_a_tunnel_is_refused(server: Server) -> None:
    """Nothing behind it is read."""
    answer = answer_to(server, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + SMUGGLED)
    assert status(answer) == 501
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert is_alive(server)


def test_headers_after_the_body_are_left_out(server: Server) -> None:
    """What decides who calls was in the head; a trailer joins nothing, and has the head's size."""
    head = HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    assert status(answer_to(server, head + b"X-Request-Id: trailer\r\n\r\n")) == 400
    many = b"".join(b"X-%d: a\r\n" % i for i in range(5000))
    answer = answer_to(server, head + many + b"\r\n")
    assert answer.count(b"HTTP/1.1") <= 2
    assert is_alive(server)


def test_packed_bodies_are_told_of(fraud: TestClient) -> None:
    """Not taken for broken JSON; as it is, it is taken under any name for that."""
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x"):
        answer = fraud.post("/predict", content=b"{}", headers={"content-encoding": encoding})
        assert "without Content-Encoding" in refused(answer, 415, "unknown-encoding")
    for encoding in ("", "identity", "Identity "):
        assert fraud.post("/predict", json=ASK, headers={"content-encoding": encoding}).status_code == 200


@pytest.mark.parametrize(
    "said", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"x-gzip , chunked", b"cow,chunked"]
)
def test_bodies_packed_on_their_way_are_told_of(server: Server, said: bytes) -> None:
    """Not taken as they are, and on no route."""
    for route in (b"/predict", b"/v2/models/fraud/infer"):
        head = HEAD.encode().replace(b"/predict", route) + b"Transfer-Encoding: " + said + b"\r\n\r\n"
        answer = answer_to(server, head + b"2\r\n{}\r\n0\r\n\r\n")
        assert status(answer) == 415
        assert b"the only Transfer-Encoding is chunked; got '" + said[:4] in answer
    chunked = HEAD.encode() + b"Transfer-Encoding:  Chunked \r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert b"model must be a text" in answer_to(server, chunked)


def test_a_body_may_be_nested_so_deep(fraud: TestClient) -> None:
    """What a call needs is shallow; rows have the depth of their shape."""

    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth - 1):
            value = [value]
        return {"x": value}

    point = {"name": "p", "point": {"classes": ["clear", "fraud"], "scale": [1, 1], "bias": [0, 0]}}
    path = "/models/fraud/operating-points"
    assert fraud.post(path, json={**point, "details": {"deep": nested(19)["x"]}}).status_code == 201
    assert "32 deep" in refused(fraud.post(path, json={**point, "details": nested(32)}), 400, "bad-request")
    for depth in (1000, 1024, 1025, 100_000):
        for body in (b'{"model":' + b"[" * depth + b"]" * depth + b"}", b'{"model":"fraud","inputs":' + b"[" * depth):
            refused(fraud.post("/predict", content=body), 400, "bad-request")
        rows = b'{"model":"fraud","inputs":' + b"[" * depth + b"0" + b"]" * depth + b"}"
        assert fraud.post("/predict", content=rows).status_code in (400, 422)
    alive(fraud)


def test_rows_and_classes_are_bounded(start: Start) -> None:
    """Of a prediction, of a calibration in JSON and as a file, of a model."""
    client = start(predict_rows=3, calibrate_rows=40, classes=2)
    register(client, network(2), classes=CLASSES)
    assert client.post("/predict", json={**ASK, "inputs": [[0] * 4] * 3}).status_code == 200
    many = {**ASK, "inputs": [[0] * 4] * 4}
    assert "at most 3 rows" in refused(client.post("/predict", json=many), 413, "too-large")
    rng = np.random.default_rng(0)
    spec = {"model": "fraud", "name": "p", "metric": "f1"}
    for rows, code in ((40, 201), (41, 413)):
        labels = (np.arange(rows) % 2).tolist()
        data = {"labels": labels, "logits": rng.normal(size=(rows, 2)).tolist()}
        answer = client.post("/calibrate", json={**spec, "data": data})
        assert answer.status_code == code, answer.text
    said = refused(client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", network(3))}), 422, "bad-model")
    assert "at most 2 classes, this one has 3" in said
    alive(client)


def test_a_form_has_few_parts(fraud: TestClient) -> None:
    """Twenty fields and ten files are looked at, more are not read."""

    def form(fields: int, size: int = 1) -> bytes:
        part = '--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n%s\r\n'
        return ("".join(part % (i, "x" * size) for i in range(fields)) + "--b--\r\n").encode()

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert "form takes" in refused(fraud.post("/models", content=form(20), headers=headers), 400, "bad-request")
    many = fraud.post("/models", content=form(21), headers=headers)
    assert "Too many fields" in refused(many, 400, "bad-request")
    large = fraud.post("/models", content=form(1, 2**20 + 1), headers=headers)
    assert "cannot be read" in refused(large, 400, "bad-request")
    alive(fraud)


def test_settings_name_what_does_not_fit(tmp_path: Path) -> None:
    """Hosts without a port, limits above zero."""
    from pydantic import ValidationError

    from service.settings import Settings

    for setting in ({"hosts": "a:8000"}, {"hosts": "http://a"}, {"body_s": 0}, {"head_bytes": 1}, {"predict_per_s": 0}):
        with pytest.raises(ValidationError):
            Settings(data=tmp_path, **setting)
