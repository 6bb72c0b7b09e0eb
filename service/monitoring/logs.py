"""Logs: one line an event, JSON or text, from our own code and from the libraries through the same renderer.

Decided here: what a user sends is never in a log. Requests are told by route, size and outcome; an exception by its
type and the lines of code it passed, because its text may hold the value that did not fit (`could not convert ...`);
only the words of the operating system and of SQLite are kept, which name files and locks. A library is heard from
warnings on, its first line. A line that cannot be written is dropped, never raised.
"""

import json
import logging
import sqlite3
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson

Fields = MutableMapping[str, Any]
OURS = ("service", "calibrate", "setpoint", "uvicorn.error")
_ROOT = str(Path(__file__).parents[2])
_MOST_FRAMES = 12
_MOST_TEXT = 500


class Lines:
    """Writes events to a stream, each as one line."""

    def __init__(self, style: Literal["json", "text"], level: str = "info", stream: TextIO | None = None) -> None:
        import structlog  # it brings rich along, which a command that serves nothing need not wait for

        stream = stream if stream is not None else sys.stderr
        render = _as_json if style == "json" else _as_text
        common: list[Any] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.stdlib.add_log_level,
        ]
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[*common, render],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind()
        self._formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name, _first_line_of_others],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, tell_exception, render],
        )
        self._stream, self._level = stream, level

    def write(self, level: str, event: str, **fields: Any) -> None:
        """One event of our own."""
        try:
            getattr(self._log, level)(event, **fields)
        except (OSError, ValueError):  # the stream is full, or closed
            return

    def take_over(self) -> None:
        """Whatever is logged in this process is written here: ours from the level on, libraries from warnings on."""
        handler = _Quiet(self._stream)
        handler.setFormatter(self._formatter)
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(logging.WARNING)
        for name in OURS:
            logging.getLogger(name).setLevel(self._level.upper())
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote the body
        logging.captureWarnings(True)
        fault = logging.getLogger("setpoint")
        sys.excepthook = lambda kind, error, trace: fault.error("uncaught", exc_info=(kind, error, trace))
        threading.excepthook = lambda what: fault.error(
            "uncaught in a thread", exc_info=(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
        )
        sys.unraisablehook = lambda what: fault.error(
            "ignored", exc_info=(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
        )


class _Quiet(logging.StreamHandler[TextIO]):
    """A line that cannot be written is not told of with all that it holds, as the standard handler does."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the standard library's name
        """Drops it."""


def tell_exception(_: Any, __: str, event: Fields) -> Fields:
    """An exception as the types of its chain and the code that it passed, without its text."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        chain: list[str] = []
        while error is not None and len(chain) < 5:
            chain.append(told(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        event["raised"] = chain
    event.pop("exc_text", None)
    event.pop("stack_info", None)
    return event


def told(error: BaseException) -> str:
    """`ValueError at service/web/predict.py:41 in _decide < ...`, the innermost line first."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    where = " < ".join(
        f"{frame.filename.removeprefix(_ROOT).lstrip('/')}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )
    words = ""
    if isinstance(error, OSError) and error.strerror:
        words = f" ({error.strerror})"
    elif isinstance(error, sqlite3.Error):
        words = f" ({str(error)[:100]})"
    return f"{type(error).__module__}.{type(error).__qualname__}{words} at {where or 'nowhere'}"


def _first_line_of_others(_: Any, __: str, event: Fields) -> Fields:
    if not str(event.get("logger", "")).startswith(OURS):
        event["event"] = str(event["event"]).partition("\n")[0][:_MOST_TEXT]
    return event


def _as_json(_: Any, __: str, event: Fields) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # half a character, which JSON can only escape
        return json.dumps(event, default=str)


def _as_text(_: Any, __: str, event: Fields) -> str:
    rest = [event.pop(name, "") for name in ("time", "level", "event")]
    raised = event.pop("raised", [])
    fields = "".join(f" {name}={_quoted(value)}" for name, value in event.items() if value is not None)
    chain = "".join(f" | {each}" for each in raised)
    line = f"{rest[0]} {rest[1]:<7} {rest[2]}{fields}{chain}"
    return line.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(each in text for each in ' "=\n\r') else text
