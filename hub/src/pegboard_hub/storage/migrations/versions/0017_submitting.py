"""Submitting: what a release is approved for, when it is tried again, the bytes it needs, and who publishes."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "submissions",
        sa.Column(
            "retry_at_ms", sa.BigInteger(), comment="it is given to no builder before; null: to the next that asks"
        ),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "packages",
            sa.JSON(none_as_null=True),
            comment="packages and what is known of them, as its builder told",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "access",
            sa.JSON(none_as_null=True),
            comment="adds: what holds from its switch on; covers: who it was approved for, as far as anybody said",
        ),
    )
    op.create_table(
        "artifact_uses",
        sa.Column("submission", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission"], ["submissions.id"], name=op.f("fk_artifact_uses_submission_submissions")
        ),
        sa.PrimaryKeyConstraint("submission", "digest", name=op.f("pk_artifact_uses")),
    )
    op.create_index("ix_artifact_uses_digest", "artifact_uses", ["digest"], unique=False)
    op.create_table(
        "publishers",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column(
            "service", sa.String(length=255), nullable=False, comment="SPIFFE ID of what may submit its releases"
        ),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who named it"),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_publishers_server_servers")),
        sa.PrimaryKeyConstraint("server", "service", name=op.f("pk_publishers")),
    )
    op.create_index("ix_publishers_service", "publishers", ["service"], unique=False)
