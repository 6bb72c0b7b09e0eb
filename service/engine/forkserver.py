"""A helper process that forks a child for each piece of work that needs limits or an end of its own.

Decided here: the helper imports once what is slow to import, so a child costs milliseconds; it is started when it is
first needed, and anew where it is gone. Server and child talk over a socket pair. The helper ends when the server does,
however that ended, and its children with it. Where a system has no `fork` there is none.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class Forkserver:
    """The helper process of a program (a module that calls `service.engine.forked.serve`), as the server sees it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        atexit.register(self.close)

    @staticmethod
    def is_possible() -> bool:
        """Whether this system can have one."""
        return hasattr(os, "fork") and hasattr(socket, "send_fds")

    @property
    def pid(self) -> int | None:
        """The helper's process id, None while it was not needed."""
        return None if self._helper is None else self._helper.pid

    def connect(self) -> socket.socket:
        """The server's end of a socket, at whose other end a new child listens. Raises: `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._hand_over(theirs)
        except BaseException:
            ours.close()
            raise
        return ours

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
                [sys.executable, "-m", self._program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **single, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self._socket = ours
        return ours
