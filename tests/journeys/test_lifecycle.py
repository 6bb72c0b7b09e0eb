"""A server process from start to stop: what it says, whom it still answers, and that it ends."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from service.client import Client
from tests.models import WIDTH, network
from tests.servers import Server, free_port, running

ASK = json.dumps({"model": "m", "inputs": [[0.0] * WIDTH]}).encode()


def connect(server: Server) -> http.client.HTTPConnection:
    """A connection of its own."""
    return http.client.HTTPConnection("127.0.0.1", int(server.address.rsplit(":", 1)[1]), timeout=20)


def raw(server: Server) -> socket.socket:
    """The same without HTTP."""
    return socket.create_connection(("127.0.0.1", int(server.address.rsplit(":", 1)[1])), timeout=20)


def register(server: Server, folder: Path) -> None:
    """A small model `m`."""
    (folder / "net.onnx").write_bytes(network(2))
    with Client(server.address) as client:
        client.register(folder / "net.onnx", "m")


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def status(server: Server, path: str) -> int:
    """What a path answers, 0 where nobody does."""
    connection = connect(server)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_no_request_fails_while_the_server_drains(tmp_path: Path) -> None:
    """Callers with kept connections go on for as long as the drain; each answer closes its connection meanwhile."""
    drain_s = 2.0
    with running(tmp_path, SETPOINT_DRAIN_S=str(drain_s)) as server:
        register(server, tmp_path)
        done, told = threading.Event(), threading.Event()

        def call() -> list[tuple[int, bool, bool]]:
            """Status, whether it closes, and whether it was asked for after the signal."""
            seen = []
            connection = connect(server)
            while not done.is_set():
                after = told.is_set()
                connection.request("POST", "/predict", ASK)
                answer = connection.getresponse()
                answer.read()
                seen.append((answer.status, answer.getheader("connection") == "close", after))
            connection.close()
            return seen

        with ThreadPoolExecutor(4) as pool:
            callers = [pool.submit(call) for _ in range(4)]
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            until(lambda: status(server, "/health/ready") == 503)
            assert time.monotonic() - began < 1
            assert status(server, "/health/live") == 200
            time.sleep(0.15)  # within two beats of the server's clock every answer closes
            told.set()
            time.sleep(drain_s - 0.6 - (time.monotonic() - began))
            done.set()
            seen = [each for caller in callers for each in caller.result()]
        assert {state for state, _, _ in seen} == {200}
        assert not any(closes for _, closes, _ in seen[:1])
        late = [closes for _, closes, after in seen if after]
        assert len(late) > 20
        assert all(late)
        assert server.process.wait(10) == 0
        assert time.monotonic() - began >= drain_s
        assert "not ready any more" in server.log.read_text()


def test_a_request_in_flight_is_answered_and_idle_connections_are_not_waited_for(tmp_path: Path) -> None:
    """Half of a body came before the signal, the rest after; others are open and say nothing."""
    with running(tmp_path) as server:
        register(server, tmp_path)
        silent = [raw(server) for _ in range(3)]
        kept = [connect(server) for _ in range(3)]
        for connection in kept:
            connection.request("POST", "/predict", ASK)
            connection.getresponse().read()
        half = raw(server)
        half.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(ASK))
        half.sendall(ASK[:20])
        time.sleep(0.3)
        server.process.terminate()
        until(lambda: status(server, "/health/live") == 0)
        half.sendall(ASK[20:])
        answer = half.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        began = time.monotonic()
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 3
        for connection in kept:
            connection.close()
        for each in [*silent, half]:
            each.close()


def test_what_never_ends_is_cut_off(tmp_path: Path) -> None:
    """A body of which the rest never comes, and a calibration that takes minutes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 40_000)
    data = {"logits": rng.normal(size=(40_000, 12)).round(3).tolist(), "labels": labels.tolist()}
    with running(tmp_path, SETPOINT_STOP_S="1") as server:
        (tmp_path / "net.onnx").write_bytes(network(12))
        with Client(server.address) as client:
            client.register(tmp_path / "net.onnx", "m")
        long = connect(server)
        spec = {"model": "m", "name": "p", "metric": "f1", "method": "auto", "data": data}
        long.request("POST", "/calibrate", json.dumps(spec))
        half = raw(server)
        half.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{")
        time.sleep(1.5)
        assert server.process.poll() is None
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) in (0, 1)
        assert time.monotonic() - began < 6
        half.close()
        long.close()
    with running(tmp_path) as server:
        assert server.get("/health/ready")["status"] == "ok"
        with suppress(FileNotFoundError):
            assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, second: signal.Signals) -> None:
    """Whatever the first one waits for."""
    with running(tmp_path, SETPOINT_DRAIN_S="60") as server:
        server.process.terminate()
        until(lambda: status(server, "/health/ready") == 503)
        began = time.monotonic()
        server.process.send_signal(second)
        assert server.process.wait(5) == 128 + second
        assert time.monotonic() - began < 1


