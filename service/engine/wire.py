"""What the server and its examiner say to each other: a line of JSON, and bytes. Nothing that is unpickled."""

import json
import socket
from typing import Any

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


def _exactly(source: socket.socket, count: int) -> bytes:
    made = bytearray()
    while len(made) < count:
        part = source.recv(min(count - len(made), 2**20))
        if not part:
            raise EOFError
        made += part
    return bytes(made)
