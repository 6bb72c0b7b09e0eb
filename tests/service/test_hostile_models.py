"""Files that are made to harm a server: refused in time, while the server stays as it is."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from starlette.testclient import TestClient

from service.engine.onnx import OnnxEngine
from service.engine.workshop import shared_workshop
from tests.contracts.test_engine import endless_loop
from tests.models import WIDTH, build, network
from tests.service.conftest import Start, alive, refused, register

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux only")
node, info = helper.make_node, helper.make_tensor_value_info
LAST = [
    node("ReduceMax", ["big"], ["m"], keepdims=0),
    node("Add", ["x", "m"], ["y"]),
    node("MatMul", ["y", "w"], ["z"]),
]
HEAD = {"w": np.ones((WIDTH, 2), np.float32)}


def asks_for(operator: str, shape: list[int], *inputs: str) -> bytes:
    """A few bytes that make an operator ask for gigabytes."""
    return build([node(operator, [*inputs, "s"], ["big"]), *LAST], {**HEAD, "s": np.array(shape)}, ["z"])


def grows() -> bytes:
    """A loop that doubles what it carries at every turn."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Concat", ["v", "v"], ["vv"], axis=0)], "turn",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("vv", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return build([node("Loop", ["turns", "", "x"], ["big"], body=body), *LAST], {**HEAD, "turns": np.array(60)}, ["z"])


def folded() -> bytes:
    """Gigabytes that are computed while the file is loaded, because they are constant."""
    nodes = [node("Expand", ["one", "s"], ["big"]), *LAST]
    return build(nodes, {**HEAD, "one": np.ones(1, np.float32), "s": np.array([2**31])}, ["z"])


def changed(change: Callable[[onnx.ModelProto], Any]) -> bytes:
    """The network with something done to it."""
    model = onnx.load_model_from_string(network(2))
    change(model)
    return bytes(model.SerializeToString())


def outside(location: str) -> bytes:
    """A weight that is to be read from a path."""

    def move(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return changed(move)


def huge(model: onnx.ModelProto) -> None:
    """A weight that says it has a million million numbers, and holds a few."""
    model.graph.initializer[2].dims[:] = [2**20, 2**20]


def nodes(count: int) -> bytes:
    """One after the other."""
    chain = [node("Identity", ["x" if i == 0 else f"t{i - 1}"], [f"t{i}"]) for i in range(count)]
    return build([*chain, node("MatMul", [f"t{count - 1}", "w"], ["z"])], HEAD, ["z"])


def foreign() -> bytes:
    """An operator that only its maker's library knows."""
    model = onnx.load_model_from_string(build([node("Evil", ["x"], ["z"], domain="evil.ops")], {}, ["z"]))
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))
    return bytes(model.SerializeToString())


MEMORY = r"takes more than \d+ MiB of memory"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "ConstantOfShape": (lambda: asks_for("ConstantOfShape", [2**31]), MEMORY),
    "Expand": (lambda: asks_for("Expand", [2**29, 1, 1], "x"), MEMORY),
    "Tile": (lambda: asks_for("Tile", [2**28, 2], "x"), f"could not be run|{MEMORY}"),
    "a loop that grows": (grows, MEMORY),
    "constants": (folded, f"{MEMORY}|more than .* MiB of memory, or crashed|refuses the model|could not be run"),
    "another file": (lambda: outside("../../../../etc/passwd"), "kept outside the file"),
    "a device": (lambda: outside("/dev/zero"), "kept outside the file"),
    "a huge initializer": (lambda: changed(huge), "constant 'w2' cannot be read|refuses the model"),
    "100,000 nodes": (lambda: nodes(100_000), "more than 50000 nodes"),
    "a custom operator": (foreign, "refuses the model"),
}


def memory_mib() -> float:
    """What this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_time_and_memory(standing: TestClient, name: str) -> None:
    """With the reason; nothing is kept, and the server is alive and no larger than before."""
    make, said = HOSTILE[name]
    data = make()
    before, started = memory_mib(), time.monotonic()
    named = {"output": "z", "output_kind": "logits"} if name == "a custom operator" else {}
    answer = standing.post("/models", data={"name": "m", **named}, files={"file": ("m.onnx", data)})
    kind = answer.json()["type"].rsplit(":", 1)[1]
    assert kind in ("bad-model", "model-failed")
    assert re.search(said, refused(answer, 422, kind))
    assert time.monotonic() - started < 30
    assert memory_mib() - before < 200
    assert [model["name"] for model in standing.get("/models").json()] == ["fraud"]
    alive(standing)


def test_a_file_that_never_ends_is_refused_in_time(start: Start) -> None:
    """A loop without end is stopped after the time that a run has."""
    client = start(run_s=0.5)
    started = time.monotonic()
    answer = client.post("/models", data={"name": "m"}, files={"file": ("m.onnx", endless_loop())})
    assert "stopped after 0.5 s" in refused(answer, 422, "model-failed")
    assert time.monotonic() - started < 20


def test_a_helper_that_is_gone_is_started_anew(client: TestClient) -> None:
    """Ended from outside, as a system short of memory does."""
    register(client, network(2), "a")
    workshop = shared_workshop()
    assert workshop is not None
    helper = workshop.forkserver._helper
    assert helper is not None
    helper.kill()
    helper.wait()
    register(client, network(2), "b")


def test_a_process_that_crashes_is_a_bad_model() -> None:
    """So little memory that not even the file can be read."""
    engine = OnnxEngine(memory_bytes=0)
    with pytest.raises(Exception, match="MiB of memory"):
        engine.examine(nodes(20_000))
