"""Models and points in SQL.

Every change is one step of the database that ends with its audit entry. Nothing of SQL leaves the storage: rows become
the domain's values here.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, func, insert, select, update

from calibrate.operating_point import OperatingPoint
from service.domain import (
    ARGMAX,
    AuditEntry,
    Default,
    Model,
    ModelVersion,
    PointRecord,
    UnknownModel,
)
from service.job import Claim
from service.storage import trail
from service.storage.database import Database
from service.storage.jobs import finish
from service.storage.tables import defaults, model_versions, models, operating_points
from service.storage.times import utc

_SPEC = TypeAdapter(ModelVersion)


class SqlStore:
    """Models, points, defaults and audit trail in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._look, self._step = database.look, database.step

    def close(self) -> None:
        """Gives the database back."""
        self._database.close()

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
            plain = PointRecord(name, version.version, ARGMAX, 0, point, {"method": ARGMAX}, now, author=actor)
            plain = _insert_point(step, replace(plain, model_digest=version.digest), now)
            said: dict[str, Any] = {"model_version": version.version, "digest": version.digest}
            if version.version == 1:
                default = Default(1, plain.name, plain.version)
                step.execute(insert(defaults).values(model=name, **_default_columns(default)))
                said["default"] = _said(default)
            trail.write(step, now, actor, "register", name, said)
            return _model(step, name)

    def add_point(
        self,
        record: PointRecord,
        actor: str,
        *,
        make_default: bool = False,
        reason: str = "",
        job: Claim | None = None,
    ) -> Model:
        """Publishes a point under the next number of its name; with `make_default` the default moves too, and the job
        that made it is done.

        Raises: `UnknownModel`, `NotOurs`.
        """
        with self._step() as step:
            _require(step, record.model)
            now = datetime.now(UTC)
            record = _insert_point(step, replace(record, author=actor), now)
            said = {
                "operating_point": record.label,
                "model_version": record.model_version,
                "digest": record.point.digest,
            }
            if job is not None:
                finish(step, job, record)
                said["job"] = job.id
            trail.write(step, now, actor, "publish", record.model, said)
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

    def audit(self, limit: int, models: frozenset[str] | None = None) -> list[AuditEntry]:
        """The newest entries first, of these models alone where they are told."""
        with self._look() as step:
            return trail.newest(step, limit, models=models)

    def changed_since(self, number: int) -> tuple[int, set[str]]:
        """The number of the newest audit entry, and the models that entries after `number` changed."""
        with self._look() as step:
            return trail.changed_since(step, number)

    def check(self) -> None:
        """Raises `StorageFailed` where the storage does not answer, or could not be written."""
        self._database.check()


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
                utc(row.created_at),
                row.state,
                row.author,
                row.approved_by,
                row.model_digest,
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
            state=record.state,
            author=record.author,
            approved_by=record.approved_by,
            model_digest=record.model_digest,
        )
    )
    return record


def _move_default(step: Connection, now: datetime, model: str, default: Default, actor: str, reason: str) -> None:
    row = step.execute(select(defaults).where(defaults.c.model == model)).one()
    before = Default(row.model_version, row.point, row.point_version)
    step.execute(update(defaults).where(defaults.c.model == model).values(**_default_columns(default)))
    trail.write(step, now, actor, "set default", model, {"from": _said(before), "to": _said(default), "reason": reason})


def _default_columns(default: Default) -> dict[str, Any]:
    return {
        "model_version": default.model_version,
        "point": default.point,
        "point_version": default.point_version,
    }


def _said(default: Default) -> dict[str, Any]:
    return {"model_version": default.model_version, "operating_point": default.label}
