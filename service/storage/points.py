"""Operating points, their states and aliases, and the default of a model, in SQL.

Decided here: the earlier defaults are a stack. A move of the default lays the old one on it, a rollback takes the
uppermost off, so rolling back again goes one step further back, and never forth and back between two. A point whose
row is damaged, or whose numbers do not have the digest beside them, is told apart and never answers: another operating
point than the one that was approved must not decide anything.
"""

from collections.abc import Container
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from calibrate.errors import BadPoint
from calibrate.operating_point import OperatingPoint
from service.domain import STATED, BrokenPoint, Default, PointRecord
from service.errors import Conflict
from service.ports import Change
from service.storage import trail
from service.storage.rows import Undecoded, read_rows
from service.storage.tables import aliases, defaults, earlier_defaults, operating_points
from service.storage.times import utc


def read_points(
    step: Connection, model: str, versions: Container[int]
) -> tuple[tuple[PointRecord, ...], tuple[BrokenPoint, ...]]:
    """Every point of a model that has these versions, in the order of their publication: clients of the protocol name
    them by their place. Those that cannot be read come apart, and hide none of the others.
    """
    columns = operating_points.c
    wanted = select(operating_points).where(columns.model == model).order_by(columns.number)
    whole: list[PointRecord] = []
    broken: list[BrokenPoint] = []
    for place, row in enumerate(read_rows(step, operating_points, wanted)):
        try:
            whole.append(_record(row, versions))
        except BadPoint as error:
            raw = row.raw if isinstance(row, Undecoded) else row
            state = raw.state if raw.state in STATED else None
            version = raw.version if isinstance(raw.version, int) else 0
            broken.append(BrokenPoint(model, raw.model_version, raw.name, version, place, state, str(error)))
    return tuple(whole), tuple(broken)


def point_faults(step: Connection) -> list[str]:
    """Every point that cannot be read, and why, one sentence each; none where all can."""
    found = []
    for row in read_rows(step, operating_points, select(operating_points)):
        try:
            stored_point(row)
        except BadPoint as error:
            raw = row.raw if isinstance(row, Undecoded) else row
            found.append(f"the point {raw.name}@{raw.version} of model '{raw.model}': {error}")
    return sorted(found)


def stored_point(row: Row[Any] | Undecoded) -> OperatingPoint:
    """The point in a row, held against the digest beside it, where also its state and details can be read.

    Raises: `BadPoint`.

    What is compared is the digest of the numbers as they are read, not of the text: databases write floats each in
    its own way.
    """
    if isinstance(row, Undecoded):
        raise BadPoint(f"its row is damaged: {row.why}")
    if row.state not in STATED:
        raise BadPoint(f"its state must be one of {', '.join(STATED)}, got {str(row.state)[:100]!r}")
    if not isinstance(row.details, dict):
        raise BadPoint(f"its details must be an object, got {type(row.details).__name__}")
    point = OperatingPoint.from_dict(row.point)
    if point.digest != row.digest:
        raise BadPoint("it does not have its digest, so it was changed in the store")
    return point


def _record(row: Row[Any] | Undecoded, versions: Container[int]) -> PointRecord:
    """The point in a row with all that is around it. Raises: `BadPoint`."""
    point = stored_point(row)
    assert not isinstance(row, Undecoded)  # noqa: S101 - for the type checker: such a one has no point
    if not isinstance(row.version, int) or row.model_version not in versions:
        raise BadPoint(f"there is no version {str(row.model_version)[:100]} of its model")
    return PointRecord(
        row.model,
        row.model_version,
        row.name,
        row.version,
        point,
        row.details,
        utc(row.created_at),
        row.state,
        row.author,
        row.approved_by,
        row.model_digest,
        row.because,
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
