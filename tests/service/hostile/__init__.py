"""A corpus of hostile requests: what is sent to break a server of this kind, made rather than kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attack:
    """One request. `name` says what it tries."""

    name: str
    verb: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def form(fields: Mapping[str, str | bytes], files: Mapping[str, bytes], boundary: str = "b") -> tuple[bytes, str]:
    """A multipart body and its content type."""
    parts = b""
    for name, text in fields.items():
        data = text if isinstance(text, bytes) else text.encode()
        parts += b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
            boundary.encode(), name.encode(), data,
        )  # fmt: skip
    for name, data in files.items():
        head = b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n'
        parts += head % (boundary.encode(), name.encode()) + data + b"\r\n"
    return parts + b"--%b--\r\n" % boundary.encode(), f"multipart/form-data; boundary={boundary}"
