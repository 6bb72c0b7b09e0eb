"""Restores a backup into an empty place: all of it, checked, or nothing.

Decided here: the file is read twice. The first time everything in it is held against the manifest, and nothing is
written. The second time model files are put, which harm nobody where the rest fails, and all rows go in as one step:
the tables are made as they were when the backup was made, filled, brought up to this release, and the audit trail,
points and model files checked, before any of it can be seen. No name in the file becomes a path: a member is one of
three known kinds, a plain file, or the whole is refused; nothing in it is compressed, so it cannot grow.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, insert, inspect, select, text

from service.errors import StorageFailed
from service.ports import Artifacts
from service.storage import trail
from service.storage.backup import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    TableFile,
    needed_artifacts,
    some_faults,
)
from service.storage.database import LATEST_MIGRATION, Database, migrate
from service.storage.jobs import fail_unended
from service.storage.neutral import as_table, from_lines
from service.storage.points import point_faults
from service.storage.tables import decisions

_MANIFEST = TypeAdapter(Manifest)
_MEMBER = re.compile(r"manifest\.json|tables/([a-z_]{1,64})\.jsonl|artifacts/([0-9a-f]{64})")
_MOST_MANIFEST_BYTES = 64 * 2**20
_MOST_LINE_BYTES = 256 * 2**20
_ROWS = 500


def read_manifest(file: Path) -> Manifest:
    """The manifest of a backup, all of which was checked against it. Raises: `StorageFailed` naming what is wrong."""
    found: dict[str, str] = {}
    manifest: Manifest | None = None
    with _opened(file) as archive:
        for name, content, size in _members(file, archive):
            if name in found or manifest is not None:
                raise _broken(file, f"{name} is there twice, or after the manifest")
            if name == MANIFEST:
                manifest = _manifest(file, content, size)
            else:
                found[name] = _digest(content)
    if manifest is None:
        raise _broken(file, "it has no manifest, so it was cut off")
    wanted = {f"tables/{table.name}.jsonl": table.sha256 for table in manifest.tables}
    wanted |= {f"artifacts/{digest}": digest for digest in manifest.artifacts}
    if missing := sorted(wanted.keys() ^ found.keys()):
        raise _broken(file, f"the manifest and the file do not agree on {missing[0]}")
    for name, digest in found.items():
        if digest != wanted[name]:
            raise _broken(file, f"{name} has changed: its content does not have its digest")
    return manifest


def restore_backup(file: Path, database: Database, artifacts: Artifacts) -> Manifest:
    """Fills an empty database and a place for artifacts. Raises: `StorageFailed`; then the database is still empty."""
    manifest = read_manifest(file)
    with _opened(file) as archive:
        for name, content, size in _members(file, archive):
            if name.startswith("artifacts/") and artifacts.put(content.read(size)) != name.split("/")[1]:
                raise _broken(file, f"{name} changed while it was read")
    with database.step(limit_s=None) as step, _opened(file) as archive:
        if inspect(step).get_table_names():
            raise StorageFailed(f"{database.name} is not empty any more")
        migrate(step, manifest.migration)
        _fill(file, archive, manifest, step)
        migrate(step)
        _check(file, manifest, step)
        fail_unended(step)
    return manifest


def _fill(file: Path, archive: tarfile.TarFile, manifest: Manifest, step: Connection) -> None:
    members = {name: archive.getmember(name) for name in archive.getnames()}
    expected = set(inspect(step).get_table_names()) - {"alembic_version"}
    if others := sorted(expected ^ {table.name for table in manifest.tables}):
        there = "is missing" if others[0] in expected else "is none of them"
        raise _broken(file, f"it must have the tables of migration {manifest.migration}: '{others[0]}' {there}")
    for table in manifest.tables:
        columns = {column["name"] for column in inspect(step).get_columns(table.name)}
        if columns != table.columns.keys():
            raise _broken(file, f"table '{table.name}' has not the columns of migration {manifest.migration}")
        content = archive.extractfile(members[f"tables/{table.name}.jsonl"])
        if content is None:
            raise _broken(file, f"table '{table.name}' is no file")
        _fill_table(file, table, content, step)


def _fill_table(file: Path, table: TableFile, content: IO[bytes], step: Connection) -> None:
    into, digest, rows = as_table(table.name, table.columns), hashlib.sha256(), 0

    def lines() -> Iterator[bytes]:
        while line := content.readline(_MOST_LINE_BYTES):
            digest.update(line)
            yield line

    values = from_lines(lines(), table.columns)
    try:
        while part := list(islice(values, _ROWS)):
            step.execute(insert(into), part)
            rows += len(part)
    except ValueError as error:
        raise _broken(file, f"table '{table.name}', {error}") from None
    if (rows, digest.hexdigest()) != (table.rows, table.sha256):
        raise _broken(file, f"table '{table.name}' has {rows} rows, the manifest says {table.rows}")


def _check(file: Path, manifest: Manifest, step: Connection) -> None:
    """What only the whole can show: the trail, the points, the files of every version."""
    if trail.head(step) != manifest.audit_head:
        raise _broken(file, "the audit trail does not end where the manifest says")
    if _where(faults := some_faults(step)) != _where(manifest.audit_faults):
        raise _broken(file, f"the audit trail is not whole: {'; '.join(faults[:3]) or 'faults are gone'}")
    known = _where(manifest.point_faults)
    if unknown := [fault for fault in point_faults(step) if _where([fault])[0] not in known]:
        raise _broken(file, unknown[0])
    if missing := sorted(needed_artifacts(step) - manifest.artifacts.keys()):
        raise _broken(file, f"the model file {missing[0]} is not in it")
    if step.dialect.name == "postgresql":  # which counts apart from the rows
        sequence = step.scalar(text("SELECT pg_get_serial_sequence('decisions', 'id')"))
        newest = step.scalar(select(decisions.c.id).order_by(decisions.c.id.desc()).limit(1))
        if sequence and newest:
            step.execute(text("SELECT setval(:sequence, :newest)"), {"sequence": sequence, "newest": newest})


def _where(faults: list[str]) -> list[str]:
    """Faults without why: text that was no JSON is JSON text by now, which is as wrong in other words."""
    return [fault.split(": ")[0] for fault in faults]


def _members(file: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes], int]]:
    for member in archive:
        if not _MEMBER.fullmatch(member.name):
            raise _broken(file, f"{member.name[:100]!r} has no place in a backup")
        content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None:
            raise _broken(file, f"{member.name} is no plain file")
        yield member.name, content, member.size


def _manifest(file: Path, content: IO[bytes], size: int) -> Manifest:
    if size > _MOST_MANIFEST_BYTES:
        raise _broken(file, f"its manifest has {size} bytes")
    try:
        manifest = _MANIFEST.validate_json(content.read(size))
    except ValidationError as error:
        raise _broken(file, f"its manifest cannot be read: {error.errors(include_input=False)[0]['msg']}") from None
    if (manifest.format, manifest.format_version) != (FORMAT, FORMAT_VERSION) or manifest.migration > LATEST_MIGRATION:
        raise StorageFailed(f"{file} was written by a newer release, {manifest.release}: update Setpoint")
    if not re.fullmatch(r"[0-9]{4}", manifest.migration) or manifest.migration < "0001":
        raise _broken(file, f"there is no migration {manifest.migration[:20]!r}")
    return manifest


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while part := content.read(2**20):
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise _broken(file, str(error)) from None
    except OSError as error:
        raise StorageFailed(f"{file} could not be read: {error.strerror or error}") from None


def _broken(file: Path, why: str) -> StorageFailed:
    return StorageFailed(f"{file} is no whole backup: {why}")
