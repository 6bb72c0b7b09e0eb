"""Tables of a service that is safe to operate.

The life of a point, aliases, the audit trail as a chain of hashes, API keys, jobs, and the log of decisions. Entries
that were written before the chain are chained as they stand.
"""

import hashlib
from datetime import UTC, datetime

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ONLY = "the audit trail is append-only"


def upgrade() -> None:
    """Makes the new tables and columns, chains the audit trail, and has the database keep it as it is."""
    with op.batch_alter_table("operating_points") as table:
        table.add_column(sa.Column("state", sa.String(16), nullable=False, server_default="approved"))
        table.add_column(sa.Column("author", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("approved_by", sa.String(200)))
        table.add_column(sa.Column("model_digest", sa.String(64), nullable=False, server_default=""))
    op.execute(
        "UPDATE operating_points SET model_digest = (SELECT digest FROM model_versions WHERE "
        "model_versions.model = operating_points.model AND model_versions.version = operating_points.model_version)"
    )
    _make_aliases()
    _make_keys()
    _make_jobs()
    _make_decisions()
    with op.batch_alter_table("audit") as table:
        table.add_column(sa.Column("previous", sa.String(64)))
        table.add_column(sa.Column("hash", sa.String(64)))
    _chain()
    with op.batch_alter_table("audit") as table:
        table.alter_column("previous", existing_type=sa.String(64), nullable=False)
        table.alter_column("hash", existing_type=sa.String(64), nullable=False)
    _keep_as_it_is()


def _make_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("point", sa.String(64), nullable=False),
        sa.Column("point_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["model", "point", "point_version"],
            ["operating_points.model", "operating_points.name", "operating_points.version"],
            name="fk_aliases_model_operating_points",
        ),
    )


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("hash", name="uq_keys_hash"),
    )


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("principal", sa.String(200), nullable=False),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("data_digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("principal", "idempotency_key", name="uq_jobs_principal"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])


def _make_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            nullable=False,
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("request_id", sa.String(100), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("point", sa.String(80), nullable=False),
        sa.Column("point_digest", sa.String(64), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("margin", sa.Float),
        sa.Column("principal", sa.String(200), nullable=False),
        sa.Column("input_digest", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_request_id", "decisions", ["request_id"])
    op.create_index("ix_decisions_at", "decisions", ["at"])


def _chain() -> None:
    """Numbers the entries 1, 2, 3, as the trail is numbered from now on, and gives each its hash."""
    step = op.get_bind()
    table = sa.table(
        "audit",
        sa.column("id", sa.Integer),
        sa.column("at", sa.DateTime(timezone=True)),
        *(sa.column(name, sa.String) for name in ("actor", "action", "model", "previous", "hash")),
        sa.column("details", sa.JSON),
    )
    previous = "0" * 64
    for number, row in enumerate(step.execute(sa.select(table).order_by(table.c.id)).all(), start=1):
        made = _hash(number, row.at, [row.actor, row.action, row.model, row.details], previous)
        changed = sa.update(table).where(table.c.id == row.id).values(id=number, previous=previous, hash=made)
        step.execute(changed)
        previous = made


def _hash(number: int, at: datetime, said: list[object], previous: str) -> str:
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    content = [number, at.astimezone(UTC).isoformat(timespec="microseconds"), *said, previous]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _keep_as_it_is() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{_ONLY}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_ONLY}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )
