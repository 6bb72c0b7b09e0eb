"""What the server and its helpers say to each other: a line of JSON, and bytes. Nothing that is unpickled."""

import json
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np

_LENGTH = 8


def send(to: socket.socket, head: dict[str, Any], data: bytes) -> None:
    """Sends JSON and bytes."""
    text = json.dumps(head).encode()
    to.sendall(len(text).to_bytes(_LENGTH, "big") + len(data).to_bytes(_LENGTH, "big") + text)
    to.sendall(data)


def receive(source: socket.socket) -> tuple[dict[str, Any], bytes]:
    """What `send` sent. Raises: `EOFError` where the other side ended before it was through."""
    sizes = _exactly(source, 2 * _LENGTH)
    head = _exactly(source, int.from_bytes(sizes[:_LENGTH], "big"))
    return json.loads(head), _exactly(source, int.from_bytes(sizes[_LENGTH:], "big"))


def pack(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """Arrays of numbers or of texts as JSON and bytes."""
    about: dict[str, Any] = {}
    parts = []
    for name, array in arrays.items():
        is_text = array.dtype.kind in "OU"
        part = json.dumps(array.ravel().tolist()).encode() if is_text else np.ascontiguousarray(array).tobytes()
        about[name] = {"type": "text" if is_text else array.dtype.str, "shape": array.shape, "bytes": len(part)}
        parts.append(part)
    return about, b"".join(parts)


def unpack(about: Mapping[str, Any], data: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack` packed."""
    arrays, at = {}, 0
    for name, said in about.items():
        part = memoryview(data)[at : at + said["bytes"]]
        at += said["bytes"]
        if said["type"] == "text":
            made = np.empty(len(texts := json.loads(bytes(part))), dtype=object)
            made[:] = texts
        else:
            made = np.frombuffer(part, dtype=said["type"])
        arrays[name] = made.reshape(said["shape"])
    return arrays


def _exactly(source: socket.socket, count: int) -> bytes:
    made = bytearray(count)
    view, at = memoryview(made), 0
    while at < count:
        part = source.recv_into(view[at:], min(count - at, 2**20))
        if not part:
            raise EOFError
        at += part
    return bytes(made)
