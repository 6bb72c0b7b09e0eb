"""The process that tries models out: it forks a child for each, which has its own limits and is ended with them.

Run as `python -m service.engine.examiner SOCKET`, by `service.engine.workshop`. It holds no models and no state; a
child gets one file, answers in JSON and the bytes of the graph, and ends. What a child can do to itself, run out of
memory or of time, crash or hang, does not reach the server. It runs on the CPU: a GPU's driver wants more address space
than any limit leaves.
"""

import logging
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibrate.errors import SetpointError
from service.engine.onnx import OnnxEngine
from service.engine.trial import try_out
from service.engine.wire import receive, send


def main() -> None:
    """Answers until the server goes away."""
    server = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which closes the socket
    while True:
        message, sockets, *_ = socket.recv_fds(server, 1, 1)
        if not message:
            return
        for descriptor in sockets:
            if os.fork() == 0:
                server.close()
                _answer(socket.socket(fileno=descriptor))
                os._exit(0)
            os.close(descriptor)


def _answer(asked: socket.socket) -> None:
    """Tries one model out, in a process of its own."""
    request, data = receive(asked)
    _limit(request["memory_bytes"], request["seconds"])
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("service").addHandler(handler)
    reply: dict[str, Any]
    try:
        found = try_out(OnnxEngine(run_s=request["run_s"], gpu=False), data, request["output"], request["output_kind"])
    except SetpointError as error:
        send(asked, {"error": type(error).__name__, "message": str(error), "log": said}, b"")
    except MemoryError:
        send(asked, {"error": "MemoryError", "message": "", "log": said}, b"")
    else:
        reply = asdict(found)
        del reply["data"]
        send(asked, {"found": reply, "log": said}, found.data)


def _limit(memory_bytes: int, seconds: float) -> None:
    """So much memory beyond what the process has, and so much time; then the kernel ends it. It writes no file."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.exists():
        most = int(pages.read_text().split()[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
