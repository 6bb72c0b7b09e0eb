"""The data of jobs, in a folder until they are over.

Each process has a folder of its own in it, with a file that it holds locked: the lock is the operating system's, so it
is gone with the process however that ended, and whoever shares the folder can tell which of the others are still there,
without a clock. Only what a process that has ended left behind is ever swept.
"""

import contextlib
import os
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from service.errors import StorageFailed

_LOCK = "lock"


class FolderSpool:
    """A spool in a folder, made where it is missing. Raises: `StorageFailed` where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.owner = uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.id = _name_of(folder / "id")
            (folder / self.owner).mkdir(mode=0o700)
            self._lock = FileLock(folder / self.owner / _LOCK)
            self._lock.acquire(blocking=False)
        except OSError as error:
            raise StorageFailed(f"the folder {folder} cannot be used: {error.strerror or error}") from None

    def close(self) -> None:
        """Lets go of the lock; files stay for whoever comes next."""
        self._lock.release()

    def path(self, name: str) -> Path:
        """Where a file of that name is, or will be."""
        return self._folder / name

    def drop(self, name: str) -> None:
        """Takes a file away; one that is gone is no error."""
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def is_gone(self, owner: str) -> bool:
        """Whether a process is known to have ended: its lock is here, and nobody holds it."""
        path = self._folder / owner / _LOCK
        if owner == self.owner or not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            return False
        lock.release()
        path.touch()  # some releases of the library take the file away
        return True

    def sweep(self, kept: frozenset[str]) -> None:
        """Takes away what processes that have ended left behind, but for these files."""
        for folder in self._folder.iterdir():
            if not folder.is_dir() or not self.is_gone(folder.name):
                continue
            left = 0
            for path in folder.iterdir():
                if f"{folder.name}/{path.name}" in kept:
                    left += 1
                elif path.name != _LOCK:
                    path.unlink(missing_ok=True)
            if not left:
                with contextlib.suppress(OSError):  # another server may do the same
                    (folder / _LOCK).unlink(missing_ok=True)
                    folder.rmdir()


def _name_of(path: Path) -> str:
    """The spool's own id, made once, whole or not at all."""
    if not path.exists():
        part = path.with_name(f".{uuid.uuid4().hex}")
        part.write_text(uuid.uuid4().hex)
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
    return path.read_text()
