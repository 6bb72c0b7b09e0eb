"""How a line of the log is made: exceptions without their text, libraries by their first line, always one line."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from service.monitoring.logs import Lines, told
from tests.service.conftest import Start, refused

SECRET = "mrs-jane-doe 1961"


@pytest.fixture
def root() -> Iterator[None]:
    """Logging as it was before."""
    logger, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook)
    before = logger.handlers[:], logger.level
    yield
    logging.captureWarnings(False)
    logger.handlers[:], logger.level = before
    sys.excepthook, sys.unraisablehook = hooks


def line(style: Any, name: str, message: str, error: BaseException | None = None) -> str:
    """What a logger's message becomes."""
    given = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), given)
    return Lines(style, stream=io.StringIO())._formatter.format(record)


def raised() -> BaseException:
    """An exception with a cause, both of which quote a value."""
    try:
        try:
            float(SECRET)
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        found = error
    return found


@pytest.mark.parametrize("style", ["json", "text"])
def test_an_exception_is_told_by_type_and_place(style: str) -> None:
    """Its text, and that of its causes, may hold what somebody sent."""
    found = line(style, "service.web.errors", "request 1 failed", raised())
    assert SECRET not in found
    assert "\n" not in found
    assert "builtins.RuntimeError at tests/service/test_logs.py:" in found
    assert "builtins.ValueError at tests/service/test_logs.py:" in found
    assert "in raised" in found


def test_the_systems_own_words_are_kept() -> None:
    """They name no value."""
    assert (
        told(OSError(28, "No space left on device", SECRET)) == "builtins.OSError (No space left on device) at nowhere"
    )


def test_libraries_are_told_by_their_first_line() -> None:
    """The rest may be anything; our own messages stay whole, on one line."""
    assert SECRET not in line("json", "asyncio", f"Exception in callback\nhandle: {SECRET}")
    assert json.loads(line("json", "service.x", "one\ntwo"))["event"] == "one\ntwo"
    assert line("text", "service.x", "one\ntwo\r").count("\n") == 0


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_line_is_made_of_anything(style: Any) -> None:
    """Half characters, objects, quotes."""
    stream = io.StringIO()
    Lines(style, stream=stream).write("info", "x\ud800", a="\ud800", b={1, 2}.__class__, c='"a b"\n', d=None)
    assert stream.getvalue().count("\n") == 1
    stream.getvalue().encode()
    stream.close()
    Lines(style, stream=stream).write("info", "nobody reads it any more")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("style", ["json", "text"])
def test_a_fault_of_the_server_is_logged_without_values(
    start: Start, style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500: the caller gets no words of it, the log its type, its place and the request."""
    stream = io.StringIO()
    lines = Lines(style, stream=stream)
    client = start(lines=lines)
    monkeypatch.setattr("service.web.predict.read_json", lambda body: float(body.decode()))
    lines.take_over()
    refused(client.post("/predict", content=SECRET, headers={"x-request-id": "mine"}), 500, "fault")
    found = stream.getvalue()
    assert SECRET not in found
    assert "builtins.ValueError at tests/service/test_logs.py" in found
    assert found.count("mine") == 2, "the fault and the request's own line"


def test_what_nobody_catches_is_told_the_same_way() -> None:
    """In the main thread, in another, and in a destructor."""
    code = f"""
import threading
from service.monitoring.logs import Lines
Lines("json").take_over()
def fail(*_): raise ValueError({SECRET!r})
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Bad: __del__ = fail
Bad()
import warnings; warnings.warn("careful")
fail()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert SECRET not in done.stderr
    events = [json.loads(each)["event"] for each in done.stderr.splitlines()]
    assert events[0] == "uncaught in a thread"
    assert {"ignored", "uncaught"} <= set(events)
    assert len(events) == 4