def test_ctrl_c_does_not_wait_for_a_balancer(tmp_path: Path) -> None:
    """A person is waiting."""
    with running(tmp_path, SETPOINT_DRAIN_S="60") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(5) == 0


def test_the_server_answers_while_it_starts(tmp_path: Path) -> None:
    """The storage hands out a model byte by byte: a named pipe in the place of the file."""
    with running(tmp_path) as server:
        register(server, tmp_path)
        digest = {path.name for path in (tmp_path / "data" / "artifacts").rglob("*") if path.is_file()}
    files = [path for path in (tmp_path / "data" / "artifacts").rglob("*") if path.name in digest]
    contents = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
        os.mkfifo(path)
    command = [sys.executable, "-m", "service", "serve", "--data", str(tmp_path / "data"), "--port"]
    port = free_port()
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen([*command, str(port)], stdout=output, stderr=output)
    server = Server(f"http://127.0.0.1:{port}", process, tmp_path / "log")

    def has_started() -> bool:
        for path in files:
            with suppress(OSError):
                handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # where somebody is reading it by now
                with os.fdopen(handle, "wb") as pipe:
                    os.set_blocking(handle, True)
                    pipe.write(contents[path])
        return status(server, "/health/startup") == 200

    try:
        until(lambda: status(server, "/health/live") == 200, 60)
        assert status(server, "/health/startup") == 503
        assert status(server, "/health/ready") == 503
        assert status(server, "/models") == 503
        until(has_started)
        assert status(server, "/models") == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_what_is_wrong_at_the_start_is_one_line(tmp_path: Path) -> None:
    """Settings, store, artifacts, certificate; the exit code is not 0."""
    file = tmp_path / "file"
    file.write_text("not what is wanted here\n" * 100)
    broken, blocked, plain = tmp_path / "broken", tmp_path / "blocked", tmp_path / "plain"
    for folder in (broken, blocked, plain):
        folder.mkdir()
    (broken / "setpoint.db").write_bytes(file.read_bytes())
    (blocked / "artifacts").write_text("a file")
    cases: list[tuple[Path, dict[str, str], str]] = [
        (file, {}, "file"),
        (broken, {}, "file is not a database"),
        (blocked, {}, "model files cannot be kept"),
        (plain, {"SETPOINT_LOG_FORMAT": "yaml"}, "log_format"),
        (plain, {"SETPOINT_STOP_S": "never"}, "stop_s"),
        (plain, {"SETPOINT_TLS_CERT": str(file)}, "SETPOINT_TLS_KEY"),
        (plain, {"SETPOINT_TLS_CERT": str(file), "SETPOINT_TLS_KEY": str(file)}, "no certificate and its key"),
        (plain, {"SETPOINT_TRACES": "collector:4318"}, "SETPOINT_TRACES"),
    ]

    def start(case: tuple[Path, dict[str, str], str]) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "service", "serve", "--port", "0", "--data", str(case[0])]
        environment = {**os.environ, **case[1]}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    with ThreadPoolExecutor(2) as pool:
        for case, ended in zip(cases, pool.map(start, cases), strict=True):
            assert ended.returncode == 1, case
            assert ended.stderr.startswith("error: "), ended.stderr
            assert len(ended.stderr.splitlines()) == 1, ended.stderr
            assert case[2] in ended.stderr


def test_https(tmp_path: Path) -> None:
    """With a certificate of its own, and HSTS in every answer."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(tmp_path / "key"),
        "-out",
        str(tmp_path / "cert"),
    ]
    subprocess.run(made, check=True, capture_output=True)
    port = free_port()
    environment = {"SETPOINT_TLS_CERT": str(tmp_path / "cert"), "SETPOINT_TLS_KEY": str(tmp_path / "key")}
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data", str(tmp_path / "data")]
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    trusted = ssl.create_default_context(cafile=str(tmp_path / "cert"))

    def answer() -> str | None:
        connection = http.client.HTTPSConnection("localhost", port, context=trusted, timeout=5)
        try:
            connection.request("GET", "/models")
            with connection.getresponse() as found:
                return found.getheader("strict-transport-security")
        except ConnectionRefusedError:
            return None
        finally:
            connection.close()

    try:
        until(lambda: answer() is not None, 60)
        assert answer() == "max-age=31536000"
        assert f"https://127.0.0.1:{port}" in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0
