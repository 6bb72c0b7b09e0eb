"""The first tables: models, their versions, operating points, defaults, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes every table."""
    op.create_table(
        "models",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "model_versions",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_model_versions"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_model_versions_model_models"),
    )
    op.create_table(
        "operating_points",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("point", sa.JSON, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "name", "version", name="pk_operating_points"),
        sa.ForeignKeyConstraint(
            ["model", "model_version"],
            ["model_versions.model", "model_versions.version"],
            name="fk_operating_points_model_model_versions",
        ),
    )
    op.create_table(
        "defaults",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("point", sa.String(64), nullable=False),
        sa.Column("point_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_defaults"),
        sa.ForeignKeyConstraint(
            ["model", "model_version"],
            ["model_versions.model", "model_versions.version"],
            name="fk_defaults_model_model_versions",
        ),
        sa.ForeignKeyConstraint(
            ["model", "point", "point_version"],
            ["operating_points.model", "operating_points.name", "operating_points.version"],
            name="fk_defaults_model_operating_points",
        ),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
