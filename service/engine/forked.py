"""The other side of a forkserver: the helper that forks, and the limits that a child sets itself.

The helper holds no state. What a child can do to itself, run out of memory or of time, crash or hang, does not reach
the server. Where the system can (Linux), a child ends with its helper, and the helper with the server.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

NICEST = 19
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def serve(answer: Callable[[socket.socket], None]) -> None:
    """Forks a child for each socket that comes, until the server goes away; `answer` is all that a child does."""
    server = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which closes the socket
    helper = os.getpid()
    while True:
        message, sockets, *_ = socket.recv_fds(server, 1, 1)
        if not message:
            return
        for descriptor in sockets:
            if os.fork() == 0:
                server.close()
                _end_with(helper)
                try:
                    answer(socket.socket(fileno=descriptor))
                finally:
                    os._exit(0)
            os.close(descriptor)


def give_way(nice: int) -> None:
    """Whatever else wants to run goes first, the more the nicer this is, from 0 to 19; at 19, where the system can
    (Linux), at once: else a process that is merely nice finishes its slice, and a prediction waits for milliseconds.

    Where Linux shares the processor out by session, being nice counts within one session alone, and a busy process
    takes from the others of its own: so this one is in a session of its own, and that is nice too.
    """
    if not nice:
        return
    with contextlib.suppress(OSError):  # where the server itself is nicer
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    with contextlib.suppress(OSError):
        os.setsid()
        Path("/proc/self/autogroup").write_text(str(nice))
    if nice == NICEST:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def limit(memory_bytes: int, seconds: float) -> None:
    """So much memory beyond what the process has, and so much time; then the kernel ends it. It writes no file."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.exists():
        most = int(pages.read_text().split()[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _end_with(helper: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != helper:  # it ended before this was set
        os._exit(0)
