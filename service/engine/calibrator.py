"""Calibrations in processes of their own: `service.worker` is what runs there.

Decided here: data, labels and fit are the worker's alone, so nothing that takes long holds up the server's threads.
What the model computes is asked of the server in parts: the point is then fitted on the very numbers that will be
served, on the GPU where there is one, and no second copy of the model is loaded. A worker is niced, has a limit of
memory and one of time, and can be ended at any moment; it says its process id before it is told what to do, so whom a
signal is for is never in doubt.
"""

import contextlib
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from calibrate.errors import SetpointError
from service.engine.forkserver import Forkserver
from service.engine.wire import pack, receive, send, unpack
from service.errors import BadRequest, OverLimit
from service.facts import from_plain, to_plain
from service.job import WorkerGone
from service.ports import Fitted, Source

PROGRAM = "service.worker"
_GRACE_S = 30  # the worker's own alarm rings first
_READ_S = 120  # to read what a body asks for


@functools.cache
def shared_forkserver() -> Forkserver:
    """The one of this process."""
    return Forkserver(PROGRAM)


class ProcessCalibrator:
    """Makes processes that may take `memory_bytes` of memory and `seconds` of time each, for files that unpack to
    `unpacked_bytes` and have `rows` rows at most."""

    def __init__(self, memory_bytes: int, seconds: float, nice: int, unpacked_bytes: int, rows: int) -> None:
        self.forkserver = shared_forkserver()
        self._limits = {"memory_bytes": memory_bytes, "seconds": seconds, "nice": nice}
        self._data_limits = {"unpacked_bytes": unpacked_bytes, "most_rows": rows}

    def calibration(self) -> "ProcessCalibration":
        """A new one, which has not begun."""
        return ProcessCalibration(self.forkserver, self._limits, self._data_limits)

    def read_spec(self, path: Path) -> dict[str, Any]:
        """The JSON object in a file without its data. Raises: `BadRequest`, `OverLimit`."""
        limits = {**self._limits, "seconds": _READ_S}
        process = ProcessCalibration(self.forkserver, limits, self._data_limits)
        try:
            said, _ = process.ask({"do": "read spec", "file": str(path)}, {}, lambda _: None)
        except WorkerGone as error:
            raise BadRequest(f"the body could not be read: {error}") from None
        spec: dict[str, Any] = said["spec"]
        return spec

    def evaluate(self, order: Mapping[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
        """What an order to evaluate points gives: the reply, and the page where one is ordered.

        Raises: what `service.evaluation` raises, `OverLimit`, `BadRequest` where its process ended.
        """
        limits = {**self._limits, "seconds": min(_READ_S, self._limits["seconds"])}
        process = ProcessCalibration(self.forkserver, limits, self._data_limits)
        answers: dict[str, Callable[..., Any]] = {"logits": source.logits, "head": source.head}
        limited = {"do": "evaluate", "unpacked_bytes": self._data_limits["unpacked_bytes"]}
        try:
            said, page = process.ask({**order, **limited}, answers, lambda _: None)
        except WorkerGone as error:
            raise BadRequest(f"the points could not be evaluated: {error}") from None
        return said["reply"], page


class ProcessCalibration:
    """One process, for one calibration."""

    def __init__(self, forkserver: Forkserver, limits: Mapping[str, Any], data_limits: Mapping[str, Any]) -> None:
        self._forkserver, self._limits, self._data_limits = forkserver, dict(limits), dict(data_limits)
        self._lock = threading.Lock()
        self._killed = False
        self._pid: int | None = None
        self._handle: int | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._pid

    def run(self, order: Mapping[str, Any], source: Source, tell: Callable[[Mapping[str, Any]], None]) -> Fitted:
        """Fits what is ordered. Raises: what `calibrate.fit` raises, `OverLimit`, `WorkerGone`."""
        answers: dict[str, Callable[..., Any]] = {"logits": source.logits, "head": source.head}
        asked = {**order, "do": "fit", **self._data_limits}
        said, curve = self.ask(asked, answers, tell)
        return Fitted(said["point"], said["details"], curve or None)

    def ask(
        self,
        order: dict[str, Any],
        answers: Mapping[str, Callable[..., Any]],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> tuple[dict[str, Any], bytes]:
        """What the process answers to an order, after it was answered whatever it asks."""
        started = time.monotonic()
        try:
            with self._forkserver.connect() as ours:
                ours.settimeout(self._limits["seconds"] + _GRACE_S)
                self._hold(receive(ours)[0]["pid"])
                try:
                    send(ours, {**order, **self._limits}, b"")
                    return self._talk(ours, answers, tell)
                finally:
                    self._let_go()
        except (OSError, EOFError) as error:
            if not self._killed and time.monotonic() - started >= self._limits["seconds"]:
                raise OverLimit(
                    f"the calibration took more than {self._limits['seconds']:g} s, which is all that one may take "
                    "(SETPOINT_JOB_S): send fewer rows, or have that set higher"
                ) from None
            raise WorkerGone(f"its process ended before it had answered ({error or type(error).__name__})") from None

    def kill(self) -> None:
        """Ends the process now; one that has not begun will not."""
        self._killed = True
        self._signal()

    def _signal(self) -> None:
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self._pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)

    def _hold(self, pid: int) -> None:
        with self._lock:
            self._pid = pid
            if hasattr(os, "pidfd_open"):  # which names this process, and never a later one of that id
                self._handle = os.pidfd_open(pid)
        if self._killed:
            self._signal()

    def _let_go(self) -> None:
        self._signal()  # it has answered, or never will
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
            self._pid = self._handle = None

    def _talk(
        self,
        ours: socket.socket,
        answers: Mapping[str, Callable[..., Any]],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> tuple[dict[str, Any], bytes]:
        while True:
            said, data = receive(ours)
            if said["say"] == "progress":
                tell(said["progress"])
            elif said["say"] == "error":
                raise self._error(said["error"])
            elif said["say"] == "logits":
                inputs = unpack(said["inputs"], data)
                _answer(ours, lambda inputs=inputs: {"logits": answers["logits"](inputs)})  # type: ignore[misc]
            elif said["say"] == "head":
                _answer(ours, lambda: _head_arrays(answers["head"]()))
            else:
                return said, data

    def _error(self, told: Mapping[str, Any]) -> Exception:
        if told["kind"] == "MemoryError":
            return OverLimit(
                f"the calibration needs more than {self._limits['memory_bytes'] // 2**20} MiB of memory, which is all "
                "that one may take (SETPOINT_JOB_BYTES): send fewer rows, or have that set higher"
            )
        if told["kind"] == "fault":
            # Logged by the caller with the id of its job or request; it holds frames and a type, never a row.
            return RuntimeError(f"a calibration failed in its process: {told['message']}")
        return from_plain(told)


def _answer(ours: socket.socket, work: Callable[[], dict[str, Any]]) -> None:
    """Sends arrays, or why there are none."""
    try:
        about, data = pack(work())
    except SetpointError as error:
        send(ours, {"error": to_plain(error)}, b"")
    else:
        send(ours, {"arrays": about}, data)


def _head_arrays(head: Any) -> dict[str, Any]:
    return {} if head is None else {"weight": head.weight, "bias": head.bias}
