"""The audit trail: who changed what, when and why, as a chain of hashes that nobody can shorten or rewrite unseen.

Each entry holds the hash of the one before it and its own, SHA-256 over its content in canonical JSON; entries are
numbered 1, 2, 3 without a gap. Whoever kept the *head*, the number and hash of the newest entry at some time, can tell
later that everything up to there is as it was. The database itself refuses to change or delete an entry; the chain
shows where somebody did it past the database. It is not signed: who can write the whole database can write a whole new
chain, which only a head kept elsewhere gives away.

Decided here: an entry that cannot be read is a fault of the trail like any other, and hides none beside it. Whoever
looks at the trail is shown it in its place, with what there is of it and `unreadable` for its details: an entry that
quietly is not there is what an audit trail exists against. The export, which is evidence, has its columns as they lie
in the database.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, insert, select

from service.domain import AuditEntry
from service.storage.rows import Undecoded, read_rows
from service.storage.tables import audit

START = "0" * 64
UNREADABLE = "unreadable"
_PART = 1000


@dataclass(frozen=True)
class Head:
    """The number and the hash of an entry; of an empty trail 0 and zeros."""

    number: int
    hash: str


def entry_hash(
    number: int, at: datetime, actor: str, action: str, model: str, details: dict[str, Any], previous: str
) -> str:
    """The hash of an entry: hex SHA-256 over its content and the hash of the entry before it."""
    said = [number, at.astimezone(UTC).isoformat(timespec="microseconds"), actor, action, model, details, previous]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def write(step: Connection, at: datetime, actor: str, action: str, model: str, details: dict[str, Any]) -> Head:
    """Adds an entry in the step that makes the change; `model` is empty where it is of none."""
    before = head(step)
    details = orjson.loads(orjson.dumps(details))  # as it will be read
    number = before.number + 1
    made = Head(number, entry_hash(number, at, actor, action, model, details, before.hash))
    step.execute(
        insert(audit).values(
            id=number,
            at=at,
            actor=actor,
            action=action,
            model=model,
            details=details,
            previous=before.hash,
            hash=made.hash,
        )
    )
    return made


def head(step: Connection) -> Head:
    """The newest entry."""
    row = step.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    return Head(0, START) if row is None else Head(row.id, row.hash)


def newest(
    step: Connection, limit: int, *, models: frozenset[str] | None = None, before: int | None = None
) -> list[AuditEntry]:
    """Entries, the newest first; of these models alone, and those before a number, where that is told."""
    wanted = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(audit.c.id < before)
    if models is not None:
        wanted = wanted.where(audit.c.model.in_(models))
    return [_entry(*_read(row)) for row in read_rows(step, audit, wanted)]


def exported(step: Connection) -> Iterator[dict[str, Any]]:
    """Every entry, the oldest first, with all that its hash is made of; the time as it is hashed.

    One that cannot be read has `number`, `unreadable` with why not, and `raw` with its columns as text.
    """
    for row, why in _rows(step):
        if why:
            raw = {name: str(value) if name == "at" else value for name, value in row._mapping.items()}
            yield {"number": row.id, UNREADABLE: why, "raw": raw}
            continue
        at = _utc(row.at).astimezone(UTC).isoformat(timespec="microseconds")
        said = {"actor": row.actor, "action": row.action, "model": row.model, "details": row.details}
        yield {"number": row.id, "at": at, **said, "previous": row.previous, "hash": row.hash}


def changed_since(step: Connection, number: int) -> tuple[int, set[str]]:
    """The newest number, and the models that entries after `number` tell of."""
    latest = step.scalar(select(func.max(audit.c.id))) or 0
    if latest <= number:
        return latest, set()
    return latest, {name for name in step.scalars(select(audit.c.model).where(audit.c.id > number).distinct()) if name}


def faults(step: Connection, kept: Head | None = None) -> Iterator[str]:
    """Every place where the trail is not whole, in words; none where it is.

    `kept` is a head that somebody wrote down: the trail must still lead through it.
    """
    number, previous = 0, START
    for row, why in _rows(step):
        if row.id != number + 1:
            yield f"entry {number + 1} is missing"
        if row.previous != previous:
            yield f"entry {row.id} does not follow the entry before it: that was changed, taken away or put in"
        content = (row.actor, row.action, row.model, row.details)
        if why:
            yield f"entry {row.id} cannot be read: {why}"
        elif row.hash != entry_hash(row.id, _utc(row.at), *content, row.previous):
            yield f"entry {row.id} was changed: its content does not have its hash"
        if kept is not None and kept.number == row.id and kept.hash != row.hash:
            yield f"entry {row.id} was rewritten: it had the hash {kept.hash}, and has {row.hash}"
        number, previous = row.id, row.hash
    if kept is not None and kept.number > number:
        yield f"the trail was cut off: it had {kept.number} entries, and has {number}"


def _rows(step: Connection) -> Iterator[tuple[Row[Any], str]]:
    """Every row, the oldest first, as `_read` gives it."""
    number = 0
    wanted = select(audit).order_by(audit.c.id).limit(_PART)
    while rows := [_read(row) for row in read_rows(step, audit, wanted.where(audit.c.id > number))]:
        yield from rows
        number = rows[-1][0].id


def _read(row: Row[Any] | Undecoded) -> tuple[Row[Any], str]:
    """A row, and why it is no entry; nothing where it is one."""
    if isinstance(row, Undecoded):
        return row.raw, row.why
    for name in ("actor", "action", "model", "previous", "hash"):
        if not isinstance(row._mapping[name], str):
            return row, f"its {name} must be text, got {type(row._mapping[name]).__name__}"
    if not isinstance(row.details, dict):
        return row, f"its details must be an object, got {type(row.details).__name__}"
    return row, ""


def _entry(row: Row[Any], why: str) -> AuditEntry:
    details = {UNREADABLE: why} if why else row.details
    try:
        at = row.at if isinstance(row.at, datetime) else datetime.fromisoformat(row.at)
    except (ValueError, TypeError):
        at = datetime.fromtimestamp(0, UTC)
    return AuditEntry(_utc(at), str(row.actor), str(row.action), str(row.model), details, row.id, str(row.hash))


def _utc(at: datetime) -> datetime:
    """SQLite gives times back without their zone; all of ours are UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
