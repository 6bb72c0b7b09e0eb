"""A backup: one file with everything that a store holds, made while its servers run.

Decided here: the form is neutral, a tar of tables as lines of JSON and of model files, so that a backup of SQLite is
restored into PostgreSQL and the other way round; it is read in one snapshot of the database, which holds up nobody. A
model file is put before any row names it and never taken away, so every file that the snapshot names is there. The
manifest comes last and holds the digest of all else, so a file that was cut off is no backup. It is written under a
temporary name, synced, renamed, and only its owner may read it: it holds the hashes of the API keys.

A store that is damaged is backed up as it is, since the next copy of it may be worse. The same is looked at as when it
is restored, and the manifest says what was found; a restore takes just those back and tells them again: a trail
that was changed says so there too, and a point without its digest does not answer there either. What a database cannot
hold, as a time that is none, is kept as it lies there for somebody to mend; that is said when the backup is made, and a
restore refuses it.
"""

import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

import orjson
from sqlalchemy import Connection, Row, Table, select

from service.errors import StorageFailed
from service.ports import Artifacts
from service.storage import trail
from service.storage.artifacts import sync_folder
from service.storage.database import LATEST_MIGRATION, Database
from service.storage.neutral import Kind, from_lines, kinds, raw_line, to_line
from service.storage.points import point_faults
from service.storage.rows import CANNOT_BE_DECODED, Undecoded, read_rows
from service.storage.tables import metadata, model_versions, operating_points

FORMAT, FORMAT_VERSION = "setpoint backup", 1
MANIFEST = "manifest.json"
_ROWS = 1000
_MOST_FAULTS = 20


@dataclass(frozen=True)
class TableFile:
    """One table: what its columns hold, how many rows there are, and the SHA-256 of its lines."""

    name: str
    columns: dict[str, Kind]
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that a backup holds; `artifacts` are sizes by digest, `audit_faults` what was wrong with the trail then,
    `point_faults` with points, and `unrestorable` the rows that a restore refuses.
    """

    format: str
    format_version: int
    release: str
    made_at: datetime
    migration: str
    tables: list[TableFile]
    artifacts: dict[str, int]
    audit_head: trail.Head
    audit_faults: list[str]
    point_faults: list[str] = field(default_factory=list)
    unrestorable: list[str] = field(default_factory=list)


def write_backup(database: Database, artifacts: Artifacts, out: Path) -> Manifest:
    """Writes a backup. Raises: `StorageFailed` where anything could not be read or written; then there is none."""
    if out.exists():
        raise StorageFailed(f"{out} is there already: a backup is never written over")
    try:
        with _written(out) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            with database.look(limit_s=None) as step:
                refused: list[str] = []
                tables = [_add_table(archive, step, table, out.parent, refused) for table in metadata.sorted_tables]
                manifest = Manifest(
                    format=FORMAT,
                    format_version=FORMAT_VERSION,
                    release=version("setpoint"),
                    made_at=datetime.now(UTC),
                    migration=LATEST_MIGRATION,
                    tables=tables,
                    artifacts={},
                    audit_head=trail.head(step),
                    audit_faults=some_faults(step),
                    point_faults=point_faults(step),
                    unrestorable=refused[:_MOST_FAULTS],
                )
                needed = needed_artifacts(step)
                curves = _curves(step)
            for digest in sorted(needed | curves):
                try:
                    data = artifacts.get(digest)
                except StorageFailed:
                    if digest in needed:
                        raise
                    continue  # a curve is only looked at: without it every point still answers
                _add(archive, f"artifacts/{digest}", io.BytesIO(data), len(data))
                manifest.artifacts[digest] = len(data)
            said = orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2)
            _add(archive, MANIFEST, io.BytesIO(said), len(said))
    except OSError as error:
        raise StorageFailed(f"the backup {out} could not be written: {error.strerror or error}") from None
    return manifest


def needed_artifacts(step: Connection) -> set[str]:
    """The digests of every file of every model version: as it was registered, and as it is served.

    A version that is registered by its classes alone has none.
    """
    rows = step.execute(select(model_versions.c.digest, model_versions.c.spec)).all()
    files = [(row.digest, str(row.spec["graph_digest"])) for row in rows if row.spec["graph_digest"] is not None]
    return {digest for pair in files for digest in pair}


def _curves(step: Connection) -> set[str]:
    """The digests of the curves that points name."""
    rows = [row for row in read_rows(step, operating_points, select(operating_points)) if isinstance(row, Row)]
    named = {row.details.get("curve") for row in rows if isinstance(row.details, dict)}
    return {digest for digest in named if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)}


def some_faults(step: Connection) -> list[str]:
    """The first faults of the trail."""
    return [fault for fault, _ in zip(trail.faults(step), range(_MOST_FAULTS), strict=False)]


def _add_table(archive: tarfile.TarFile, step: Connection, table: Table, folder: Path, refused: list[str]) -> TableFile:
    """Adds a table; to `refused` goes what a restore would say of its rows."""
    columns, rows, digest = kinds(table), 0, hashlib.sha256()
    with tempfile.TemporaryFile(dir=folder) as lines:  # a tar wants the size first
        try:
            for line in _lines(step, table, columns):
                lines.write(line)
        except CANNOT_BE_DECODED:
            lines.seek(0)
            lines.truncate()
            for line in _raw_lines(step, table, columns, refused):
                lines.write(line)
        size = lines.tell()
        lines.seek(0)
        for line in lines:
            digest.update(line)
            rows += 1
        lines.seek(0)
        _add(archive, f"tables/{table.name}.jsonl", lines, size)
    return TableFile(str(table.name), columns, rows, digest.hexdigest())


def _lines(step: Connection, table: Table, columns: dict[str, Kind]) -> Iterator[bytes]:
    wanted = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_ROWS)
    return (to_line(row, columns) for row in step.execute(wanted))


def _raw_lines(step: Connection, table: Table, columns: dict[str, Kind], refused: list[str]) -> Iterator[bytes]:
    """The same where some rows cannot be decoded."""
    wanted = select(table).order_by(*table.primary_key.columns)
    for number, row in enumerate(read_rows(step, table, wanted), start=1):
        if not isinstance(row, Undecoded):
            yield to_line(row, columns)
            continue
        line = raw_line(row.raw, columns)
        try:
            list(from_lines(iter([line]), columns))
        except ValueError as error:
            refused.append(f"table '{table.name}', row {number}: {str(error).removeprefix('line 1: ')}")
        yield line


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, content)


@contextmanager
def _written(out: Path) -> Iterator[IO[bytes]]:
    """A new file that has its name once it is whole and synced."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp")  # its owner's alone
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
