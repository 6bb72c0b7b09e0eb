"""Model files in an object store, through fsspec, with what was read kept in a folder of this machine.

Decided here: an object store puts an object whole or not at all, so an object is written under its digest at once; what
is read is checked against its digest, and putting a damaged one again mends it. What a server has read or written once
it keeps in its folder: a restart while the object store is away still serves, and a start downloads only what is new.
The folder is a copy and may be taken away at any time.
"""

import hashlib
import logging
from typing import Any

from service.errors import StorageFailed
from service.storage.artifacts import FolderArtifacts

log = logging.getLogger(__name__)

# A store that does not answer is told of soon, instead of after the minutes that are usual in batch work.
_S3 = {
    "config_kwargs": {"connect_timeout": 3, "read_timeout": 20, "retries": {"max_attempts": 2, "mode": "standard"}},
    "use_listings_cache": False,
}


class ObjectArtifacts:
    """Artifacts under an address such as `s3://bucket/prefix`, and copies of those in use in a folder.

    Credentials, endpoint and region come from the environment, as each store's own tools read them.
    Raises: `StorageFailed` where the address is of no store that can be used.
    """

    def __init__(self, address: str, copies: FolderArtifacts) -> None:
        from fsspec.core import url_to_fs  # takes a while to import, and most servers keep files in a folder

        options: dict[str, Any] = _S3 if address.startswith("s3://") else {}
        try:
            self._store, root = url_to_fs(address, skip_instance_cache=True, **options)
        except ImportError as error:
            raise StorageFailed(f'{address} needs a package: pip install "setpoint[s3]" ({error})') from None
        except (ValueError, OSError) as error:
            raise StorageFailed(f"model files cannot be kept at {address}: {error}") from None
        if address.startswith("s3://"):
            self._store.retries = 2
        self._root, self._address, self._copies = root.rstrip("/"), address, copies
        self._is_writable = False

    def put(self, data: bytes) -> str:
        """Keeps the bytes, whole or not at all, and gives their digest. Raises: `StorageFailed`."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            if not self._holds(digest):
                self._store.pipe_file(self._path(digest), data)
        except Exception as error:  # every store raises its own
            raise StorageFailed(f"the model file could not be kept: {_said(error)}") from error
        self._copy(data)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, checked against their name, from the folder where they are. Raises: `StorageFailed`."""
        try:
            return self._copies.get(digest)
        except StorageFailed:
            pass
        try:
            data = bytes(self._store.cat_file(self._path(digest)))
        except Exception as error:  # every store raises its own
            raise StorageFailed(f"model file {digest} could not be read: {_said(error)}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageFailed(f"model file {digest} has changed at {self._address}: its content has another digest")
        self._copy(data)
        return data

    def check(self) -> None:
        """Raises `StorageFailed` where the store does not answer, or could not be written when this was first asked."""
        path = f"{self._root}/check"
        try:
            if not self._is_writable:
                self._store.pipe_file(path, b"Setpoint can write here.\n")
                self._is_writable = True
            self._store.info(path)
        except Exception as error:  # every store raises its own
            self._is_writable = False
            raise StorageFailed(f"model files cannot be kept: {_said(error)}") from error

    def sweep(self) -> None:
        """Nothing is ever half written there; the folder is swept."""
        self._copies.sweep()

    def _holds(self, digest: str) -> bool:
        try:
            found = self._store.cat_file(self._path(digest))
        except (FileNotFoundError, PermissionError):  # without the right to list, what is missing is forbidden
            return False
        return hashlib.sha256(found).hexdigest() == digest

    def _copy(self, data: bytes) -> None:
        try:
            self._copies.put(data)
        except StorageFailed as error:
            log.warning("no copy of a model file on this machine: %s", error)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
