"""Tables of the life of a point.

Why a point is in its state, its place among those of its model, what the default was before, so that it can be rolled
back step by step, and what shadows would have decided. What the default was in the life of an older store is read out
of its audit trail.
"""

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the new column and tables, and fills in what the default was."""
    op.add_column("operating_points", sa.Column("because", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "earlier_defaults",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("point", sa.String(64), nullable=False),
        sa.Column("point_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model", "depth", name="pk_earlier_defaults"),
        sa.ForeignKeyConstraint(
            ["model", "point", "point_version"],
            ["operating_points.model", "operating_points.name", "operating_points.version"],
            name="fk_earlier_defaults_model_operating_points",
        ),
    )
    op.create_table(
        "shadow_counts",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("shadow", sa.String(80), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_by", sa.String(80), nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("would", sa.Integer, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("model", "shadow", "hour", "answered_by", "answered", "would", name="pk_shadow_counts"),
    )
    op.add_column("operating_points", sa.Column("number", sa.Integer, nullable=False, server_default="0"))
    _number()
    _fill_in()


def _number() -> None:
    """The place of each point among those of its model, in the order in which they were published."""
    step = op.get_bind()
    names = ("model", "name", "version", "number", "created_at")
    points = sa.table("operating_points", *map(sa.column, names))
    key = points.c.model, points.c.name, points.c.version
    places: dict[str, int] = {}
    for model, name, version in step.execute(sa.select(*key).order_by(points.c.created_at, points.c.version)).all():
        number = places.get(model, 0)
        places[model] = number + 1
        step.execute(sa.update(points).where(key[0] == model, key[1] == name, key[2] == version).values(number=number))


def _fill_in() -> None:
    """Each move of the default says what it was before; one that led to where it was is no move."""
    step = op.get_bind()
    audit = sa.table("audit", *(sa.column(name) for name in ("id", "action", "model")), sa.column("details", sa.JSON))
    moves = sa.select(audit.c.model, audit.c.details).where(audit.c.action == "set default").order_by(audit.c.id)
    kept = sa.table("earlier_defaults", *map(sa.column, ("model", "depth", "model_version", "point", "point_version")))
    depths: dict[str, int] = {}
    for model, details in step.execute(moves).all():
        said = details if isinstance(details, dict) else orjson.loads(details)
        before, after = said["from"], said["to"]
        if before == after:
            continue
        name, _, version = before["operating_point"].rpartition("@")
        depths[model] = depths.get(model, 0) + 1
        row = {"model": model, "depth": depths[model], "model_version": before["model_version"]}
        step.execute(sa.insert(kept).values(**row, point=name, point_version=int(version)))
