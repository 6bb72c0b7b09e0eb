"""The secret that a request carries.

Decided here: clients of the Open Inference Protocol may send it as the password of HTTP's Basic scheme, whatever the
user is, since `tritonclient` has a plugin for that and none for Bearer. Elsewhere Basic is not taken: a browser that
was once given a password sends it along with the calls of other sites' pages.
"""

import base64
import binascii


def secret(authorization: str, *, basic: bool) -> str | None:
    """The token in an `Authorization` header: of Bearer, and with `basic` of `Basic base64(user:token)`; else None.

    >>> secret("Bearer abc", basic=False)
    'abc'
    >>> secret("Basic dTphYmM=", basic=True)
    'abc'
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic" or not basic:
        return None
    try:
        _, colon, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
