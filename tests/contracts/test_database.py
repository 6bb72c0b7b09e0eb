"""A PostgreSQL server that goes away, comes back, or stops answering: nothing hangs, nothing is lost, all recovers."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from service.errors import StorageFailed
from service.storage.database import _LIMITS_MS, postgres_address
from service.storage.opening import open_database
from service.storage.sql import SqlStore
from tests.contracts.test_store import version
from tests.databases import start_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    """A server of this file alone, to be stopped and started."""
    server = start_postgres()
    yield server
    server.start()
    server.cleanup()


@pytest.fixture
def store(postgres: Any, tmp_path: Path) -> Iterator[SqlStore]:
    """A store on it, with a model."""
    opened = SqlStore(open_database(postgres.get_uri(), tmp_path))
    if not opened.models():
        opened.add_version(version(), "ann")
    yield opened
    opened.close()


def fails_soon(call: Callable[[], object], within_s: float) -> str:
    """What a call says that fails within that time."""
    started = time.monotonic()
    with pytest.raises(StorageFailed) as failure:
        call()
    assert time.monotonic() - started < within_s
    return str(failure.value)


@contextmanager
def frozen(postgres: Any) -> Iterator[None]:
    """Every process of the server is stopped: connections stay open, and nobody answers."""
    processes = [postgres.get_postmaster_info().process]
    processes += processes[0].children(recursive=True)
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process.pid, signal.SIGCONT)


def test_a_database_that_was_stopped_and_started_is_used_again(postgres: Any, store: SqlStore) -> None:
    """While it is away calls fail soon; the first one after it is back succeeds, though connections were lost."""
    before = store.model("m")
    postgres.stop()
    for call in (store.models, store.check, lambda: store.add_version(version(), "ann")):
        said = fails_soon(call, 5)
        assert said == "the store did not do it; the server's log says why"
    postgres.start()
    assert store.model("m") == before
    store.add_version(version(), "ann")


def test_a_database_that_stops_answering_holds_nobody_up(postgres: Any, store: SqlStore) -> None:
    """Its connections stay open, as behind a pulled cable: calls end by themselves, and work again when it does."""
    store.models()
    with frozen(postgres):
        fails_soon(store.models, 15)
        fails_soon(lambda: store.add_version(version(), "ann"), 15)
    store.add_version(version(), "ann")
    assert store.changed_since(0)[0] == len(store.audit(1000))


def test_an_answer_that_does_not_come_ends_the_look(postgres: Any, tmp_path: Path) -> None:
    """In the middle of a transaction, without touching others."""
    database = open_database(postgres.get_uri(), tmp_path)

    def sleep() -> None:
        with database.look(limit_s=0.3) as step:
            step.execute(text("SELECT pg_sleep(20)"))

    fails_soon(sleep, 3)
    with database.look() as step:
        assert step.scalar(text("SELECT 1")) == 1
    database.close()


def test_a_writer_that_was_abandoned_gives_the_lock_back(
    postgres: Any, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends the transaction of a server whose machine is gone."""
    monkeypatch.setitem(_LIMITS_MS, "idle_in_transaction_session_timeout", 300)
    database = store._database

    def take_a_break() -> None:
        with database.step() as step:
            time.sleep(1)
            other = create_engine(postgres_address(postgres.get_uri()), isolation_level="AUTOCOMMIT")
            with other.connect() as connection:
                assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
            other.dispose()
            step.execute(text("SELECT 1"))

    with pytest.raises(StorageFailed):
        take_a_break()
    store.add_version(version(), "ann")


def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path: Path) -> None:
    """Soon, or once the time to wait is over."""
    address = "postgresql://me:secret-word@127.0.0.1:9/none?password=secret-word"
    for wait_s in (0, 1):
        started = time.monotonic()
        said = fails_soon(lambda: open_database(address, tmp_path, wait_s), 10)  # noqa: B023
        assert time.monotonic() - started >= wait_s / 2
        assert said.startswith("the database postgresql://me:***@127.0.0.1:9/none cannot be used: ")
        assert "Connection refused" in said
        assert "secret-word" not in said
        assert "\n" not in said


def test_a_database_that_comes_up_later_is_waited_for(tmp_path: Path) -> None:
    """As containers that start together do."""
    server = start_postgres()
    address = server.get_uri()
    server.stop()
    starting = threading.Timer(1, server.start)
    starting.start()
    try:
        open_database(address, tmp_path, wait_s=20).close()
    finally:
        starting.join()
        server.cleanup()


@pytest.mark.parametrize("address", ["mysql://u:pw@h/d", "nonsense", "sqlite:///x.db", "postgresql://h:port/d"])
def test_an_address_of_something_else_is_refused_without_repeating_it(address: str, tmp_path: Path) -> None:
    """It may hold a password."""
    with pytest.raises(StorageFailed, match=r"must be postgresql://USER:PASSWORD@HOST:PORT/NAME"):
        open_database(address, tmp_path)
