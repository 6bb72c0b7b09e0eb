"""The database behind every store: SQLite in a file, or PostgreSQL, through SQLAlchemy.

Decided here: a change is a *step*, one transaction that first takes the one lock of all writers, so nothing is numbered
twice and the audit trail is one chain; a *look* is a snapshot that takes no lock and waits for no writer. SQLite has
both (`BEGIN IMMEDIATE`, WAL); PostgreSQL has an advisory lock for the one and repeatable reads for the other. A failure
undoes the step and is told as `StorageFailed`, without the library's words, which go to the log. Nothing waits for a
database for longer than `_STEP_S`; a writer that died in the middle of a step is ended by PostgreSQL itself.

SQLite goes on writing into a file that was deleted, and nobody will ever read that: so a step asks, first and before it
commits, whether the file that was opened is still the one at its path, and fails where it is not. Looks go on.

A folder and a file that are made here are their owner's alone. What was there keeps its modes: they are the operator's.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from service.errors import StorageFailed
from service.storage.postgres import limited, open_postgres

log = logging.getLogger(__name__)

LATEST_MIGRATION = "0003"
_BUSY_MS = 10_000
_CHECK_MS = 500
_ABANDONED_MS = 30_000
_LOOK_S, _STEP_S = 5.0, 15.0  # of PostgreSQL
_WRITERS = 5_037_019_441  # the key of the lock of all writers, any number that nobody else takes
_LOST = "the store was lost while it did it: it is done whole or not at all, the audit trail says which"


def sqlite_address(path: Path) -> URL:
    """The address of a SQLite file."""
    return URL.create("sqlite", database=str(path))


def postgres_address(address: str) -> URL:
    """The address of a PostgreSQL database, through psycopg. Raises: `StorageFailed`, without the address's secrets."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # the second one of a port that is no number
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres"):
        raise StorageFailed("the database must be postgresql://USER:PASSWORD@HOST:PORT/NAME; it is something else")
    return url.set(drivername="postgresql+psycopg")


