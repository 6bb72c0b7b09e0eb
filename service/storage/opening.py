"""Opens what a server keeps its state in, by the addresses in its settings."""

import logging
import shlex
from pathlib import Path

from sqlalchemy import URL, inspect
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from service.errors import StorageFailed
from service.ports import Artifacts
from service.storage.artifacts import FolderArtifacts
from service.storage.database import LATEST_MIGRATION, Database, migration, postgres_address, sqlite_address
from service.storage.objects import ObjectArtifacts

log = logging.getLogger(__name__)

_SECRET = ("setpoint.db", "setpoint.db-wal")
# what a restore leaves that fails, and what a fresh volume has
_LEFT = ("artifacts", "setpoint.db", "setpoint.db-wal", "setpoint.db-shm", "lost+found")


def open_database(address: str | None, folder: Path, wait_s: float = 0) -> Database:
    """The database at an address, the SQLite file in the folder for None; waits for one that does not answer yet.

    Raises: `StorageFailed`.
    """
    url = _address(address, folder)
    if address is None:
        return Database(url)
    attempts = Retrying(
        retry=retry_if_exception(_may_come),
        stop=stop_after_delay(wait_s),
        wait=wait_random_exponential(0.2, max=2),
        reraise=True,
    )
    return attempts(Database, url)


def open_existing(address: str | None, folder: Path) -> Database:
    """The database of a store that is there, as it stands: nothing is made and nothing brought up to date.

    Raises: `StorageFailed`, also where its tables are of another release.
    """
    url = _address(address, folder)
    if address is None and not has_store(folder):
        raise StorageFailed(f"there is no store in {folder}")
    database = Database(url, migrates=False)
    with database.look() as step:
        found = migration(step)
    if found != LATEST_MIGRATION:
        database.close()
        if found is None:
            raise StorageFailed(f"there is no store in {database.name}")
        raise StorageFailed(
            f"the store's tables are at {found}, those of this release at {LATEST_MIGRATION}: use the release that "
            "serves it, or start a server of this one first"
        )
    return database


def has_store(folder: Path) -> bool:
    """Whether the SQLite file is in the folder."""
    return _sqlite(folder).is_file()


def open_empty(address: str | None, folder: Path) -> Database:
    """A database without any tables; of SQLite in a folder that holds nothing else.

    Raises: `StorageFailed`.
    """
    if address is None:
        _check_empty(folder)
    database = Database(_address(address, folder), migrates=False)
    with database.look() as step:
        tables = sorted(inspect(step).get_table_names())
    if tables:
        database.close()
        held = "a store" if "alembic_version" in tables else f"the table '{tables[0]}'"
        raise StorageFailed(f"{database.name} is not empty, it holds {held}: a restore needs an empty place")
    return database


def _check_empty(folder: Path) -> None:
    """Raises `StorageFailed` where a folder holds what is no part of a store."""
    try:
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be restored into: {error.strerror}") from None
    if others := [name for name in found if name not in _LEFT]:
        raise StorageFailed(f"the folder {folder} is not empty, it holds '{others[0]}': a restore needs an empty place")


def warn_of_readers(folder: Path) -> None:
    """Logs a warning where other users of the machine can read the SQLite file in a folder, and what closes it.

    What Setpoint makes is its owner's alone, so it is the folder of an older release, or one that an operator opened.
    """
    try:
        is_entered = folder.stat().st_mode & 0o011
        is_read = any((folder / name).stat().st_mode & 0o044 for name in _SECRET if (folder / name).exists())
    except OSError:
        return  # whoever cannot look cannot serve, and is told so
    if is_entered and is_read:
        closes = f"chmod -R go= {shlex.quote(str(folder))}"
        log.warning("other users of this machine can read the store in %s; this closes it: %s", folder, closes)


def open_artifacts(address: str | None, folder: Path) -> Artifacts:
    """The artifacts at an address: `s3://bucket/prefix`, another folder, or for None those in the folder.

    Raises: `StorageFailed`.
    """
    copies = FolderArtifacts(folder / "artifacts")
    if address is None:
        return copies
    if "://" not in address:
        return FolderArtifacts(Path(address))
    return ObjectArtifacts(address, copies)


def _address(address: str | None, folder: Path) -> URL:
    return sqlite_address(_sqlite(folder)) if address is None else postgres_address(address)


def _sqlite(folder: Path) -> Path:
    return folder / "setpoint.db"


def _may_come(error: BaseException) -> bool:
    return isinstance(error, StorageFailed) and isinstance(error.__cause__, DBAPIError)
