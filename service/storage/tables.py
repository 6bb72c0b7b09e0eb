"""The tables, as the code sees them; `migrations/` makes them, and a test holds the two together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
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
    Column("state", String(16), nullable=False, server_default="approved"),
    Column("author", String(200), nullable=False, server_default=""),
    Column("approved_by", String(200)),
    Column("model_digest", String(64), nullable=False, server_default=""),
    Column("number", Integer, nullable=False, server_default="0"),
    Column("because", Text, nullable=False, server_default=""),
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

earlier_defaults = Table(
    "earlier_defaults",
    metadata,
    Column("model", String(64), nullable=False),
    Column("depth", Integer, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("point", String(64), nullable=False),
    Column("point_version", Integer, nullable=False),
    PrimaryKeyConstraint("model", "depth"),
    ForeignKeyConstraint(
        ["model", "point", "point_version"],
        ["operating_points.model", "operating_points.name", "operating_points.version"],
    ),
)

shadow_counts = Table(
    "shadow_counts",
    metadata,
    Column("model", String(64), nullable=False),
    Column("shadow", String(80), nullable=False),
    Column("hour", DateTime(timezone=True), nullable=False),
    Column("answered_by", String(80), nullable=False),
    Column("answered", Integer, nullable=False),
    Column("would", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    PrimaryKeyConstraint("model", "shadow", "hour", "answered_by", "answered", "would"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("point", String(64), nullable=False),
    Column("point_version", Integer, nullable=False),
    PrimaryKeyConstraint("model", "alias"),
    ForeignKeyConstraint(
        ["model", "point", "point_version"],
        ["operating_points.model", "operating_points.name", "operating_points.version"],
    ),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("details", JSON, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("models", JSON(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("hash"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("idempotency_key", String(200)),
    Column("request_digest", String(64), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("data_digest", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("owner", String(64)),
    Column("lease_until", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False),
    Column("cancel_asked", Boolean, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("principal", "idempotency_key"),
    Index(None, "state"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), nullable=False, autoincrement=True),
    Column("request_id", String(100), nullable=False),
    Column("row", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("point", String(80), nullable=False),
    Column("point_digest", String(64), nullable=False),
    Column("label", Text, nullable=False),
    Column("margin", Float),
    Column("principal", String(200), nullable=False),
    Column("input_digest", String(64), nullable=False),
    PrimaryKeyConstraint("id"),
    Index(None, "request_id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)
