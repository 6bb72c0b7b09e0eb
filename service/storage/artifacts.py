"""Model files in a folder, each under the SHA-256 of its content.

A file is written under a temporary name, synced, and renamed: it is there whole or not at all, also after a power cut.
What is read is checked against its name, so a file that rotted on disk is never served. Several servers may share the
folder: a file is the same whoever writes it.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

from service.errors import StorageFailed

_ABANDONED_S = 3600


class FolderArtifacts:
    """Artifacts in a folder of the local file system, made where it is missing, for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keeps the bytes, whole or not at all, and gives their digest. Raises: `StorageFailed`."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            self._make()
            path.parent.mkdir(exist_ok=True)
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
                return digest
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            sync_folder(path.parent)
        except OSError as error:
            raise StorageFailed(f"the model file could not be kept: {error.strerror or error}") from None
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, checked against their name. Raises: `StorageFailed`."""
        try:
            data = self._path(digest).read_bytes()
        except OSError as error:
            raise StorageFailed(f"model file {digest} could not be read: {error.strerror or error}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageFailed(f"model file {digest} has changed on disk: its content no longer has that digest")
        return data

    def check(self) -> None:
        """Raises `StorageFailed` where nothing could be kept: a file is written and taken away again."""
        try:
            self._make()
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(b"a")
        except OSError as error:
            raise StorageFailed(f"model files cannot be kept: {error.strerror or error}") from None

    def sweep(self) -> None:
        """Takes away what a server that was killed had begun to write: what nobody wrote to for an hour."""
        for path in self._folder.glob("*/.*.tmp"):
            with contextlib.suppress(OSError):  # another server sweeps too
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


def sync_folder(folder: Path) -> None:
    """Makes a rename last; not every system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
