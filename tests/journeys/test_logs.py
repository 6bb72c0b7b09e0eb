"""Logs of a real server: one line an event, and never what a user sent."""

import http.client
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.models import OPSET, WIDTH, network
from tests.servers import Server, running

TOKEN = "a-token-that-no-log-may-ever-show"
WRONG = "a-wrong-token-that-no-log-may-show"
NUMBER = 8675309.125  # in no log, in whatever form
TEXT = "mrs-jane-doe-1961"
NEVER = ("8675309", "8.675309", "jane-doe", "jane_doe", TOKEN, WRONG, "so-secret")


def lookup() -> bytes:
    """A model that looks its input up in a table: the runtime's error quotes an index that is not in it."""
    table = numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["g"]),
        helper.make_node("ReduceSum", ["g", "axis"], ["y"], keepdims=0),
    ]
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 2])],
        [table, axis],
    )
    return bytes(helper.make_model(graph, opset_imports=OPSET, ir_version=9).SerializeToString())


class Caller:
    """Sends things with the token, and keeps no answer."""

    def __init__(self, server: Server) -> None:
        self.port = int(server.address.rsplit(":", 1)[1])

    def send(self, verb: str, path: str, body: bytes = b"", **headers: str) -> int:
        """The status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Authorization": f"Bearer {TOKEN}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(verb, path, body, given)
        with connection.getresponse() as response:
            response.read()
            connection.close()
            return response.status

    def json(self, verb: str, path: str, body: Any) -> int:
        """A JSON body."""
        return self.send(verb, path, json.dumps(body).encode())

    def form(self, path: str, texts: dict[str, str], **files: bytes) -> int:
        """A form."""
        parts = [f'content-disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in texts.items()]
        for name, data in files.items():
            parts.append(f'content-disposition: form-data; name="{name}"; filename="{TEXT}"\r\n\r\n'.encode() + data)
        body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
        return self.send("POST", path, body, content_type="multipart/form-data; boundary=x")


def everything(caller: Caller) -> set[int]:
    """Distinctive values through every route, right and wrong; gives the statuses."""
    row = [NUMBER] * WIDTH
    seen = {
        caller.form("/models", {"name": "m"}, file=network(2)),
        caller.form("/models", {"name": "l", "output": "y", "output_kind": "logits"}, file=lookup()),
    }
    assert seen == {201}
    bodies: list[Any] = [
        {"model": "m", "inputs": [row]},
        {"model": "m", "features": [[NUMBER] * 6]},
        {"model": "m", "logits": [[NUMBER, -NUMBER]]},
        {"model": "m", "inputs": [[NUMBER]]},
        {"model": "m", "inputs": [[TEXT] * WIDTH]},
        {"model": "m", "inputs": [row[:-1], row]},
        {"model": "m", "inputs": {TEXT: [row]}},
        {"model": "m", "inputs": [[1e300 * NUMBER] * WIDTH]},
        {"model": "m", "logits": [[None, NUMBER]]},
        {"model": "l", "inputs": [[NUMBER]]},
        {"model": TEXT, "inputs": [row]},
        {"model": "m", "inputs": [row], "operating_point": TEXT},
        {"model": "m", "inputs": [row], "operating_point": [TEXT, TEXT]},
        {"model": "m", "inputs": [row], TEXT: NUMBER},
        {"model": "m", "inputs": [row], "model_version": TEXT},
        {"model": "m", "inputs": [row], "compare": TEXT},
        [NUMBER, TEXT],
        TEXT,
    ]
    seen |= {caller.json("POST", "/predict", body) for body in bodies}
    seen.add(caller.send("POST", "/predict", f'{{"model": "{TEXT}", {NUMBER}'.encode()))
    seen.add(caller.send("POST", "/predict", b"\xff" + TEXT.encode()))
    rows = [[0.0, NUMBER + i % 7] for i in range(40)]
    spec: dict[str, Any] = {"model": "m", "name": "p", "metric": "f1"}
    for data in (
        {"logits": rows, "labels": [i % 2 for i in range(40)]},
        {"logits": rows, "labels": [TEXT] * 40},
        {"logits": rows, "labels": [NUMBER] * 40},
        {"logits": rows, "labels": [0]},
        {"logits": rows, "labels": [0] * 40},
        {"logits": [[NUMBER]], "labels": [0]},
        {"inputs": [[TEXT]], "labels": [0]},
        {"features": rows, "labels": [i % 2 for i in range(40)], "group": [TEXT] * 40},
        {TEXT: NUMBER},
    ):
        seen.add(caller.json("POST", "/calibrate", {**spec, "data": data}))
    for wrong in ({"metric": f"{NUMBER} * {TEXT}"}, {"constraints": [TEXT]}, {"prior": [NUMBER, 1]}, {TEXT: 1}):
        data = {"logits": rows, "labels": [i % 2 for i in range(40)]}
        seen.add(caller.json("POST", "/calibrate", {**spec, **wrong, "data": data}))
    for file in (TEXT.encode(), np.array([TEXT]).tobytes()):
        seen.add(caller.form("/calibrate", {"spec": json.dumps({**spec, "metric": TEXT})}, data=file))
    seen.add(caller.form("/calibrate", {TEXT: TEXT}, data=b""))
    seen.add(caller.send("POST", "/calibrate", TEXT.encode(), content_type="multipart/form-data; boundary=x"))
    point = {"classes": ["0", "1"], "scale": [1, 1], "bias": [0, NUMBER]}
    changes: list[dict[str, Any]] = [{}, {"bias": [TEXT, 0]}, {"classes": [TEXT, "1"]}, {"scale": [-NUMBER, 1]}]
    for change in changes:
        body = {"name": "p", "point": {**point, **change}, "details": {"note": TEXT, "prior": [NUMBER]}}
        seen.add(caller.json("POST", "/models/m/operating-points", body))
    for move in ({"model_version": NUMBER, "operating_point": TEXT, "reason": TEXT}, TEXT, {TEXT: NUMBER}):
        seen.add(caller.json("PUT", "/models/m/default", move))
    seen.add(caller.form("/models", {"name": TEXT, "prior": str(NUMBER)}, file=TEXT.encode()))
    seen.add(caller.form("/models", {"name": "n", "classes": f'["{TEXT}"]'}, file=network(2)))
    for path in (f"/models/{TEXT}", f"/models/m/operating-points/{TEXT}", f"/{TEXT}", f"/audit?limit={TEXT}"):
        seen.add(caller.send("GET", f"{path}{'&' if '?' in path else '?'}value={NUMBER}&token=so-secret"))
    seen.add(caller.send("GET", "/models", Authorization=f"Bearer {WRONG}", Cookie=TEXT, Referer=TEXT))
    seen.add(caller.send("GET", "/models", Authorization=f"Basic {WRONG}", X_Request_Id=f"{TEXT} {NUMBER}"))
    for verb in ("DELETE", "PATCH"):
        seen.add(caller.send(verb, f"/models/{TEXT}"))
    for path in ("/health/live", "/health/ready", "/health/startup", "/metrics", "/audit", "/openapi.json", "/console"):
        seen.add(caller.send("GET", path))
    return seen


@pytest.mark.parametrize("style", ["json", "text"])
def test_what_a_user_sent_is_in_no_log(tmp_path: Path, style: str) -> None:
    """Every route, every kind of mistake, every level, and faults of the server."""
    settings = {"SETPOINT_LOG_FORMAT": style, "SETPOINT_LOG_LEVEL": "debug", "SETPOINT_LOG_REQUESTS": "all"}
    settings["SETPOINT_APROVAL"] = "a-mistyped-name"
    with running(tmp_path, SETPOINT_TOKEN=TOKEN, **settings) as server:
        caller = Caller(server)
        seen = everything(caller)
        assert {200, 201, 400, 401, 404, 405, 422} <= seen
        for path in (tmp_path / "data" / "artifacts").rglob("*"):
            if path.is_file():
                path.unlink()  # of what follows, nothing can be read any more
        caller.json("POST", "/predict", {"model": "m", "features": [[NUMBER] * 6]})
    log = server.log.read_text()
    assert len(log.splitlines()) > 50
    for secret in NEVER:
        assert secret not in log, [line for line in log.splitlines() if secret in line][:3]
    (told,) = [line for line in log.splitlines() if "SETPOINT_" in line]
    assert "warning" in told
    assert "SETPOINT_APROVAL (is SETPOINT_APPROVAL meant?)" in told
    assert "a-mistyped-name" not in log
    assert "Gather" in log, "what the runtime says of the node is kept"
    assert "health" not in re.sub(r"service/web/health\S*", "", log)
    if style == "json":
        lines = [json.loads(line) for line in log.splitlines()]
        assert all({"time", "level", "event"} <= line.keys() for line in lines)
        asked = [line for line in lines if line["event"] == "request"]
        predicted = next(line for line in asked if line["route"] == "/predict" and line["status"] == 200)
        assert predicted["model"] == "m"
        assert (predicted["model_version"], predicted["rows"], predicted["principal"]) == (1, 1, "token")
        assert predicted["received_bytes"] > 20
        assert predicted["sent_bytes"] > 50
        assert re.fullmatch(r"[0-9a-f]{32}", predicted["request_id"])
        assert {line["route"] for line in asked} >= {
            "/models/{model}",
            "/models/{model}/operating-points/{point}",
            "other",
        }
        assert next(line for line in asked if line["status"] == 401)["problem"] == "unauthorized"


@pytest.mark.parametrize(
    ("which", "told"), [("all", {200, 404, 422}), ("most", {200, 404, 422}), ("errors", {404, 422})]
)
def test_which_requests_have_a_line(tmp_path: Path, which: str, told: set[int]) -> None:
    """Health never; answered predictions only where all are asked for."""
    with running(tmp_path, SETPOINT_LOG_FORMAT="json", SETPOINT_LOG_REQUESTS=which) as server:
        caller = Caller(server)
        caller.form("/models", {"name": "m"}, file=network(2))
        for path in ("/models", "/nothing", "/health/ready"):
            caller.send("GET", path)
        for row in ([0.0] * WIDTH, [0.0]):
            caller.json("POST", "/predict", {"model": "m", "inputs": [row]})
    asked = [json.loads(line) for line in server.log.read_text().splitlines() if '"event":"request"' in line]
    assert {line["status"] for line in asked} - {201} == told
    answered = [line for line in asked if line["route"] == "/predict" and line["status"] == 200]
    assert len(answered) == (1 if which == "all" else 0)
