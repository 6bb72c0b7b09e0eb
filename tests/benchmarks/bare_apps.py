"""What a predict route costs without a service around it: `python -m tests.benchmarks.bare_apps KIND MODEL PORT`.

`offline` has rows a run in the place of the port, as `1,4,16`.

`asgi` is raw ASGI, orjson and ONNX Runtime, nothing else: no names, points, probabilities, limits, ids or errors. It
takes JSON at `/` and answers logits; raw float32 at `/binary`, answered alike. `fastapi` is what most would write:
FastAPI with pydantic models.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Ask(BaseModel):
    """Rows."""

    inputs: list[list[float]]


class Answer(BaseModel):
    """Their logits."""

    logits: list[list[float]]


def open_session(path: str) -> ort.InferenceSession:
    """One thread, no spinning, as ours."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def asgi(session: ort.InferenceSession) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Raw ASGI."""
    (given,) = session.get_inputs()
    width = given.shape[1:]

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        if scope["path"] == "/binary":
            rows = np.frombuffer(body, np.float32).reshape(-1, *width)
            reply = session.run(None, {"x": rows})[0].tobytes()
        else:
            rows = np.array(orjson.loads(body)["inputs"], dtype=np.float32)
            reply = orjson.dumps({"logits": session.run(None, {"x": rows})[0].tolist()})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


def fastapi(session: ort.InferenceSession) -> FastAPI:
    """FastAPI and pydantic."""
    app = FastAPI()

    @app.post("/")
    async def predict(ask: Ask) -> Answer:
        made = session.run(None, {"x": np.array(ask.inputs, dtype=np.float32)})[0]
        return Answer(logits=made.tolist())

    return app


def offline(session: ort.InferenceSession, sizes: Sequence[int], seconds: float = 1.5) -> dict[int, float]:
    """Rows a core second by rows a run."""
    shape = session.get_inputs()[0].shape[1:]
    found = {}
    for rows in sizes:
        given = {"x": np.random.default_rng(0).normal(size=(rows, *shape)).astype(np.float32)}
        session.run(None, given)
        began, runs = time.process_time(), 0
        while time.process_time() - began < seconds:
            session.run(None, given)
            runs += 1
        found[rows] = rows * runs / (time.process_time() - began)
    return found


def main() -> None:
    """Serves until it is ended; `offline` runs the model by itself and prints how fast."""
    kind, model, port = sys.argv[1:4]
    if kind == "offline":
        found = offline(open_session(model), [int(rows) for rows in port.split(",")])
        print(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS).decode())
        return
    app: Any = {"asgi": asgi, "fastapi": fastapi}[kind](open_session(model))
    uvicorn.run(app, port=int(port), log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
