"""API keys: what one is, and how its secret is made and recognised.

A key is `sp_<id>_<secret>`: the prefix lets scanners of source code find one that leaked, the id names the key in
lists and in the audit trail, the secret is 256 random bits. Only SHA-256 of the whole text is kept: bits that nobody
can guess need no slow hash, so a check costs a microsecond. The name says who calls, and outlives the key: a rotated
key keeps it, so that the audit trail and the rule of four eyes see one caller.

Decided here: keys are made, rotated and revoked on the store alone, by whoever runs the server, and by no call to it. A
key that leaked cannot make others, and nobody who may approve a point can make a second caller to approve his own.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from calibrate.errors import InputError, SetpointError
from service.domain import SCOPES, Principal, Scope, check_name

PREFIX = "sp_"
LOCAL, TOKEN = "local", "token"
RESERVED = frozenset({LOCAL, TOKEN, "operator"})
_ID_BYTES, _SECRET_BYTES = 5, 32


class BadKey(InputError):
    """An API key is asked for with a name, scope, model or time that it cannot have."""


class UnknownKey(SetpointError, LookupError):
    """There is no API key of that id."""


@dataclass(frozen=True)
class Key:
    """An API key as it is kept: never its secret. `models` None is every model, `expires_at` None is never."""

    id: str
    name: str
    hash: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(self.name, self.scopes, self.models, self.id)

    def state(self, now: datetime) -> str:
        """`live`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"


def make_secret() -> tuple[str, str]:
    """A new id and the whole key with it, which is shown once."""
    made = secrets.token_hex(_ID_BYTES)
    return made, f"{PREFIX}{made}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest(presented: bytes) -> str:
    """What is kept of a key or a token, and compared: hex SHA-256."""
    return hashlib.sha256(presented).hexdigest()


def check_key_name(name: str) -> str:
    """A name for a caller. Raises: `BadKey` for one that the server speaks of itself, `BadName`."""
    if name in RESERVED:
        raise BadKey(f"'{name}' stands for callers without a key; choose another name")
    return check_name(name, "the name of a key")


def check_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Scopes by name, at least one. Raises: `BadKey`."""
    given = list(scopes)
    unknown = [scope for scope in given if scope not in SCOPES]
    if unknown or not given:
        raise BadKey(
            f"a key needs one or more of the scopes {', '.join(SCOPES)}; got {(unknown or ['none'])[0][:50]!r}"
        )
    return frozenset(cast("list[Scope]", given))
