"""Where requests begin and end on a connection that answers them where they are read: on real connections, byte by
byte where that matters.
"""

import asyncio
import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.client import Client
from service.in_place import protocol
from tests.models import network
from tests.servers import Server, running
from tests.service.test_in_place import ROW, asks, padded, read, request

KEEP_ALIVE_S = 1
SOON_S = 0.03  # long enough to be a read of its own, not long enough to be handed over


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a model."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "net.onnx").write_bytes(network(2))
    with running(folder, SETPOINT_KEEP_ALIVE_S=str(KEEP_ALIVE_S), SETPOINT_HEAD_S="2") as started:
        with Client(started.address) as client:
            client.register(folder / "net.onnx", "m", classes='["a", "b"]')
        yield started


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    """A connection of its own."""
    with closing(socket.create_connection(("127.0.0.1", int(server.address.rsplit(":", 1)[1])), timeout=20)) as made:
        yield made


def head_of(path: str, length: int) -> bytes:
    """Of a request that has a body."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_is_no_request_whatever_came_before(connection: socket.socket) -> None:
    """The end of one body, a head that is refused at once, and as much of its body as the first one had, in one read:
    what comes then is body still, although the same bytes were read before.
    """
    first = padded(300, inputs=[ROW])
    connection.sendall(head_of("/predict", 300) + first[:200])
    time.sleep(SOON_S)
    read_at_once = first[200:] + head_of("/nowhere", 3000) + padded(300, inputs=[ROW] * 2)
    connection.sendall(read_at_once)
    assert [came.status for came in read(connection, 2)] == [200, 404]
    left = 3000 - 300 - len(read_at_once)
    connection.sendall(read_at_once)
    time.sleep(SOON_S)
    connection.sendall(b" " * left + request(padded(300, inputs=[ROW] * 3)))
    (came,) = read(connection)
    assert len(json.loads(came.body)["predictions"]) == 3


def test_the_end_of_a_body_is_no_part_of_a_head(connection: socket.socket) -> None:
    """A request that comes in one read with the end of a body is known by its own head."""
    fake = b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
    connection.sendall(head_of("/nowhere", 100 + len(fake)) + b" " * 100)
    assert read(connection)[0].status == 404
    whole = head_of("/predict", 300) + padded(300, inputs=[ROW])
    connection.sendall(fake + whole)
    assert read(connection)[0].status == 200
    connection.sendall(fake + whole)
    (came,) = read(connection)
    assert (came.status, b"more than once" in came.body) == (400, True)


def test_a_head_is_as_large_as_it_is(connection: socket.socket) -> None:
    """Whatever came with it in one read, and the one before in several."""
    large = head_of("/predict", 20_000) + padded(20_000, inputs=[ROW])
    sent = large * 20
    at = [0, 10, 10 + 5 * len(large), *range(10 + 10 * len(large), len(sent), 2 * len(large)), len(sent)]
    for start, end in itertools.pairwise(at):
        connection.sendall(sent[start:end])
        time.sleep(SOON_S)
    assert [came.status for came in read(connection, 20)] == [200] * 20


@pytest.mark.parametrize("pause_s", [0, 0.2])
def test_a_fragment_ends_an_address(connection: socket.socket, pause_s: float) -> None:
    """Also within what would name a model."""
    whole = request(b"{}", "/v2/models/m#/infer")
    connection.sendall(whole[:-1])
    time.sleep(pause_s)
    connection.sendall(whole[-1:])
    assert read(connection)[0].status == 405


def test_a_connection_that_was_slow_once_is_let_go_of_when_it_is_idle(connection: socket.socket) -> None:
    """A request that took longer than anything is waited for, and one that was answered in place."""
    whole = request(asks(inputs=[ROW]))
    connection.sendall(whole[:-1])
    time.sleep(2.5 * KEEP_ALIVE_S)
    connection.sendall(whole[-1:])
    assert read(connection)[0].status == 200
    for _ in range(2):
        connection.sendall(whole)
        assert read(connection)[0].status == 200
    began = time.monotonic()
    connection.settimeout(8)
    assert connection.recv(1) == b""
    assert time.monotonic() - began < KEEP_ALIVE_S + 1.5


def test_who_leaves_with_more_waiting_behind_is_gone() -> None:
    """What is being answered hears of it, not only what came last; what waits behind it is never begun."""
    heard: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, _: Any) -> None:
        while True:
            kind = (await receive())["type"]
            heard.append((scope["path"], kind))
            if kind == "http.disconnect":
                return

    class Nothing:
        def find(self, _: Any) -> None:
            return None

        def answer(self, *_: Any) -> None:
            return None

    async def leave() -> None:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        made = protocol(Nothing(), 32 * 2**10, 20.0)(config, ServerState(), {})
        transport = mock.MagicMock(spec=asyncio.Transport)
        transport.is_closing.return_value, transport.get_extra_info.return_value = False, None
        made.connection_made(transport)
        made.data_received(b"".join(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in ("a", "b", "c")))
        await asyncio.sleep(0.01)
        made.connection_lost(ConnectionResetError())
        await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert heard == [("/a", "http.request"), ("/a", "http.disconnect")]


def test_what_is_held_when_the_end_begins_closes_its_connection(tmp_path: Path) -> None:
    """As every answer does that says so."""
    with running(tmp_path, SETPOINT_DRAIN_S="3", SETPOINT_KEEP_ALIVE_S="60") as server:
        (tmp_path / "net.onnx").write_bytes(network(2))
        with Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m", classes='["a", "b"]')
        port, whole = int(server.address.rsplit(":", 1)[1]), request(asks(inputs=[ROW] * 50))
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
            server.process.terminate()
            came = []
            for _ in range(200):
                connection.sendall(whole[:-5])
                time.sleep(0.004)
                connection.sendall(whole[-5:])
                came.append(read(connection)[0])
                if "connection" in came[-1].headers:
                    break
            connection.settimeout(1)
            assert connection.recv(1) == b""
