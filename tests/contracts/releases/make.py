"""Writes down a store as this release makes it: `python -m tests.contracts.releases.make`, before a release is made.

The file, `NNNN.sql` after the newest migration, is never changed again: every later release must bring such a store up
to date, which `tests/contracts/test_releases.py` holds it to.
"""

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from service.points import Asked, to_default
from service.storage.database import LATEST_MIGRATION, Database, sqlite_address
from service.storage.sql import SqlStore
from tests.contracts.test_store import promoted, record, version


def dump() -> str:
    """A store with two models, two versions, two points and a default that went there and back, as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "setpoint.db"
        store = SqlStore(Database(sqlite_address(path)))
        for name, actor in (("m", "local"), ("m", "local"), ("n", "token")):
            store.add_version(version(name), actor)
        point = replace(record(), model_digest=version().digest)
        store.add_point(point, "ann")
        store.add_point(replace(point, model_version=2), "ann", then=promoted("better: über"))
        store.change("m", to_default("argmax@1", Asked("ben", "worse")), "ben")
        store.close()
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump()) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / f"{LATEST_MIGRATION}.sql").write_text(dump(), encoding="utf-8")