class Database:
    """A database whose tables are brought up to date when it is opened, unless `migrates` is False.

    Raises: `StorageFailed` where it cannot be opened, is no store, or is one of a newer release.
    """

    def __init__(self, address: URL, *, migrates: bool = True) -> None:
        self._is_sqlite = address.get_backend_name() == "sqlite"
        self._path = Path(address.database or "") if self._is_sqlite else None
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageFailed(f"the folder {self._path.parent} cannot be made: {error.strerror}") from None
            with suppress(OSError):  # it is there, or cannot be made, which SQLite tells; -wal and -shm get its mode
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._engine = _open_sqlite(address) if self._is_sqlite else open_postgres(address, _JSON)
        self._is_open = False
        self._file: tuple[int, int] | None = None
        self._was_lost = False
        try:
            with self.look() as step:
                found = migration(step)
            self._file = _identity(self._path)
            if migrates and found != LATEST_MIGRATION:
                with self.step(limit_s=None) as step:
                    migrate(step)  # another process may have done it meanwhile
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, DBAPIError):
                said = str(error.__cause__.orig).strip().splitlines()[0]
                raise StorageFailed(
                    f"the database {self._path or self.name} cannot be used: {said}"
                ) from error.__cause__
            raise
        self._is_open = True

    @property
    def name(self) -> str:
        """Where it is, without secrets."""
        url = self._engine.url.difference_update_query(["password", "sslpassword"])
        return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file, of SQLite."""
        return self._path

    def close(self) -> None:
        """Gives every connection back."""
        self._engine.dispose()

    def look(self, *, limit_s: float | None = _LOOK_S) -> AbstractContextManager[Connection]:
        """A transaction that only reads, all of it as of one moment; PostgreSQL has `limit_s` to answer."""
        return self._begin(limit_s, writes=False)

    def step(self, *, limit_s: float | None = _STEP_S) -> AbstractContextManager[Connection]:
        """A transaction that changes something: it waits for the lock of all writers first."""
        return self._begin(limit_s, writes=True)

    def check(self) -> None:
        """Raises `StorageFailed` where the database does not answer soon, or could not be written."""
        self._check_file()
        with self.look() as step:
            if not self._is_sqlite:
                step.execute(text(f"SET LOCAL statement_timeout = {_CHECK_MS}"))
                if step.scalar(text("SELECT pg_is_in_recovery()")):
                    raise StorageFailed("the store cannot be written: it is a standby")
                step.execute(text("SELECT count(*) FROM models"))
                return
            step.exec_driver_sql(f"PRAGMA busy_timeout = {_CHECK_MS}")
            try:
                step.execute(text("SELECT count(*) FROM models"))
            finally:
                step.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MS}")  # the connection goes back to the pool
        if self._path and not (os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)):
            raise StorageFailed("the store cannot be written")

    @contextmanager
    def _begin(self, limit_s: float | None, *, writes: bool) -> Iterator[Connection]:
        """One transaction; what goes wrong in the database undoes it."""
        done = False
        if writes:
            self._check_file()  # before a new connection makes an empty file in its place
        try:
            with self._engine.connect() as plain, self._limited(plain, limit_s):
                connection = plain.execution_options(**self._options(writes))
                with connection.begin():
                    if writes and not self._is_sqlite:
                        for name, limit_ms in _LIMITS_MS.items():
                            connection.execute(text(f"SET LOCAL {name} = {limit_ms}"))
                        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITERS})
                    yield connection
                    if writes:
                        self._check_file()  # the wait for the lock, and the step itself, may have been long
                    done = writes
        except DBAPIError as error:
            if self._is_sqlite:
                raise StorageFailed(f"the store did not do it: {error.orig}") from error
            self._log(error)
            in_doubt = done and error.connection_invalidated  # the commit was on its way
            raise StorageFailed(_LOST if in_doubt else "the store did not do it; the server's log says why") from error
        except SQLAlchemyError as error:
            self._log(error)
            raise StorageFailed("the store did not do it; the server's log says why") from error

    def _check_file(self) -> None:
        """Raises `StorageFailed` where the file that was opened is no longer the one at its path."""
        is_lost = self._file is not None and self._file != _identity(self._path)
        if is_lost and not self._was_lost:
            log.error("%s was deleted, or another file put in its place: nothing can be changed", self._path)
        self._was_lost = is_lost
        if is_lost:
            raise StorageFailed(
                "the store cannot be written: its file was deleted, or another one put in its place, while it was "
                "open; put the folder back and restart the server"
            )

    def _limited(self, connection: Connection, limit_s: float | None) -> AbstractContextManager[None]:
        if self._is_sqlite or limit_s is None:
            return nullcontext()
        return limited(connection.connection.dbapi_connection, limit_s)

    def _log(self, error: SQLAlchemyError) -> None:
        if self._is_open:  # what stands in the way of opening it is told to who opens it
            log.error("the store did not do it: %s", " ".join(str(error).split())[:500])

    def _options(self, writes: bool) -> dict[str, Any]:
        if self._is_sqlite:
            return {"begin": "BEGIN IMMEDIATE" if writes else "BEGIN"}
        if writes:
            return {"isolation_level": "READ COMMITTED"}  # what others did before the lock was ours is seen
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What tells a file from every other one that there is now, None where there is none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


_LIMITS_MS = {"lock_timeout": _BUSY_MS, "idle_in_transaction_session_timeout": _ABANDONED_MS}
_JSON: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}


def _open_sqlite(address: URL) -> Engine:
    connect = {"timeout": _BUSY_MS / 1000, "check_same_thread": False}
    engine = create_engine(address, connect_args=connect, **_JSON)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["begin"])

    return engine


def migration(step: Connection) -> str | None:
    """The newest migration that the tables had, None where there are none."""
    if not inspect(step).has_table("alembic_version"):
        return None
    found = step.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def migrate(step: Connection, to: str = LATEST_MIGRATION) -> None:
    """Brings the tables up to date in the open transaction, which holds the lock of all writers.

    Raises: `StorageFailed` where they are of a newer release.
    """
    from alembic import command
    from alembic.config import Config

    found = migration(step)
    if found == to:
        return
    if found is not None and found > LATEST_MIGRATION:
        raise StorageFailed(f"the store was written by a newer release (its tables are at {found}): update Setpoint")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = step
    command.upgrade(config, to)
