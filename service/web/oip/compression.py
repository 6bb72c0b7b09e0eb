"""Compressed bodies, both ways: gzip, and deflate in its zlib form.

Decided here: never brotli, `tritonclient` says that it takes it and cannot read it; what a body unpacks to is bounded
by the limit for bodies; answers below a kilobyte are sent as they are, which any client reads.
"""

import zlib
from typing import Literal

from service.errors import BadRequest, TooLarge

_WINDOW = {"gzip": 31, "deflate": 15}
_LEAST_BYTES = 1024
_LEVEL = 1  # binary tensors hardly get smaller with more


def decompress(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """What a body with that `Content-Encoding` holds.

    Raises: `BadRequest` where it is of another encoding, broken, cut short or followed by more; `TooLarge`.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOW:
        raise BadRequest(f"Content-Encoding must be gzip, deflate or identity, got {name[:50]!r}")
    unpacker = zlib.decompressobj(_WINDOW[name])
    try:
        data = unpacker.decompress(body, most_bytes + 1)
    except zlib.error:
        raise BadRequest(f"the body is not {name}{' in its zlib form' if name == 'deflate' else ''}") from None
    if len(data) > most_bytes:
        raise TooLarge(f"the body may have at most {most_bytes} bytes, it unpacks to more")
    if not unpacker.eof:
        raise BadRequest(f"the {name} body is cut short")
    if unpacker.unused_data:
        raise BadRequest(f"{len(unpacker.unused_data)} bytes follow the {name} body")
    return data


def compress(body: bytes, accepted: str) -> tuple[Literal["gzip", "deflate"] | None, bytes]:
    """The body in the first encoding that `Accept-Encoding` likes best, or as it is."""
    if len(body) < _LEAST_BYTES or not accepted:
        return None, body
    name = _chosen(accepted)
    if name is None:
        return None, body
    packer = zlib.compressobj(_LEVEL, wbits=_WINDOW[name])
    return name, packer.compress(body) + packer.flush()


def _chosen(accepted: str) -> Literal["gzip", "deflate"] | None:
    best: Literal["gzip", "deflate"] | None = None
    most = 0.0
    for item in accepted.split(","):
        name, *options = (part.strip().lower() for part in item.split(";"))
        weight = next((option[2:] for option in options if option.startswith("q=")), "1")
        try:
            quality = float(weight)
        except ValueError:
            continue
        for known in ("gzip", "deflate"):
            if name == known and quality > most:
                best, most = known, quality
    return best
