"""Models and points in SQL.

Every change is one step of the database that ends with its audit entry. Nothing of SQL leaves the storage: rows become
the domain's values here.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, func, insert, select

from calibrate.operating_point import OperatingPoint
from service.domain import ARGMAX, AuditEntry, Default, Model, ModelVersion, PointRecord, PointState
from service.errors import UnknownModel
from service.job import Claim
from service.ports import Change
from service.storage import trail
from service.storage.database import Database
from service.storage.jobs import finish
from service.storage.points import (
    apply_change,
    insert_default,
    insert_point,
    read_aliases,
    read_default,
    read_points,
)
from service.storage.tables import model_versions, models

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

    def add_version(self, version: ModelVersion, actor: str, state: PointState = "approved") -> Model:
        """Keeps a version under the next number, with the point `argmax`: of the first one it is the default, and
        approved; of a later one it is in that state.
        """
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
            plain = replace(plain, model_digest=version.digest, state="approved" if version.version == 1 else state)
            plain = insert_point(step, plain, now)
            said: dict[str, Any] = {"model_version": version.version, "digest": version.digest, "state": plain.state}
            if version.version == 1:
                default = Default(1, plain.name, plain.version)
                insert_default(step, name, default)
                said["default"] = default.said
            if version.warnings:
                said["warnings"] = list(version.warnings)
            if version.is_random:
                said["allow_random"] = True
            trail.write(step, now, actor, "register", name, said)
            return _model(step, name)

    def add_point(
        self,
        record: PointRecord,
        actor: str,
        then: Callable[[Model, PointRecord], Change] | None = None,
        job: Claim | None = None,
    ) -> Model:
        """Publishes a point under the next number of its name, makes the change that `then` gives, and ends the job
        that made the point.

        Raises: `UnknownModel`, `Conflict` where the name is an alias, `NotOurs`.
        """
        with self._step() as step:
            _require(step, record.model)
            now = datetime.now(UTC)
            record = insert_point(step, replace(record, author=actor), now)
            said = {
                "operating_point": record.label,
                "model_version": record.model_version,
                "digest": record.point.digest,
                "evidence_digest": record.evidence_digest,
                "state": record.state,
            }
            if record.other_model is not None:
                said["overridden"] = [record.other_model]
            if job is not None:
                finish(step, job, record)
                said["job"] = job.id
            trail.write(step, now, actor, "publish", record.model, said)
            if then is not None:
                apply_change(step, record.model, then(_model(step, record.model), record), actor)
            return _model(step, record.model)

    def change(self, model: str, decide: Callable[[Model], Change | None], actor: str) -> Model:
        """Makes the change that `decide` gives for the model as it stands in this step. Raises: `UnknownModel`."""
        with self._step() as step:
            _require(step, model)
            found = _model(step, model)
            change = decide(found)
            if change is None:
                return found
            apply_change(step, model, change, actor)
            return _model(step, model)

    def audit(self, limit: int, models: frozenset[str] | None = None, before: int | None = None) -> list[AuditEntry]:
        """The newest entries first: of these models alone, and before that number, where they are told."""
        with self._look() as step:
            return trail.newest(step, limit, models=models, before=before)

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
    found = [_SPEC.validate_python(row.spec) for row in versions]
    default, previous = read_default(step, name)
    by_number = {version.version: version for version in found}
    points, broken = read_points(step, name, by_number)
    return Model(name, by_number, points, default, read_aliases(step, name), previous, broken)


def _require(step: Connection, name: str) -> None:
    if step.scalar(select(models.c.name).where(models.c.name == name)) is None:
        raise UnknownModel(f"there is no model {name[:100]!r}")
