"""`setpoint keys`: makes, lists, rotates and revokes API keys, on the store itself; a running server sees it within a
second. The key alone goes to standard output, once, so that a script can take it.

Only `create` makes a store where there is none, since the first key may come before the first start, and says so.
"""

import getpass
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli import Json
from calibrate.errors import InputError
from service.domain import SCOPES, check_name
from service.keys import Key, check_key_name, check_scopes, digest, make_secret
from service.ports import Keys
from service.settings import Settings, read_settings

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="Make, list, rotate and revoke API keys, in the folder's store or in the database SETPOINT_DATABASE.",
)

Data = Annotated[Path, typer.Option(help="The folder that holds all state.", envvar="SETPOINT_DATA")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as the list shows it.")]
DATA = Settings.model_fields["data"].default
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d{1,9})([smhdw])")


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Who calls with it; the audit trail says this name.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may do, once for each: {', '.join(SCOPES)}.")],
    model: Annotated[list[str] | None, typer.Option(help="A model that it may use, once for each; else all.")] = None,
    expires: Annotated[str, typer.Option(help="How long it holds, as 12h, 90d or 52w, or never.")] = "365d",
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make a key and show it, once. The first one closes a server that was open to its machine."""
    now = datetime.now(UTC)
    key_id, secret = make_secret()
    models = None if not model else frozenset(check_name(each, "the name of a model") for each in model)
    held = life(expires)
    ends = None if held is None else now + held
    kept = Key(
        key_id, check_key_name(name), digest(secret.encode()), check_scopes(scope), models, now, operator(), ends
    )
    with opened(data, makes=True) as store:
        store.add(kept)
    _show_once(kept, secret, as_json)


@keys.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old one still holds, as 24h.")] = "24h",
    expires: Annotated[str, typer.Option(help="How long the new one holds, as 90d, or never.")] = "365d",
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make a key in the place of another, with its name, scopes and models, and show it, once."""
    now = datetime.now(UTC)
    made, secret = make_secret()
    held = life(expires)
    ends = None if held is None else now + held
    asked = Key(made, "", digest(secret.encode()), frozenset(), None, now, operator(), ends)
    with opened(data) as store:
        kept = store.rotate(key_id, asked, now + span(grace, "--grace"))
    _show_once(kept, secret, as_json)


@keys.command()
def revoke(
    key_id: KeyId,
    reason: Annotated[str, typer.Option(help="Why; the audit trail keeps it.")] = "",
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """End a key now, and for good."""
    with opened(data) as store:
        ended = store.revoke(key_id, operator(), datetime.now(UTC), reason[:1000])
    if as_json:
        print(json.dumps(_told(ended, "revoked")))
        return
    print(f"revoked key {key_id} of '{ended.name}'; running servers refuse it within a second")


@keys.command("list")
def show(data: Data = DATA, as_json: Json = False) -> None:
    """List every key there ever was, never its secret."""
    now = datetime.now(UTC)
    with opened(data) as store:
        known = [(key, key.state(now)) for key in store.all()]
    if as_json:
        print(json.dumps([_told(key, state) for key, state in known]))
        return
    if not known:
        print("there are no keys")
    for key, state in known:
        ends = "never ends" if key.expires_at is None else f"ends {key.expires_at:%Y-%m-%d %H:%M} UTC"
        models = "every model" if key.models is None else ", ".join(sorted(key.models))
        print(f"{key.id}  {key.name}  {state}, {ends}  {', '.join(sorted(key.scopes))}  {models}")


@contextmanager
def opened(data: Path, *, makes: bool = False) -> Iterator[Keys]:
    """The keys of a folder's store; a server may have it open too. Raises: `StorageFailed`, also where there is no
    store, unless `makes` is told.
    """
    from service.main import open_database, open_existing
    from service.storage.keys import SqlKeys
    from service.storage.opening import has_store

    settings = read_settings({"data": data})
    is_new = settings.database is None and not has_store(data)
    database = open_database(settings) if makes else open_existing(settings)
    if is_new:
        typer.echo(f"made a new store in {data.resolve()}, where there was none", err=True)
    try:
        yield SqlKeys(database)
    finally:
        database.close()


def life(text: str) -> timedelta | None:
    """How long a key holds, None for `never`. Raises: `InputError`."""
    if text == "never":
        return None
    held = span(text, "--expires")
    if not held:
        raise InputError(f"--expires must be more than 0, as 90d, or never; got {text!r}: such a key would never hold")
    return held


def span(text: str, option: str) -> timedelta:
    """A time as `90d`. Raises: `InputError`."""
    found = _SPAN.fullmatch(text)
    if not found or int(found[1]) * _UNITS[found[2]] > 100 * 365 * _UNITS["d"]:
        raise InputError(
            f"{option} must be a number of s, m, h, d or w, as 90d, of 100 years at most; got {text[:50]!r}"
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def operator() -> str:
    """Who runs the command, for the audit trail."""
    try:
        return f"operator:{getpass.getuser()}"[:200]
    except (OSError, KeyError):  # a user without a name, as in a container
        return "operator"


def _show_once(key: Key, secret: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"key": secret, **_told(key, "live")}))
        return
    typer.echo(f"key {key.id} of '{key.name}'; it is shown only now:", err=True)
    print(secret)


def _told(key: Key, state: str) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "state": state,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "created_at": key.created_at.isoformat(),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }
