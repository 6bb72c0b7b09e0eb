"""The commands that look after what a server keeps: backup, restore, and the audit trail.

They speak to the database itself, so they work beside running servers and without any.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli_out import STDOUT, refuse_stdout
from calibrate.errors import InputError
from service.settings import Settings, read_settings

if TYPE_CHECKING:  # SQL takes long to import, and most commands have no use for it
    from service.ports import Artifacts
    from service.storage import trail
    from service.storage.backup import Manifest
    from service.storage.database import Database

Data = Annotated[Path | None, typer.Option(help=Settings.model_fields["data"].description)]
Address = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="The PostgreSQL database; as SETPOINT_DATABASE its password is not seen by others on this machine.",
    ),
]
Place = Annotated[str | None, typer.Option("--artifacts", help=Settings.model_fields["artifacts"].description)]

audit = typer.Typer(
    name="audit", help="Look at the audit trail: whole or not, its head, all of it.", no_args_is_help=True
)


def backup(
    out: Annotated[Path, typer.Option(help="The file to write, as setpoint.tar.")],
    data: Data = None,
    database: Address = None,
    artifacts: Place = None,
) -> None:
    """Write everything a store holds into one file, while its servers run. It holds the hashes of the API keys."""
    from service.storage.backup import write_backup

    refuse_stdout(out, "--out", "a file, which is there once it is whole")
    with _opened(data, database, artifacts) as (store, files):
        made = write_backup(store, files, out)
    rows = sum(table.rows for table in made.tables)
    typer.echo(f"{out}: {rows} rows, {len(made.artifacts)} model files, head {_said(made.audit_head)}")
    _warn(made)
    for row in made.unrestorable:
        typer.secho(f"warning: restore refuses this backup until it is mended: {row}", fg="yellow", err=True)


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    data: Data = None,
    database: Address = None,
    artifacts: Place = None,
) -> None:
    """Fill an empty folder, or an empty database, with what a backup holds; all of it is checked first."""
    from service.storage.opening import open_artifacts, open_empty
    from service.storage.restore import read_manifest, restore_backup

    settings = _settings(data, database, artifacts)
    read_manifest(file)  # before anything is made
    store = open_empty(_address(settings), settings.data)
    try:
        made = restore_backup(file, store, open_artifacts(settings.artifacts, settings.data))
    finally:
        store.close()
    rows = sum(table.rows for table in made.tables)
    typer.echo(f"restored {rows} rows and {len(made.artifacts)} model files, head {_said(made.audit_head)}")
    _warn(made)


def _warn(made: "Manifest") -> None:
    """Tells what is wrong with the store in a backup."""
    for fault in made.audit_faults:
        typer.secho(f"warning: the audit trail is not whole: {fault}", fg="yellow", err=True)
    for fault in made.point_faults:
        typer.secho(f"warning: a point does not answer: {fault}", fg="yellow", err=True)


@audit.command()
def verify(
    head: Annotated[
        str | None, typer.Option(metavar="NUMBER:HASH", help="A head that was kept: the trail must lead through it.")
    ] = None,
    data: Data = None,
    database: Address = None,
) -> None:
    """Check that the audit trail is whole; each fault is a line, and the exit code 1 where there is one."""
    from service.storage import trail

    kept = None if head is None else _head(head)
    with _opened(data, database) as (store, _), store.look(limit_s=None) as step:
        found = 0
        for fault in trail.faults(step, kept):
            found += 1
            typer.echo(fault)
        newest = trail.head(step)
    if found:
        raise typer.Exit(1)
    typer.echo(f"whole: {newest.number} entries, head {_said(newest)}")


@audit.command("head")
def show_head(data: Data = None, database: Address = None) -> None:
    """Print NUMBER:HASH of the newest entry. Kept elsewhere, it shows later that nothing before it was changed."""
    from service.storage import trail

    with _opened(data, database) as (store, _), store.look() as step:
        typer.echo(_said(trail.head(step)))


@audit.command("export")
def export_trail(
    out: Annotated[Path | None, typer.Option(help="The file to write; the screen unless told.")] = None,
    data: Data = None,
    database: Address = None,
) -> None:
    """Write every entry as a line of JSON, the oldest first, with all that its hash is made of."""
    from service.storage import trail

    with _opened(data, database) as (store, _), store.look(limit_s=None) as step:
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in trail.exported(step))
        if out is None or out == STDOUT:
            sys.stdout.writelines(lines)
            return
        with out.open("x", encoding="utf-8") as file:
            file.writelines(lines)


@contextmanager
def _opened(
    data: Path | None, database: str | None, artifacts: str | None = None
) -> "Iterator[tuple[Database, Artifacts]]":
    from service.storage.opening import open_artifacts, open_existing

    settings = _settings(data, database, artifacts)
    store = open_existing(_address(settings), settings.data)
    try:
        yield store, open_artifacts(settings.artifacts, settings.data)
    finally:
        store.close()


def _settings(data: Path | None, database: str | None, artifacts: str | None) -> Settings:
    given = {"data": data, "database": database, "artifacts": artifacts}
    return read_settings({name: value for name, value in given.items() if value is not None})


def _address(settings: Settings) -> str | None:
    return None if settings.database is None else settings.database.get_secret_value()


def _head(said: str) -> "trail.Head":
    from service.storage.trail import Head

    if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", said):
        raise InputError(f"--head must be NUMBER:HASH as 'setpoint audit head' prints it, got {said[:100]!r}")
    number, digest = said.split(":")
    return Head(int(number), digest)


def _said(head: "trail.Head") -> str:
    return f"{head.number}:{head.hash}"
