"""API keys in the store: each change is one step with its audit entry. Secrets never come here, only their digests."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from service.keys import BadKey, Key, UnknownKey
from service.storage import trail
from service.storage.database import Database
from service.storage.tables import keys
from service.storage.times import utc


class SqlKeys:
    """The keys of a database. Raises: `StorageFailed` from every method."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Key]:
        """Every key there ever was, the oldest first."""
        with self._database.look() as look:
            return [_key(row) for row in look.execute(_every()).all()]

    def add(self, key: Key) -> None:
        """Keeps a new key. Raises: `BadKey` where another live key has its name."""
        with self._database.step() as step:
            named = step.execute(_every().where(keys.c.name == key.name)).all()
            if any(_key(row).state(key.created_at) == "live" for row in named):
                raise BadKey(f"there is a live key named '{key.name}': rotate it, or revoke it first")
            step.execute(insert(keys).values(**_columns(key)))
            trail.write(step, key.created_at, key.created_by, "create key", "", _said(key))

    def rotate(self, old: str, key: Key, expires_at: datetime) -> Key:
        """Keeps a key in the place of another, from which it takes name, scopes and models; the old one holds until
        `expires_at`, or until its own end where that comes first. Gives the new one.

        Raises: `UnknownKey`, `BadKey` where the old one is not live.
        """
        with self._database.step() as step:
            before = _key(step.execute(_every().where(keys.c.id == old)).one_or_none(), old)
            if before.state(key.created_at) != "live":
                raise BadKey(f"key {old} is {before.state(key.created_at)}: create a new one")
            ends = expires_at if before.expires_at is None else min(expires_at, before.expires_at)
            made = Key(
                key.id, before.name, key.hash, before.scopes, before.models, key.created_at, key.created_by,
                key.expires_at,
            )  # fmt: skip
            step.execute(update(keys).where(keys.c.id == old).values(expires_at=ends))
            step.execute(insert(keys).values(**_columns(made)))
            said = {**_said(made), "in_place_of": old, "old_expires_at": ends.isoformat()}
            trail.write(step, key.created_at, key.created_by, "rotate key", "", said)
        return made

    def revoke(self, key_id: str, actor: str, at: datetime, reason: str = "") -> Key:
        """Ends a key now, and for good. Raises: `UnknownKey`, `BadKey` where it was revoked before."""
        with self._database.step() as step:
            found = _key(step.execute(_every().where(keys.c.id == key_id)).one_or_none(), key_id)
            if found.revoked_at is not None:
                raise BadKey(f"key {key_id} was revoked at {found.revoked_at.isoformat()}")
            step.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=at))
            trail.write(step, at, actor, "revoke key", "", {"id": key_id, "name": found.name, "reason": reason})
        return found


def read_key(step: Connection, key_id: str) -> Key | None:
    """A key as it stands in this step, None where there never was one of that id."""
    row = step.execute(_every().where(keys.c.id == key_id)).one_or_none()
    return None if row is None else _key(row)


def _every() -> Select[Any]:
    return select(keys).order_by(keys.c.created_at, keys.c.id)


def _key(row: Row[Any] | None, key_id: str = "") -> Key:
    if row is None:
        raise UnknownKey(f"there is no key {key_id[:50]!r}")
    return Key(
        id=row.id,
        name=row.name,
        hash=row.hash,
        scopes=frozenset(row.scopes),
        models=None if row.models is None else frozenset(row.models),
        created_at=utc(row.created_at),
        created_by=row.created_by,
        expires_at=None if row.expires_at is None else utc(row.expires_at),
        revoked_at=None if row.revoked_at is None else utc(row.revoked_at),
    )


def _columns(key: Key) -> dict[str, Any]:
    models = None if key.models is None else sorted(key.models)
    return {**vars(key), "scopes": sorted(key.scopes), "models": models}


def _said(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }
