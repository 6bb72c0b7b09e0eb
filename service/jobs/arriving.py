"""Data on its way into the spool: written, digested, and at the end safe on disk."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from service.errors import StorageFailed
from service.ports import Spool


class Arriving:
    """A file of the spool that only this process reads and writes. Every method raises `StorageFailed`."""

    def __init__(self, spool: Spool) -> None:
        self.name = f"{spool.owner}/{uuid.uuid4().hex}"
        self.path: Path = spool.path(self.name)
        self.size = 0
        self._digest = hashlib.sha256()
        with _kept():
            self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told before
            self._file.close()

    def write(self, data: bytes) -> None:
        """Adds bytes."""
        self._digest.update(data)
        self.size += len(data)
        with _kept():
            self._file.write(data)

    def finish(self) -> str:
        """Makes it last, and gives its SHA-256."""
        with _kept():
            self._file.flush()
            os.fsync(self._file.fileno())
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self._digest.hexdigest()


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"the data could not be kept: {error.strerror or error}") from None
