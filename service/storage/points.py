"""Operating points, their states and aliases, and the default of a model, in SQL.

Decided here: the earlier defaults are a stack. A move of the default lays the old one on it, a rollback takes the
uppermost off, so rolling back again goes one step further back, and never forth and back between two.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from calibrate.operating_point import OperatingPoint
from service.domain import Default, PointRecord
from service.errors import Conflict
from service.ports import Change
from service.storage import trail
from service.storage.tables import aliases, defaults, earlier_defaults, operating_points
from service.storage.times import utc


def read_points(step: Connection, model: str) -> tuple[PointRecord, ...]:
    """Every point of a model, in the order of their publication: clients of the protocol name them by their place."""
    columns = operating_points.c
    rows = step.execute(select(operating_points).where(columns.model == model).order_by(columns.number))
    return tuple(
        PointRecord(
            model,
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
            row.because,
        )
        for row in rows
    )


def read_default(step: Connection, model: str) -> tuple[Default, Default | None]:
    """The default of a model, and what it was before."""
    columns = earlier_defaults.c
    before = select(earlier_defaults).where(columns.model == model).order_by(columns.depth.desc()).limit(1)
    earlier = step.execute(before).one_or_none()
    row = step.execute(select(defaults).where(defaults.c.model == model)).one()
    return _default(row), None if earlier is None else _default(earlier)


def read_aliases(step: Connection, model: str) -> dict[str, str]:
    """The aliases of a model with the `name@version` that each leads to."""
    rows = step.execute(select(aliases).where(aliases.c.model == model).order_by(aliases.c.alias))
    return {row.alias: f"{row.point}@{row.point_version}" for row in rows}


def insert_point(step: Connection, record: PointRecord, now: datetime) -> PointRecord:
    """Keeps a point under the next number of its name. Raises: `Conflict` where the name is an alias."""
    columns = operating_points.c
    taken = select(aliases.c.point).where(aliases.c.model == record.model, aliases.c.alias == record.name)
    if step.execute(taken).first() is not None:
        raise Conflict(f"'{record.name}' is an alias of model '{record.model}': take it away first, or choose another")
    latest = step.scalar(
        select(func.max(columns.version)).where(columns.model == record.model, columns.name == record.name)
    )
    record = replace(record, version=(latest or 0) + 1, created_at=now)
    number = step.scalar(select(func.count()).select_from(operating_points).where(columns.model == record.model))
    step.execute(
        insert(operating_points).values(
            model=record.model,
            name=record.name,
            version=record.version,
            number=number,
            model_version=record.model_version,
            digest=record.point.digest,
            point=record.point.to_dict(),
            details=dict(record.details),
            created_at=now,
            state=record.state,
            author=record.author,
            approved_by=record.approved_by,
            model_digest=record.model_digest,
            because=record.because,
        )
    )
    return record


def insert_default(step: Connection, model: str, default: Default) -> None:
    """The first default of a model."""
    step.execute(insert(defaults).values(model=model, **_columns(default)))


def apply_change(step: Connection, model: str, change: Change, actor: str) -> None:
    """What moves, and its audit entry."""
    if change.default is not None:
        _move_default(step, model, change.default, goes_back=change.goes_back)
    if change.point is not None:
        _set_state(step, change.point)
    for alias, label in change.aliases.items():
        step.execute(delete(aliases).where(aliases.c.model == model, aliases.c.alias == alias))
        if label is not None:
            name, _, version = label.rpartition("@")
            step.execute(insert(aliases).values(model=model, alias=alias, point=name, point_version=int(version)))
    trail.write(step, datetime.now(UTC), actor, change.action, model, dict(change.said))


def _move_default(step: Connection, model: str, default: Default, *, goes_back: bool) -> None:
    before, _ = read_default(step, model)
    columns = earlier_defaults.c
    depth = step.scalar(select(func.max(columns.depth)).where(columns.model == model)) or 0
    if goes_back:
        step.execute(delete(earlier_defaults).where(columns.model == model, columns.depth == depth))
    elif before != default:
        step.execute(insert(earlier_defaults).values(model=model, depth=depth + 1, **_columns(before)))
    step.execute(update(defaults).where(defaults.c.model == model).values(**_columns(default)))


def _set_state(step: Connection, record: PointRecord) -> None:
    columns = operating_points.c
    this = (columns.model == record.model, columns.name == record.name, columns.version == record.version)
    changed = {"state": record.state, "approved_by": record.approved_by, "because": record.because}
    step.execute(update(operating_points).where(*this).values(**changed))


def _columns(default: Default) -> dict[str, Any]:
    return {
        "model_version": default.model_version,
        "point": default.point,
        "point_version": default.point_version,
    }


def _default(row: Row[Any]) -> Default:
    return Default(row.model_version, row.point, row.point_version)
