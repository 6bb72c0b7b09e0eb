"""`setpoint decisions`: the decision log out of the store, as CSV or JSON lines on standard output; a server may run
meanwhile. The store is the folder's, or the database's in SETPOINT_DATABASE.
"""

import csv
import json
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from calibrate.errors import InputError
from service.domain import Decision
from service.settings import Settings, read_settings

decisions = typer.Typer(name="decisions", no_args_is_help=True, help="The decision log.")
_DATA = Settings.model_fields["data"].default


@decisions.callback()
def _group() -> None:
    """The decision log."""


@decisions.command()
def export(
    data: Annotated[Path, typer.Option(help="The folder that holds all state.", envvar="SETPOINT_DATA")] = _DATA,
    start: Annotated[str | None, typer.Option("--from", help="The first moment, as 2026-01-31 or with a time.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The moment before which it ends.")] = None,
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
) -> None:
    """Write every entry between two moments (UTC unless they name a zone), the oldest first.

    Where SETPOINT_DATABASE is set, the store is that PostgreSQL database.
    """
    from service.main import open_existing
    from service.storage.decisions import SqlDecisions

    if form not in ("csv", "jsonl"):
        raise InputError(f"--format must be csv or jsonl, got {form[:50]!r}")
    bounds = _moment(start, "--from"), _moment(end, "--to")
    database = open_existing(read_settings({"data": data}))
    try:
        names = [each.name for each in fields(Decision)]
        table = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        if form == "csv":
            table.writeheader()
        for entry in SqlDecisions(database).between(*bounds):
            told = {**vars(entry), "at": entry.at.isoformat()}
            if form == "csv":
                table.writerow({name: _safe(value) for name, value in told.items()})
            else:
                sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    finally:
        database.close()


def _moment(text: str | None, option: Literal["--from", "--to"]) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} must be a moment as 2026-01-31 or 2026-01-31T08:00, got {text[:50]!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _safe(value: object) -> object:
    """A text that a spreadsheet would take for a formula begins with an apostrophe: users name classes."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
