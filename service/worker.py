"""The process that calibrates: it forks a child for each calibration, which reads the data, fits, and ends.

Run as `python -m service.worker SOCKET`, by `service.engine.calibrator`. Like `service.main` this is a place where
parts are put together: the reading of bodies with the library's fit. Whatever a fault of ours is, its place in the code
goes to the server's log, and never its message, in which there could be a number of somebody's row.
"""

import os
import socket
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float
from pydantic import TypeAdapter

from calibrate.curve import USUAL, curve
from calibrate.errors import SetpointError
from calibrate.io.model import Head
from calibrate.operating_point import OperatingPoint
from calibrate.result import FitResult
from calibrate.stored_curve import curve_to_dict
from service.calibration import Spec, calibrate, spec_of
from service.domain import ModelVersion
from service.engine.forked import give_way, limit, serve
from service.engine.wire import pack, receive, send, unpack
from service.errors import TooLarge
from service.evaluation import EvaluatedPoint, evaluate
from service.facts import from_plain, to_plain
from service.web.calibrate_data import check_rows, read_call, read_data, read_origin_of

_VERSION = TypeAdapter(ModelVersion)
_PART_BYTES, _PART_ROWS = 2**20, 4096  # of a model's inputs, asked of the server at once
_CURVE_POINTS, _CONFIDENCE = 200, 0.95
_EVERY_S = 0.1


class Server:
    """The server, as its worker sees it: the source of what the model computes, and who is told how far it is."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rows: int | None = None
        self._told = 0.0

    def tell(self, stage: str, done: int | None = None, total: int | None = None, rows: int | None = None) -> None:
        """How far it is; a count within a stage not more often than anybody could read."""
        now = time.monotonic()
        if done and now - self._told < _EVERY_S:
            return
        self._told, self._rows = now, rows or self._rows
        said = {"stage": stage, "rows": self._rows, "done": done, "total": total}
        self.say("progress", progress={name: value for name, value in said.items() if value is not None})

    def say(self, what: str, data: bytes = b"", **said: Any) -> None:
        """Says something that is not answered."""
        send(self._connection, {"say": what, **said}, data)

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n k"]:
        """The model's logits, asked for in parts."""
        rows = len(next(iter(inputs.values())))
        row_bytes = sum(array.nbytes // max(rows, 1) for array in inputs.values())
        step = max(1, min(_PART_ROWS, _PART_BYTES // max(row_bytes, 1)))
        parts = []
        for start in range(0, rows, step):
            self.tell("logits", start, rows)
            about, data = pack({name: array[start : start + step] for name, array in inputs.items()})
            try:
                parts.append(self._ask("logits", data, inputs=about)["logits"])
            except SetpointError as error:
                if start:
                    raise type(error)(f"of the rows from {start} on: {error}") from None
                raise
        return np.concatenate(parts)

    def head(self) -> Head | None:
        """The model's head."""
        found = self._ask("head")
        return Head(found["weight"], found["bias"], "", "") if found else None

    def _ask(self, what: str, data: bytes = b"", **said: Any) -> dict[str, np.ndarray]:
        self.say(what, data, **said)
        reply, arrays = receive(self._connection)
        if "error" in reply:
            raise from_plain(reply["error"])
        return unpack(reply["arrays"], arrays)


def answer(connection: socket.socket) -> None:
    """Does what the server asks, once."""
    send(connection, {"pid": os.getpid()}, b"")
    order, _ = receive(connection)
    give_way(order["nice"])
    limit(order["memory_bytes"], order["seconds"])
    server = Server(connection)
    try:
        try:
            if order["do"] == "read spec":
                server.say("spec", spec=read_call(Path(order["file"]).read_bytes())[0])
            elif order["do"] == "evaluate":
                _evaluate(order, server)
            else:
                _fit(order, server)
        except SetpointError as error:
            server.say("error", error=to_plain(error))
        except MemoryError:
            server.say("error", error={"kind": "MemoryError", "message": ""})
        except (BrokenPipeError, EOFError, ConnectionError):
            pass  # the server went away
        except Exception as error:
            frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
            server.say("error", error={"kind": "fault", "message": f"{type(error).__name__} at\n{''.join(frames)}"})
    except OSError:
        pass


def _fit(order: Mapping[str, Any], server: Server) -> None:
    version = _VERSION.validate_python(order["version"])
    spec = spec_of(order["spec"])
    server.tell("reading")
    arrays = read_data(Path(order["file"]), order["format"], version, order["unpacked_bytes"], spec.columns)
    labels: Any = arrays.get("labels")
    check_rows(labels, order["most_rows"])
    if hasattr(labels, "__len__"):  # else the fit will say what is wrong
        server.tell("reading", rows=len(labels))
    origin = read_origin_of(Path(order["file"]), order["format"])
    result, cache = calibrate(spec, arrays, version, server, server.tell, origin=origin)
    server.tell("curve")
    details = result.to_dict()
    del details["point"], details["threshold"]
    server.say("result", _curve(spec, result, cache), point=result.point.to_dict(), details=details)


def _evaluate(order: Mapping[str, Any], server: Server) -> None:
    version, path = _VERSION.validate_python(order["version"]), Path(order["file"])
    arrays = read_data(path, order["format"], version, order["unpacked_bytes"], order["columns"])
    labels: Any = arrays.get("labels")
    if hasattr(labels, "__len__") and len(labels) > order["most_rows"]:
        raise TooLarge(
            f"an evaluation, which is answered at once, takes at most {order['most_rows']} rows, got {len(labels)}: "
            "send a random sample, or fewer days"
        )
    points = [
        EvaluatedPoint(each["label"], each["state"], OperatingPoint.from_dict(each["point"]), each["details"])
        for each in order["points"]
    ]
    found = evaluate(
        points,
        arrays,
        version,
        server,
        origin=read_origin_of(path, order["format"]),
        metrics=order["metrics"],
        positive=order["positive"],
        allow_other_model=order["allow_other_model"],
    )
    page = b""
    if order["page"]:
        from calibrate.report.held_out import held_out_report

        report = held_out_report(
            found.rows,
            found.points,
            metrics=order["metrics"] or ["f1"],
            positive=order["positive"],
            title=f"Operating points of {version.model}, version {version.version}",
            facts={each["operating_point"]: _judged(each) for each in found.reply["points"]},
            purposes=found.purposes,
        )
        page = report.to_html().encode()
    server.say("evaluation", page, reply=found.reply)


def _judged(each: Mapping[str, Any]) -> str:
    """Whether a point holds, in words, with its state and its warnings."""
    words = {"yes": "its constraints hold", "no": "a constraint is broken", "unsure": "whether it holds is unsure"}
    return "; ".join([each["state"], words.get(each["holds"], "it has no constraint"), *each["warnings"]])


def _curve(spec: Spec, result: FitResult, cache: Any) -> bytes:
    """Every metric at the cuts that matter, with simultaneous bands; nothing of more than two classes."""
    if len(cache.classes) != 2:
        return b""
    names = list(dict.fromkeys([*USUAL, result.metric]))
    costs = None if spec.cost_matrix is None else np.array(spec.cost_matrix)
    index = 1 if spec.positive is None else cache.classes.index(spec.positive)
    share = None if result.prevalence is None else float(result.prevalence[index])
    options: dict[str, Any] = {"prevalence": share, "confidence": _CONFIDENCE, "cost_matrix": costs}
    found = curve(cache, names, spec.positive, **options).thinned(_CURVE_POINTS)
    return orjson.dumps({**curve_to_dict(found, cache.classes), "rows": cache.rows})


if __name__ == "__main__":
    serve(answer)
