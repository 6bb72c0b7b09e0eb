"""One server a folder: two would each show its own half of the changes.

Decided here: the lock is the operating system's, on a file beside the store, so it is gone with the process that held
it, however that ended; the file itself stays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from service.domain import StorageFailed


@contextmanager
def only_server(folder: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises: `StorageFailed`."""
    lock = FileLock(folder / "server.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise StorageFailed(f"{folder} is in use by another server") from None
    except OSError as error:
        raise StorageFailed(f"the folder {folder} cannot be used: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
