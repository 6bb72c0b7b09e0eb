"""How errors look under `/v2`, whose clients read no other shape than the protocol's own."""

import re

from calibrate.errors import SetpointError
from service.errors import UnknownRoute, Unsupported

# Parts of the protocol that clients may ask for, and that are not here.
_UNSUPPORTED = re.compile(
    r"/v2/((system|cuda)sharedmemory/.+|logging|trace/setting"
    r"|models/[^/]+(/versions/[^/]+)?/(trace/setting|generate|generate_stream|infer_stream))"
)


def is_oip(path: str) -> bool:
    """Whether a path is of the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def oip_status(status: int) -> int:
    """The status for one of ours: the protocol knows no 422, what does not fit is 400; and what was not run in time is
    unavailable, 503, to its servers and clients.
    """
    return {422: 400, 504: 503}.get(status, status)


def unsupported(error: SetpointError, path: str) -> SetpointError:
    """`Unsupported` in place of `UnknownRoute`, where the protocol knows the path."""
    if isinstance(error, UnknownRoute) and _UNSUPPORTED.fullmatch(path):
        return Unsupported(f"{path[:200]} is a part of the protocol that this server does not have")
    return error
