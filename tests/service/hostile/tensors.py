"""Hostile requests of the Open Inference Protocol: headers, shapes, sizes and tensors that lie."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tests.service.hostile import Attack
from tests.service.hostile.texts import documents

INFER = "/v2/models/fraud/infer"
LENGTH = "inference-header-content-length"
ROW = struct.pack("<4f", 0.0, 0.0, 0.0, 0.0)
GOOD: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
MOST = 2**24  # the corpus' server takes no larger body


def head(**wrong: Any) -> bytes:
    """A request of one raw row, with something wrong in its tensor."""
    raw: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    return json.dumps({"inputs": [{**raw, **wrong}]}).encode()


def lengths() -> Iterator[tuple[str, bytes, str]]:
    """A name, a body, and what is said to be the length of its JSON."""
    body = head() + ROW
    for said in (
        "-1", "1", str(len(head()) - 1), str(len(head()) + 1), str(len(body)), str(len(body) + 1), "9" * 18, "9" * 5000,
        "1e3", "0x10", "+5", "1 2", "1,2", "NaN", "", "0",
    ):  # fmt: skip
        yield f"a length of {said[:20]!r}", body, said
    yield "a length into a text", b'{"inputs": "' + bytes(100), "12"
    yield "raw bytes for JSON", ROW * 1000, "16"


def sizes() -> Iterator[tuple[str, bytes]]:
    """JSON that is in front of one row."""
    for size in (0, 1, 15, 17, 2**31, 2**63, 2**64, -1, -16, 16.0, "16", True, 1e300, [16], {"a": 16}):
        yield f"a size of {size!r}", head(parameters={"binary_data_size": size})
    for shape in (
        [], [4], [16], [1, 4, 1], [4, 1], [0, 4], [2, 4], [1, -4], [-1, -4], [1, 4.0], [1, "4"], [True, 4], [None, 4],
        "14",
        {"0": 4}, [2**31, 4], [2**32, 2**32], [2**63, 2], [2**64, 0], [0] * 17, [1] * 64, [1] * 10**5, [[1], 4],
        [2**31, 0], [65536, 65536, 65536, 65536, 0],
    ):  # fmt: skip
        yield f"a shape of {str(shape)[:40]}, {len(shape)} long", head(shape=shape)
    for datatype in (
        "BYTES",
        "FP64",
        "FP16",
        "BOOL",
        "INT32",
        "UINT64",
        "BF16",
        "fp32",
        "float32",
        "O",
        "",
        None,
        1,
        ["FP32"],
    ):
        yield f"the datatype {datatype!r}", head(datatype=datatype)
    name: Any
    for name in ("", "X", "x\0", "y", "../x", "__class__", None, 1, [], "features", "logits", "operating_point"):
        yield f"the name {name!r}", head(name=name)
    yield "two that share the bytes", json.dumps({"inputs": [json.loads(head())["inputs"][0]] * 2}).encode()
    yield "both forms", head(data=[0, 0, 0, 0])


def texts() -> Iterator[tuple[str, bytes]]:
    """Raw BYTES that name the point of one row."""
    yield from {
        "a length of 2^32 - 1": b"\xff\xff\xff\xff",
        "a length of 2^31": struct.pack("<I", 2**31) + b"argmax",
        "a length that is one too long": struct.pack("<I", 7) + b"argmax",
        "half a length": b"\6\0",
        "no length": b"",
        "one too short": struct.pack("<I", 5) + b"argmax",
        "bad utf-8": struct.pack("<I", 2) + b"\xff\xfe",
        "half a pair": struct.pack("<I", 3) + b"\xed\xa0\x80",
        "big-endian": struct.pack(">I", 6) + b"argmax",
        "a null byte": struct.pack("<I", 7) + b"argmax\0",
        "two texts": (struct.pack("<I", 6) + b"argmax") * 2,
        "a million empty texts": bytes(4 * 10**6),
        "a text of a megabyte": struct.pack("<I", 10**6) + b"a" * 10**6,
        "a path": struct.pack("<I", 11) + b"/etc/passwd",
    }.items()


def calls() -> Iterator[tuple[str, Any]]:
    """JSON requests with one thing wrong."""
    deep: Any = [0, 0, 0, 0]
    for _ in range(500):
        deep = [deep]
    for name, tensor in {
        "nested data": {"data": deep}, "ragged data": {"data": [[0, 0, 0], [0]]},
        "texts for numbers": {"data": ["0"] * 4},
        "objects for numbers": {"data": [{}] * 4}, "too much data": {"data": [0] * 10**5},
        "1e39": {"data": [1e39, 0, 0, 0]},
        "a size without bytes": {"data": None, "parameters": {"binary_data_size": 16}},
        "an integer of 2^64": {"datatype": "UINT64", "data": [2**64, 0, 0, 0]},
        "an integer below zero": {"datatype": "UINT8", "data": [-1, 0, 0, 0]},
        "an object for data": {"data": {"0": 0}}, "a text for data": {"data": "0000"},
        "parameters that are a list": {"parameters": [1]}, "a parameter that is a list": {"parameters": {"a": [1]}},
        "FP16 as JSON": {"datatype": "FP16"},
    }.items():  # fmt: skip
        yield name, {"inputs": [{**GOOD, **tensor}]}
    inputs: Any
    outputs: Any
    parameters: Any
    for inputs in (None, {}, "x", 1, [], [None], [1], ["x"], [[GOOD]], [GOOD, GOOD], [{}], [GOOD] * 1000):
        yield f"inputs {str(inputs)[:40]}, {len(str(inputs))}", {"inputs": inputs}
    for outputs in ({}, "label", 1, [None], [1], ["label"], [{}], [{"name": 1}], [{"name": "x" * 10**5}],
                    [{"name": "label"}] * 2, [{"name": "label", "parameters": {"binary_data": "yes"}}],
                    [{"name": "logits", "parameters": {"classification": -1}}],
                    [{"name": "logits", "parameters": {"classification": 1.5}}],
                    [{"name": "margin", "parameters": {"classification": 1}}]):  # fmt: skip
        yield f"outputs {str(outputs)[:80]}", {"inputs": [GOOD], "outputs": outputs}
    for parameters in ([], 0, "x", {"priority": -1}, {"priority": "high"}, {"priority": 2**64}, {"timeout": -1},
                       {"timeout": 1.5}, {"timeout": "1"}, {"timeout": 2**64}, {"operating_point": 1},
                       {"operating_point": None},
                       {"operating_point": "nope"}, {"operating_point": "../x"}, {"operating_point": "argmax@2"},
                       {"operating_point": "x" * 10**6}, {"binary_data_output": 1}, {"a": {"b": 1}}):  # fmt: skip
        yield f"parameters {str(parameters)[:60]}", {"inputs": [GOOD], "parameters": parameters}
    for point in ([-1], [1], [2**31 - 1], [0, 0]):
        tensor = {"name": "operating_point", "shape": [len(point)], "datatype": "INT32", "data": point}
        yield f"the points {point}", {"inputs": [GOOD, tensor]}
    yield "an id that is a number", {"inputs": [GOOD], "id": 7}
    many = [{**GOOD, "name": f"x{i}"} for i in range(10**4)]
    yield "ten thousand tensors", {"inputs": many}


def packed() -> Iterator[tuple[str, bytes, str]]:
    """A name, a body and what it is said to be packed with."""
    bomb = bytes(MOST + 1)
    good = json.dumps({"inputs": [GOOD]}).encode()
    for kind, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        yield f"a bomb of {kind}", pack(bomb), kind
        yield f"a bomb of JSON in {kind}", pack(b'{"inputs": ' + b"[" * MOST), kind
        yield f"a bomb in {kind} twice", pack(pack(bomb)), kind
        yield f"{kind} that is cut short", pack(good)[:-5], kind
        yield f"{kind} with a tail", pack(good) + bytes(10), kind
        yield f"{kind} that is none", good, kind
        yield f"no {kind} at all", b"", kind
    yield "two of gzip, one behind the other", gzip.compress(good) * 2, "gzip"
    yield "a wrong sum", gzip.compress(good)[:-8] + bytes(8), "gzip"
    yield "raw deflate", zlib.compress(good)[2:-4], "deflate"
    for encoding in ("br", "zstd", "compress", "gzip, gzip", "gzip;q=1", "x" * 5000):
        yield f"packed with {encoding[:20]}", gzip.compress(good), encoding


def tensors() -> Iterator[Attack]:
    """All of them."""
    for name, body in documents().items():
        yield Attack(f"/v2: {name}", "POST", INFER, body)
    for name, body, said in lengths():
        yield Attack(f"/v2: {name}", "POST", INFER, body, {LENGTH: said})
    for name, body in sizes():
        yield Attack(f"/v2: {name}", "POST", INFER, body + ROW, {LENGTH: str(len(body))})
    for name, raw in texts():
        tensor = {"name": "operating_point", "shape": [1], "datatype": "BYTES"}
        body = json.dumps({"inputs": [GOOD, {**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
        yield Attack(f"/v2: a point, {name}", "POST", INFER, body + raw, {LENGTH: str(len(body))})
    for name, call in calls():
        yield Attack(f"/v2: {name}", "POST", INFER, json.dumps(call).encode())
    for name, number in {
        "NaN": "NaN",
        "Infinity": "-Infinity",
        "1e999": "1e999",
        "a hundred thousand digits": "9" * 10**5,
    }.items():
        body = (
            b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, %b]}]}' % number.encode()
        )
        yield Attack(f"/v2: {name} as JSON", "POST", INFER, body)
    for name, bits in {"infinity": 0x7F800000, "minus infinity": 0xFF800000}.items():
        raw = struct.pack("<4I", bits, 0, 0, 0)
        yield Attack(f"/v2: a row of {name}", "POST", INFER, head() + raw, {LENGTH: str(len(head()))})
    for name, body, encoding in packed():
        yield Attack(f"/v2: {name}", "POST", INFER, body, {"content-encoding": encoding})
    for path in (
        "/v2/models/fraud/versions/0/infer", "/v2/models/fraud/versions/-1/infer",
        "/v2/models/fraud/versions/1e0/infer",
        "/v2/models/fraud/versions/" + "9" * 5000 + "/infer", "/v2/models/" + "a" * 5000 + "/infer",
        "/v2/models/..%2ffraud/infer", "/v2/models/fraud%00/infer", "/v2/models/fraud/infer/", "/v2/models//infer",
        "/v2/models/fraud/infer%0a", "/v2/models/fraud%0a/infer", "/v2//models/fraud/infer",
    ):  # fmt: skip
        yield Attack(f"/v2: to {path[:60]}", "POST", path, json.dumps({"inputs": [GOOD]}).encode())
