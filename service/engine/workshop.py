"""Tries models out in processes of their own, with limits on memory and time, before the server takes them in.

Decided here: one helper process imports what is slow to import and forks a child for each model, so a trial costs
milliseconds; it is started at the first registration and shared by all of this process. A child that needs more than
its limits is ended by the kernel, and the file refused. Where a system has no `fork`, the server tries it out itself.
"""

import atexit
import contextlib
import functools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from calibrate import errors
from calibrate.errors import BadModel, SetpointError
from calibrate.io.model import Port
from service import domain
from service.domain import HeadInfo
from service.engine.wire import receive, send
from service.ports import Examined

log = logging.getLogger(__name__)

_READING_S = 15  # to read and to load a model, beside its run
_ROOT = Path(__file__).parents[2]


class Workshop:
    """The helper process, as the server sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        atexit.register(self.close)

    def examine(
        self, data: bytes, *, output: str | None, output_kind: str | None, run_s: float, memory_bytes: int
    ) -> Examined:
        """What `service.engine.trial.try_out` finds, in at most `run_s` seconds and those for reading and loading.

        Raises: what that raises; `BadModel` where the model needs more than `memory_bytes` or the time.
        """
        seconds = run_s + _READING_S
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            started = time.monotonic()
            ours.settimeout(seconds + 5)
            limits = {"run_s": run_s, "seconds": seconds, "memory_bytes": memory_bytes}
            try:
                send(ours, {"output": output, "output_kind": output_kind, **limits}, data)
                reply, graph = receive(ours)
            except (OSError, EOFError):
                late = time.monotonic() - started >= seconds
                what = f"{seconds:g} s" if late else f"{memory_bytes // 2**20} MiB of memory, or crashed"
                raise BadModel(f"the model, read, loaded and run on two rows, took more than {what}") from None
        for line in reply["log"]:
            log.warning("a model that was tried out: %s", line)
        if "error" in reply:
            raise _error(reply["error"], reply["message"], reply["log"], memory_bytes)
        return _examined(reply["found"], graph)

    def close(self) -> None:
        """Ends the helper process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._helper is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._helper.wait(5)  # it ends when its socket closes
        self._socket = self._helper = None

    def _hand_over(self, theirs: socket.socket) -> None:
        """Gives the helper a child's end of a socket; a helper that is gone is started anew."""
        with self._lock:
            for helper in (self._socket, None):
                try:
                    socket.send_fds(helper or self._start(), [b"x"], [theirs.fileno()])
                except OSError:
                    if helper is None:
                        raise
                else:
                    return

    def _start(self) -> socket.socket:
        self._end()
        ours, theirs = socket.socketpair()
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a child has the one thread that forked it
        with theirs:
            self._helper = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-m", "service.engine.examiner", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **single, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self._socket = ours
        return ours


@functools.cache
def shared_workshop() -> Workshop | None:
    """The workshop of this process, None where the system cannot have one."""
    return Workshop() if hasattr(os, "fork") and hasattr(socket, "send_fds") else None


def _error(name: str, message: str, said: list[str], memory_bytes: int) -> SetpointError:
    """The error of a child by its name; one of memory is the model's fault."""
    of_memory = any(word in line for line in [message, *said] for word in ("bad_alloc", "lloc", "vailable memory"))
    if name == "MemoryError" or of_memory:
        return BadModel(f"the model takes more than {memory_bytes // 2**20} MiB of memory to be run on two rows")
    kind = getattr(errors, name, None) or getattr(domain, name, None) or BadModel
    error: SetpointError = kind(message)
    return error


def _examined(found: dict[str, Any], graph: bytes) -> Examined:
    """What came as JSON."""
    head = found["head"]
    return Examined(
        data=graph,
        inputs=tuple(Port(port["name"], port["dtype"], tuple(port["shape"])) for port in found["inputs"]),
        output=found["output"],
        kind=found["kind"],
        head=None if head is None else HeadInfo(head["features"], head["logits"], head["width"]),
        metadata=found["metadata"],
        labels=None if found["labels"] is None else tuple(found["labels"]),
        width=found["width"],
    )
