"""Infer requests as clients write them, and their answers read without the code under test."""

import struct
from typing import Any

import numpy as np
import orjson
from starlette.testclient import TestClient

NUMPY = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
INFER = "/v2/models/fraud/infer"


def raw(values: Any, datatype: str) -> bytes:
    """The bytes of a tensor."""
    if datatype == "BYTES":
        words = [word if isinstance(word, bytes) else word.encode() for word in np.array(values, dtype=object).ravel()]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    return np.asarray(values, dtype=NUMPY[datatype]).tobytes()


def tensor(name: str, values: Any, datatype: str = "FP32", *, binary: bool = False) -> tuple[dict[str, Any], bytes]:
    """An input for the JSON, and the bytes behind it."""
    array = np.array(values, dtype=object if datatype == "BYTES" else NUMPY[datatype])
    said: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
    if not binary:
        return {**said, "data": array.ravel().tolist()}, b""
    data = raw(values, datatype)
    return {**said, "parameters": {"binary_data_size": len(data)}}, data


def body(*inputs: tuple[dict[str, Any], bytes], **call: Any) -> tuple[bytes, dict[str, str]]:
    """The whole body of a request, and its headers."""
    head = orjson.dumps({"inputs": [said for said, _ in inputs], **call})
    behind = b"".join(data for _, data in inputs)
    return head + behind, {"inference-header-content-length": str(len(head))} if behind else {}


def infer(
    client: TestClient,
    *inputs: tuple[dict[str, Any], bytes],
    path: str = INFER,
    headers: dict[str, str] | None = None,
    **call: Any,
) -> Any:
    """The response to a request."""
    content, own = body(*inputs, **call)
    return client.post(path, content=content, headers={**own, **(headers or {})})


def read(response: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A good answer: its JSON, and its outputs by name."""
    assert response.status_code == 200, response.text
    content = response.content
    length = int(response.headers.get("inference-header-content-length", len(content)))
    said, at = orjson.loads(content[:length]), length
    found = {}
    for output in said["outputs"]:
        shape, datatype = output["shape"], output["datatype"]
        if "data" in output:
            array = np.array(output["data"], dtype=object if datatype == "BYTES" else NUMPY[datatype])
        else:
            size = output["parameters"]["binary_data_size"]
            array, at = _from_raw(content[at : at + size], datatype), at + size
        found[output["name"]] = array.reshape(shape)
    assert at == len(content)
    binary = any("data" not in output for output in said["outputs"])
    assert response.headers["content-type"] == ("application/octet-stream" if binary else "application/json")
    return said, found


def _from_raw(data: bytes, datatype: str) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(data, NUMPY[datatype])
    words, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        words.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return np.array(words, dtype=object)
