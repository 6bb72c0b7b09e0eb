"""The tables, as the code sees them; `migrations/` makes them, and a test holds the two together."""

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

models = Table(
    "models",
    metadata,
    Column("name", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("name"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("model", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("model", "version"),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

operating_points = Table(
    "operating_points",
    metadata,
    Column("model", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("point", JSON, nullable=False),
    Column("details", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("model", "name", "version"),
    ForeignKeyConstraint(["model", "model_version"], ["model_versions.model", "model_versions.version"]),
)

defaults = Table(
    "defaults",
    metadata,
    Column("model", String(64), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("point", String(64), nullable=False),
    Column("point_version", Integer, nullable=False),
    PrimaryKeyConstraint("model"),
    ForeignKeyConstraint(["model", "model_version"], ["model_versions.model", "model_versions.version"]),
    ForeignKeyConstraint(
        ["model", "point", "point_version"],
        ["operating_points.model", "operating_points.name", "operating_points.version"],
    ),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("details", JSON, nullable=False),
    PrimaryKeyConstraint("id"),
)
