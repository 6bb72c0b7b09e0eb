"""Requests that are answered where they are read, on real connections: as any other way, and never out of turn."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest

from service.client import Client
from service.monitoring.monitor import Call
from service.web.doorway import _say
from service.web.hot import Reply
from tests.models import WIDTH, network
from tests.servers import Server, running

KEEP_ALIVE_S = 2
ROW = [0.5, -1.0, 2.0, 0.0]


class Came(NamedTuple):
    """An answer: its status, its headers by name, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a model and one point."""
    folder = tmp_path_factory.mktemp("in-place")
    (folder / "net.onnx").write_bytes(network(2))
    point = {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0.1]}
    with running(folder, SETPOINT_KEEP_ALIVE_S=str(KEEP_ALIVE_S), SETPOINT_HEAD_S="4") as started:
        with Client(started.address) as client:
            client.register(folder / "net.onnx", "m", classes='["a", "b"]')
        started.post("/models/m/operating-points", {"name": "p", "point": point})
        yield started


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    """A connection of its own."""
    with closing(socket.create_connection(("127.0.0.1", int(server.address.rsplit(":", 1)[1])), timeout=20)) as made:
        yield made


def request(body: bytes, path: str = "/predict", *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", "X-Request-Id: same", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def asks(**ask: object) -> bytes:
    """A body for the model."""
    return json.dumps({"model": "m", **ask}).encode()


def read(connection: socket.socket, count: int = 1) -> list[Came]:
    """The next answers on a connection, and nothing behind them."""
    came, found = b"", list[Came]()
    while len(found) < count:
        more = connection.recv(65536)
        assert more, f"closed after {len(found)} answers"
        came += more
        while b"\r\n\r\n" in came:
            head, _, rest = came.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            assert len(headers) == len(lines)
            length = int(headers["content-length"])
            if len(rest) < length:
                break
            found.append(Came(int(first.split()[1]), headers, rest[:length]))
            came = rest[length:]
    assert not came
    return found


V2 = "/v2/models/m/infer"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": ROW}
ASKED = {
    "rows": ("/predict", asks(inputs=[ROW] * 3, operating_point="p")),
    "more points": ("/predict", asks(inputs=[ROW], operating_point=["p"], compare=["p", "argmax"])),
    "features, which take a thread": ("/predict", asks(features=[[0.0] * 6])),
    "logits": ("/predict", asks(logits=[[0.5, 1]])),
    "no such model": ("/predict", asks(model="nope", inputs=[ROW])),
    "no such point": ("/predict", asks(inputs=[ROW], operating_point="nope")),
    "no JSON": ("/predict", b"{"),
    "nothing": ("/predict", b""),
    "a query where none belongs": ("/predict?model=m", asks(inputs=[ROW])),
    "an address in escapes": ("/%70redict", asks(inputs=[ROW])),
    "a slash in escapes": ("/v2/models/m%2Finfer", asks()),
    "a fragment": ("/predict#here", asks(inputs=[ROW])),
    "a query and a fragment": ("/predict?model=m#here", asks(inputs=[ROW])),
    "no such address": ("/predicted", asks(inputs=[ROW])),
    "infer": (V2, json.dumps({"inputs": [TENSOR]}).encode()),
    "infer without inputs": (V2, b"{}"),
    "infer of no model": ("/v2/models/nope/infer", json.dumps({"inputs": [TENSOR]}).encode()),
}


@pytest.mark.parametrize("name", ASKED)
def test_how_it_is_read_changes_nothing(server: Server, connection: socket.socket, name: str) -> None:
    """Whole or in two pieces, which is answered in place where that can be, and slowly, which never is."""
    path, body = ASKED[name]
    whole = request(body, path)
    connection.sendall(whole)
    (at_once,) = read(connection)
    assert at_once.headers.pop("date")
    for pause_s in (0.03, 0.2):
        connection.sendall(whole[:-1] if body else whole[:-2])
        time.sleep(pause_s)
        connection.sendall(whole[-1:] if body else whole[-2:])
        (in_pieces,) = read(connection)
        assert in_pieces.headers.pop("date")
        assert at_once == in_pieces
    assert server.get("/health/live")["status"] == "ok"


def test_answers_come_in_the_order_of_the_questions(connection: socket.socket) -> None:
    """Many in one write, some of which wait for a thread or are not hot; and again on the same connection."""
    kinds = [
        request(asks(inputs=[ROW])), request(asks(features=[[0.0] * 6] * 2)),
        b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        request(asks(inputs=[ROW] * 3)), request(b"{"), request(asks(inputs=[ROW] * 4)),
    ]  # fmt: skip
    for _ in range(3):
        connection.sendall(b"".join(kinds * 3))
        found = read(connection, 3 * len(kinds))
        rows = [len(json.loads(came.body)["predictions"]) for came in found if b'"predictions"' in came.body]
        assert [came.status for came in found] == [200, 200, 200, 200, 400, 200] * 3
        assert rows == [1, 2, 3, 4] * 3


def test_an_answer_in_place_comes_behind_one_that_is_made(connection: socket.socket) -> None:
    """A request that is read while another is being answered waits for its turn."""
    for _ in range(20):
        connection.sendall(request(asks(features=[[0.0] * 6] * 2)))
        connection.sendall(request(asks(inputs=[ROW])))
        found = read(connection, 2)
        assert [len(json.loads(came.body)["predictions"]) for came in found] == [2, 1]


def padded(size: int, **ask: object) -> bytes:
    """A body of a size."""
    return asks(**ask).ljust(size)


def test_a_head_that_came_before_is_read_as_before(server: Server, connection: socket.socket) -> None:
    """With other bodies of the same size, of which some have to wait, some are wrong, and some come in pieces or with
    others; and with other heads in between.
    """
    bodies = {
        1: padded(300, inputs=[ROW]), 3: padded(300, inputs=[ROW] * 3), 2: padded(300, features=[[0.0] * 6] * 2),
        -1: b"{".ljust(300), -2: padded(300, model="nope", inputs=[ROW]),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    wanted: list[int] = []
    with closing(socket.create_connection(connection.getpeername(), timeout=20)) as apart:
        for _ in range(150):
            names = rng.choice(list(bodies), rng.choice([1, 1, 1, 1, 2, 3])).tolist()
            sent = b"".join(request(bodies[name]) for name in names)
            if rng.random() < 0.1:
                sent += b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            cut = int(rng.integers(1, len(sent))) if rng.random() < 0.2 else len(sent)
            connection.sendall(sent[:cut])
            if cut < len(sent):
                time.sleep(0.005)
                connection.sendall(sent[cut:])
            found = read(connection, len(names) + (b"GET" in sent))
            for name, came in zip(names, found, strict=False):
                wanted.append(name)
                if name > 0:
                    assert (came.status, len(json.loads(came.body)["predictions"])) == (200, name)
                else:
                    assert came.status == {-1: 400, -2: 404}[name]
            if b"GET" in sent:
                assert json.loads(found[-1].body)["status"] == "ok"
        apart.sendall(request(bodies[3]))
        assert len(json.loads(read(apart)[0].body)["predictions"]) == 3
    assert set(wanted) == set(bodies)
    assert server.get("/health/live")["status"] == "ok"


def test_a_head_of_which_only_a_part_came_at_once_is_not_taken_for_another(connection: socket.socket) -> None:
    """The first byte of a verb, ahead of what looks like a whole head of a request by itself."""
    whole = request(padded(300, inputs=[ROW]))
    for _ in range(3):
        connection.sendall(whole)
        assert read(connection)[0].status == 200
        connection.sendall(whole[:1])
        time.sleep(0.02)
        connection.sendall(whole[1:])
        assert read(connection)[0].status == 200
        connection.sendall(b"\r\n")
        time.sleep(0.02)
        connection.sendall(whole)
        assert read(connection)[0].status == 200
    connection.sendall(whole[1:])
    assert read(connection)[0].status == 400


def test_a_key_that_ends_ends_for_a_head_that_is_known(tmp_path: Path) -> None:
    """Who calls is asked each time; so is how often."""

    def keys(*command: str) -> str:
        whole = [sys.executable, "-m", "service", "keys", *command, "--data", str(tmp_path / "data")]
        return subprocess.run(whole, capture_output=True, text=True, check=True).stdout

    scopes = [word for scope in ("predict", "manage") for word in ("--scope", scope)]
    key = json.loads(keys("create", "--name", "caller", *scopes, "--json"))
    with running(tmp_path, until="/health/live", SETPOINT_PREDICT_PER_S="50") as server:
        (tmp_path / "net.onnx").write_bytes(network(2))
        with mock.patch.dict(os.environ, {"SETPOINT_TOKEN": key["key"]}), Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m", classes='["a", "b"]')
        port = int(server.address.rsplit(":", 1)[1])
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
            one = request(asks(inputs=[ROW]), "/predict", f"Authorization: Bearer {key['key']}")
            statuses = []
            for _ in range(70):
                connection.sendall(one)
                statuses.append(read(connection)[0].status)
            assert (statuses[0], set(statuses)) == (200, {200, 429})
            keys("revoke", key["id"])
            until = time.monotonic() + 10
            while statuses[-1] != 401 and time.monotonic() < until:
                time.sleep(0.05)
                connection.sendall(one)
                statuses.append(read(connection)[0].status)
            assert statuses[-1] == 401


def test_a_body_in_chunks_is_read_as_such(connection: socket.socket) -> None:
    """Whole or not; what comes behind it is the next request."""
    body = asks(inputs=[ROW])
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    connection.sendall(head + chunks + request(asks(inputs=[ROW] * 2)))
    assert [len(json.loads(came.body)["predictions"]) for came in read(connection, 2)] == [1, 2]


def test_who_is_to_go_on_is_told_so(connection: socket.socket) -> None:
    """`Expect: 100-continue` is answered as it is asked."""
    body = asks(inputs=[ROW])
    whole = request(body, "/predict", "Expect: 100-continue")
    connection.sendall(whole[: -len(body)])
    assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    assert read(connection)[0].status == 200


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_connection_that_is_to_close_does(connection: socket.socket, version: str) -> None:
    """By the client's word, or as HTTP/1.0 has it."""
    whole = request(asks(inputs=[ROW]), "/predict", *(["Connection: close"] if version == "1.1" else []))
    connection.sendall(whole.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    (came,) = read(connection)
    assert (came.status, came.headers["connection"]) == (200, "close")
    assert connection.recv(1) == b""


def test_an_idle_connection_is_let_go_of(connection: socket.socket) -> None:
    """So long after its last answer, however many it had."""
    for _ in range(3):
        connection.sendall(request(asks(inputs=[ROW])))
        assert read(connection)[0].status == 200
        time.sleep(KEEP_ALIVE_S * 0.6)
    connection.sendall(request(asks(inputs=[ROW])))
    assert read(connection)[0].status == 200
    began = time.monotonic()
    assert connection.recv(1) == b""
    assert KEEP_ALIVE_S - 0.2 < time.monotonic() - began < KEEP_ALIVE_S + 1.5


def test_a_head_after_an_answer_has_its_own_time(connection: socket.socket) -> None:
    """Longer than a connection may be idle, and not without end."""
    connection.sendall(request(asks(inputs=[ROW])))
    assert read(connection)[0].status == 200
    whole = request(asks(inputs=[ROW]))
    connection.sendall(whole[:20])
    time.sleep(KEEP_ALIVE_S + 1)
    connection.sendall(whole[20:])
    assert read(connection)[0].status == 200
    connection.sendall(whole[:20])
    assert read(connection)[0].status == 408


def test_a_large_body_is_taken_in_many_reads(connection: socket.socket) -> None:
    """In place or not, quickly or in very small pieces; and the next request is read as itself."""
    rows = np.zeros((40_000, WIDTH), np.float32)
    made = io.BytesIO()
    np.save(made, rows)
    whole = request(made.getvalue(), "/predict?model=m", "Accept: application/x-npy")
    assert len(whole) > 2 * 256_000
    for size, pause_s in ((len(whole), 0.0), (100_000, 0.005), (1500, 0.0), (60_000, 0.03)):
        for at in range(0, len(whole), size):
            connection.sendall(whole[at : at + size])
            time.sleep(pause_s)
        connection.sendall(request(asks(inputs=[ROW])))
        large, small = read(connection, 2)
        assert (large.status, len(np.load(io.BytesIO(large.body)))) == (200, len(rows))
        assert small.status == 200


def test_a_server_that_stops_answers_what_has_begun_to_come(tmp_path: Path) -> None:
    """Half a body is there when it is told to stop, the other half comes after."""
    with running(tmp_path, SETPOINT_DRAIN_S="0.5") as server:
        (tmp_path / "net.onnx").write_bytes(network(2))
        with Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m", classes='["a", "b"]')
        port, whole = int(server.address.rsplit(":", 1)[1]), request(asks(inputs=[ROW] * 50))
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
            for _ in range(3):
                connection.sendall(whole)
                assert read(connection)[0].status == 200
            server.process.terminate()
            time.sleep(0.45)
            for at in range(0, len(whole), 200):
                connection.sendall(whole[at : at + 200])
                time.sleep(0.06)
            (came,) = read(connection)
        assert (came.status, came.headers["connection"]) == (200, "close")


def test_a_client_that_does_not_read_is_not_written_to_without_end(server: Server, connection: socket.socket) -> None:
    """Its questions wait then, and all are answered once it reads."""
    count, ask = 400, request(asks(inputs=[ROW] * 200))
    connection.setblocking(False)  # as the socket has it
    left, sent, until = memoryview(ask * count), 0, time.monotonic() + 3
    while sent < len(left) and time.monotonic() < until:
        try:
            sent += connection.send(left[sent : sent + 65536])
        except BlockingIOError:
            time.sleep(0.01)
    assert server.get("/health/live")["status"] == "ok"
    connection.setblocking(True)
    connection.settimeout(20)
    whole = sent // len(ask)
    assert [came.status for came in read_some(connection, whole)] == [200] * whole


def read_some(connection: socket.socket, count: int) -> list[Came]:
    """The next answers, the last of which may be followed by a part of another."""
    came, found = b"", list[Came]()
    while len(found) < count:
        came += connection.recv(2**20)
        while (at := came.find(b"\r\n\r\n")) >= 0:
            lines = dict(line.split(b": ", 1) for line in came[:at].split(b"\r\n")[1:])
            end = at + 4 + int(lines[b"content-length"])
            if len(came) < end:
                break
            found.append(Came(int(came.split(b" ", 2)[1]), {}, b""))
            came = came[end:]
    return found[:count]


def test_what_is_answered_in_place_is_counted(connection: socket.socket) -> None:
    """By route, status and rows, as every request is."""

    def numbers() -> tuple[float, float]:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        lines = read(connection)[0].body.decode().splitlines()
        calls, rows = (
            sum(float(line.split()[-1]) for line in lines if line.startswith(name))
            for name in (
                'setpoint_http_requests_total{method="POST",route="/predict",status="200"}',
                'setpoint_predict_rows_total{model="m"',
            )
        )
        return calls, rows

    before = numbers()
    connection.sendall(request(asks(inputs=[ROW] * 7)))
    assert read(connection)[0].status == 200
    after = numbers()
    assert (after[0] - before[0], after[1] - before[1]) == (1, 7)


def test_no_header_ends_before_its_end() -> None:
    """Whatever a part of the service puts into one."""
    call = Call()
    call.request_id = "id"
    good = _say(Reply(b"{}", headers=((b"x", "é".encode()),)), call)
    assert b"\r\nx: \xc3\xa9\r\n" in good.headers
    for value in (b"a\r\nset-cookie: b", b"a\nb", b"a\x00"):
        with pytest.raises(ValueError, match="control character"):
            _say(Reply(b"{}", headers=((b"x", value),)), call)
