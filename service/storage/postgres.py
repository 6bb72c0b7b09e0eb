"""Connections to PostgreSQL that never hang: whatever gets no answer in time ends as an error.

Decided here: a connection is tried before each use, so a database that comes back is used again at once. A server may
stop answering without closing anything (stopped, swapped out, behind a cable that was pulled); no setting of the server
bounds that, so a watch on this side shuts the socket when the time is up, which ends the wait in the driver.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

from service.errors import StorageFailed

_CONNECT_S = 3
_TRY_S = 2.0


def open_postgres(address: URL, arguments: dict[str, Any]) -> Engine:
    """An engine whose connections are tried before each use. Raises: `StorageFailed` where the driver is missing."""
    connect = {"connect_timeout": _CONNECT_S, "application_name": "setpoint"}
    try:
        engine = create_engine(address, connect_args=connect, pool_timeout=10, **arguments)
    except ModuleNotFoundError:
        raise StorageFailed('PostgreSQL needs its driver: pip install "setpoint[postgres]"') from None
    failed: tuple[type[BaseException], ...] = (engine.dialect.loaded_dbapi.Error, OSError)

    @event.listens_for(engine, "checkout")
    def answers(connection: Any, *_: object) -> None:
        try:
            with limited(connection, _TRY_S):
                engine.dialect.do_ping(connection)
        except failed as error:
            raise DisconnectionError from error  # the pool opens another one

    return engine


@contextmanager
def limited(connection: Any, limit_s: float) -> Iterator[None]:
    """Ends the connection where what is done with it takes longer; the driver then raises its own error."""
    watched = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)  # another handle of that socket
    timer = threading.Timer(limit_s, _shut, [watched])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        watched.close()


def _shut(watched: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it ended in this very moment
        watched.shutdown(socket.SHUT_RDWR)
