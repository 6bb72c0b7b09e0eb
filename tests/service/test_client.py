"""What the command line sends to a server, and what it takes for an answer."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from calibrate.errors import InputError
from service.client import Client, Refused


class Recorder(HTTPServer):
    """A server that answers every call with the same text and keeps the addresses it was asked for."""

    answer = "{}"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: Recorder

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.server.answer.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  # the standard library's names

    def log_message(self, format: str, *args: Any) -> None:  # as above
        """Says nothing."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A server that answers whatever it is told to."""
    with Recorder() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("key", ["bad\nkey", "ключ-ключ", "ends-in-a-space ", "\x1b[31mred", "half-\udcff"])
def test_a_key_that_cannot_be_sent_is_never_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """It is said which variable holds it, in one line."""
    monkeypatch.setenv("SETPOINT_TOKEN", key)
    with pytest.raises(InputError) as refusal:
        Client("http://127.0.0.1:9")
    said = str(refusal.value)
    assert said.startswith("the key in SETPOINT_TOKEN cannot be sent: wanted printable ASCII")
    assert not any(part in said for part in ("bad", "ключ", "ends-in", "red", "half"))
    assert "\n" not in said


def test_a_password_in_the_address_is_not_shown() -> None:
    """Where there is no answer."""
    with Client("http://me:my-secret@127.0.0.1:9") as client, pytest.raises(Refused, match="no answer from") as refusal:
        client.job("x")
    assert "my-secret" not in str(refusal.value)
    assert "127.0.0.1:9" in str(refusal.value)


def test_an_idempotency_key_that_no_header_carries_is_refused(tmp_path: Path) -> None:
    """Before anything is sent."""
    (tmp_path / "v.npz").write_bytes(b"x")
    with Client("http://127.0.0.1:9") as client, pytest.raises(InputError, match="the idempotency key cannot be sent"):
        client.calibrate(tmp_path / "v.npz", {}, "ключ")


def test_what_a_user_names_stays_one_part_of_the_address(recorder: Recorder, tmp_path: Path) -> None:
    """Of every call: nobody reaches another route, or a query, by a name."""
    evil, sent = "../models/m/aliases/x?reason=oops#", "..%2Fmodels%2Fm%2Faliases%2Fx%3Freason%3Doops%23"
    (tmp_path / "p.json").write_text('{"bias": [0, 1]}')
    with Client(recorder.address) as client:
        client.job(evil)
        client.cancel(evil)
        client.publish(tmp_path / "p.json", evil, name="p", model_version=None)
        client.set_default(evil, model_version=1, point="p", reason="x")
        client.get("models", evil, "operating-points", "p@1")
        client.do("POST", "models", "m", "operating-points", evil, "retire", reason="x")
        recorder.answer = "[]"
        client.drop("models", "m", "aliases", evil, reason="x")
    assert recorder.asked == [
        f"GET /jobs/{sent}",
        f"DELETE /jobs/{sent}",
        f"POST /models/{sent}/operating-points",
        f"PUT /models/{sent}/default",
        f"GET /models/{sent}/operating-points/p%401",
        f"POST /models/m/operating-points/{sent}/retire",
        f"DELETE /models/m/aliases/{sent}?reason=x",
    ]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_lead_to_another_address_is_not_sent(recorder: Recorder, name: str) -> None:
    """No quoting keeps it one part."""
    with Client(recorder.address) as client, pytest.raises(InputError, match="names nothing"):
        client.cancel(name)
    assert not recorder.asked


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>", "answered 200 without JSON"),
        ("[" * 100_000, "answered 200 without JSON"),
        ("[1, 2]", "answered something else than one object"),
        ('"done"', "answered something else than one object"),
        ("{}", "the server's answer has no 'state'"),
    ],
)
def test_an_answer_that_nobody_expected_is_one_line(recorder: Recorder, answer: str, said: str) -> None:
    """Whatever answers at the address."""
    recorder.answer = answer
    with Client(recorder.address) as client, pytest.raises(Refused, match=said) as refusal:
        client.job("x")["state"]
    assert "\n" not in str(refusal.value)


def test_a_list_holds_objects(recorder: Recorder) -> None:
    """Else it is not the list that was asked for."""
    for answer in ("{}", "[1]", "3"):
        recorder.answer = answer
        with Client(recorder.address) as client, pytest.raises(Refused, match="something else than a list of objects"):
            client.jobs(3)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"point": {"bias": [0, NaN]}}', r"point.bias\[1\] must be a finite number, got nan"),
        ('{"scale": [1e999]}', r"scale\[0\] must be a finite number, got inf"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_point_that_json_cannot_carry_is_refused(tmp_path: Path, text: str, where: str) -> None:
    """With the file and the field, before anything is sent."""
    (tmp_path / "p.json").write_text(text)
    with Client("http://127.0.0.1:9") as client, pytest.raises(InputError, match=f"p.json:? {where}"):
        client.publish(tmp_path / "p.json", "m", name="p", model_version=None)


def test_a_folder_is_no_point(tmp_path: Path) -> None:
    """It is told as what it is, for a model too."""
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(InputError, match=r"is a folder, wanted a file$"):
            client.publish(tmp_path, "m", name="p", model_version=None)
        with pytest.raises(InputError, match=r"is a folder, wanted a file$"):
            client.register(tmp_path, "m")
        with pytest.raises(InputError, match=r"^.*none.json cannot be read: No such file or directory$"):
            client.publish(tmp_path / "none.json", "m", name="p", model_version=None)


def test_what_is_asked_is_what_is_sent(recorder: Recorder) -> None:
    """Of a query only what was told; an answer is given as it came."""
    recorder.answer = json.dumps([{"id": "a"}])
    with Client(recorder.address) as client:
        assert client.all("models", "m", "operating-points", model_version=None) == [{"id": "a"}]
        assert client.all("models", "m", "operating-points", model_version=2) == [{"id": "a"}]
    assert recorder.asked == ["GET /models/m/operating-points", "GET /models/m/operating-points?model_version=2"]
