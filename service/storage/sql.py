"""The store in SQL: SQLite in WAL mode, through SQLAlchemy.

Every change is one transaction that begins by taking the write lock, so two writers never number alike, and it ends
with its audit entry; a look-up takes no lock and waits for no writer. Nothing of SQL leaves this module: rows become
the domain's values here, and errors its facts.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from calibrate.operating_point import OperatingPoint
from service.domain import (
    ARGMAX,
    AuditEntry,
    Default,
    Model,
    ModelVersion,
    PointRecord,
    StorageFailed,
    UnknownModel,
)
from service.storage.tables import audit, defaults, model_versions, models, operating_points

log = logging.getLogger(__name__)

LATEST_MIGRATION = "0001"
_BUSY_MS = 10_000
_CHECK_MS = 500
_SPEC = TypeAdapter(ModelVersion)


class SqlStore:
    """Models, points, defaults and audit trail in a SQLite file, brought up to date when it is opened.

    Raises: `StorageFailed` where the file cannot be opened or is no store.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"the folder {path.parent} cannot be made: {error.strerror}") from None
        self._path = path
        self._engine = _open(path)
        with self._look() as step:
            found = _migration(step)
        if found != LATEST_MIGRATION:
            with self._step() as step:
                if _migration(step) != LATEST_MIGRATION:  # another process may have done it meanwhile
                    _migrate(step)

    def close(self) -> None:
        """Gives the file back."""
        self._engine.dispose()

    def models(self) -> list[Model]:
        """Everything there is."""
        with self._look() as step:
            return [_model(step, name) for name in step.scalars(select(models.c.name).order_by(models.c.name))]

    def model(self, name: str) -> Model:
        """One model as it stands now. Raises: `UnknownModel`."""
        with self._look() as step:
            _require(step, name)
            return _model(step, name)

    def add_version(self, version: ModelVersion, actor: str) -> Model:
        """Keeps a version under the next number, with the point `argmax`, which is the default of the first one."""
        with self._step() as step:
            now, name = datetime.now(UTC), version.model
            if step.scalar(select(models.c.name).where(models.c.name == name)) is None:
                step.execute(insert(models).values(name=name, created_at=now))
            latest = step.scalar(select(func.max(model_versions.c.version)).where(model_versions.c.model == name)) or 0
            version = replace(version, version=latest + 1, created_at=now)
            step.execute(
                insert(model_versions).values(
                    model=name,
                    version=version.version,
                    digest=version.digest,
                    spec=_SPEC.dump_python(version, mode="json"),
                    created_at=now,
                )
            )
            point = OperatingPoint.argmax(version.classes)
            plain = PointRecord(name, version.version, ARGMAX, 0, point, {"method": ARGMAX}, now)
            plain = _insert_point(step, plain, now)
            said: dict[str, Any] = {"model_version": version.version, "digest": version.digest}
            if version.version == 1:
                default = Default(1, plain.name, plain.version)
                step.execute(insert(defaults).values(model=name, **_default_columns(default)))
                said["default"] = _said(default)
            _log(step, now, actor, "register", name, said)
            return _model(step, name)

    def add_point(self, record: PointRecord, actor: str, *, make_default: bool = False, reason: str = "") -> Model:
        """Publishes a point under the next number of its name; with `make_default` the default moves too.

        Raises: `UnknownModel`.
        """
        with self._step() as step:
            _require(step, record.model)
            now = datetime.now(UTC)
            record = _insert_point(step, record, now)
            said = {
                "operating_point": record.label,
                "model_version": record.model_version,
                "digest": record.point.digest,
            }
            _log(step, now, actor, "publish", record.model, said)
            if make_default:
                default = Default(record.model_version, record.name, record.version)
                _move_default(step, now, record.model, default, actor, reason)
            return _model(step, record.model)

    def set_default(self, model: str, default: Default, actor: str, reason: str) -> Model:
        """Moves the default of a model: version and point in one step. Raises: `UnknownModel`."""
        with self._step() as step:
            _require(step, model)
            _move_default(step, datetime.now(UTC), model, default, actor, reason)
            return _model(step, model)

    def audit(self, limit: int) -> list[AuditEntry]:
        """The newest entries first."""
        with self._look() as step:
            rows = step.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
            return [AuditEntry(_utc(row.at), row.actor, row.action, row.model, row.details) for row in rows]

    def check(self) -> None:
        """Raises `StorageFailed` where the storage does not answer, or could not be written."""
        with self._look() as step:
            step.exec_driver_sql(f"PRAGMA busy_timeout = {_CHECK_MS}")
            try:
                step.execute(select(func.count()).select_from(models))
            finally:
                step.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MS}")  # the connection goes back to the pool
        if not os.access(self._path, os.W_OK) or not os.access(self._path.parent, os.W_OK):
            raise StorageFailed("the store cannot be written")

    def _look(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads."""
        return self._begin("BEGIN")

    def _step(self) -> AbstractContextManager[Connection]:
        """A transaction that changes something: it waits for the write lock first."""
        return self._begin("BEGIN IMMEDIATE")

    @contextmanager
    def _begin(self, how: str) -> Iterator[Connection]:
        """One transaction; what goes wrong in the database undoes it and is told without its inner words."""
        try:
            with self._engine.connect().execution_options(begin=how) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise StorageFailed(f"the store did not do it: {error.orig}") from error
        except SQLAlchemyError as error:
            log.error("the store did not do it: %s", error)
            raise StorageFailed("the store did not do it; the server's log says why") from error


def _open(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["begin"])

    return engine


def _migration(step: Connection) -> str | None:
    if not inspect(step).has_table("alembic_version"):
        return None
    found = step.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _migrate(step: Connection) -> None:
    """Brings the tables up to date in the open transaction, which holds the write lock."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = step
    command.upgrade(config, "head")


def _model(step: Connection, name: str) -> Model:
    versions = step.execute(
        select(model_versions.c.spec).where(model_versions.c.model == name).order_by(model_versions.c.version)
    )
    points = step.execute(
        select(operating_points).where(operating_points.c.model == name).order_by(operating_points.c.created_at)
    )
    default = step.execute(select(defaults).where(defaults.c.model == name)).one()
    found = [_SPEC.validate_python(row.spec) for row in versions]
    return Model(
        name,
        {version.version: version for version in found},
        tuple(
            PointRecord(
                name,
                row.model_version,
                row.name,
                row.version,
                OperatingPoint.from_dict(row.point),
                row.details,
                _utc(row.created_at),
            )
            for row in points
        ),
        Default(default.model_version, default.point, default.point_version),
    )


def _require(step: Connection, name: str) -> None:
    if step.scalar(select(models.c.name).where(models.c.name == name)) is None:
        raise UnknownModel(f"there is no model {name[:100]!r}")


def _insert_point(step: Connection, record: PointRecord, now: datetime) -> PointRecord:
    columns = operating_points.c
    latest = step.scalar(
        select(func.max(columns.version)).where(columns.model == record.model, columns.name == record.name)
    )
    record = replace(record, version=(latest or 0) + 1, created_at=now)
    step.execute(
        insert(operating_points).values(
            model=record.model,
            name=record.name,
            version=record.version,
            model_version=record.model_version,
            digest=record.point.digest,
            point=record.point.to_dict(),
            details=dict(record.details),
            created_at=now,
        )
    )
    return record


def _move_default(step: Connection, now: datetime, model: str, default: Default, actor: str, reason: str) -> None:
    row = step.execute(select(defaults).where(defaults.c.model == model)).one()
    before = Default(row.model_version, row.point, row.point_version)
    step.execute(update(defaults).where(defaults.c.model == model).values(**_default_columns(default)))
    _log(step, now, actor, "set default", model, {"from": _said(before), "to": _said(default), "reason": reason})


def _default_columns(default: Default) -> dict[str, Any]:
    return {
        "model_version": default.model_version,
        "point": default.point,
        "point_version": default.point_version,
    }


def _said(default: Default) -> dict[str, Any]:
    return {"model_version": default.model_version, "operating_point": default.label}


def _log(step: Connection, at: datetime, actor: str, action: str, model: str, details: dict[str, Any]) -> None:
    step.execute(insert(audit).values(at=at, actor=actor, action=action, model=model, details=details))


def _utc(at: datetime) -> datetime:
    """SQLite gives times back without their zone; all of ours are UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
