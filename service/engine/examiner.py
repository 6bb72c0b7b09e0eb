"""The process that tries models out: it forks a child for each, which has its own limits and is ended with them.

Run as `python -m service.engine.examiner SOCKET`, by `service.engine.workshop`. It holds no models; a child gets one
file, answers in JSON and the bytes of the graph, and ends. It runs on the CPU: a GPU's driver wants more address space
than any limit leaves.
"""

import logging
import socket
from dataclasses import asdict
from typing import Any

from calibrate.errors import SetpointError
from service.engine.forked import limit, serve
from service.engine.onnx import OnnxEngine
from service.engine.trial import try_out
from service.engine.wire import receive, send
from service.facts import to_plain


def _answer(asked: socket.socket) -> None:
    """Tries one model out, in a process of its own."""
    request, data = receive(asked)
    limit(request["memory_bytes"], request["seconds"])
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("service").addHandler(handler)
    reply: dict[str, Any]
    try:
        engine = OnnxEngine(run_s=request["run_s"], gpu=False)
        output, kind = request["output"], request["output_kind"]
        found = try_out(engine, data, output, kind, allow_random=request["allow_random"])
    except SetpointError as error:
        send(asked, {"error": to_plain(error), "log": said}, b"")
    except MemoryError:
        send(asked, {"error": {"kind": "MemoryError", "message": ""}, "log": said}, b"")
    else:
        reply = asdict(found)
        del reply["data"]
        send(asked, {"found": reply, "log": said}, found.data)


if __name__ == "__main__":
    serve(_answer)
