"""Health: how servers are doing, since when, and what they were before."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "health",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False, comment="live, down, flapping or unknown"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False, comment="empty while it is live"),
        sa.Column(
            "checked_at_ms",
            sa.BigInteger(),
            nullable=False,
            comment="written once a minute: it may be so much later",
        ),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_health")),
    )
    op.create_table(
        "health_history",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False, comment="what it became"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server", "at_ms", name=op.f("pk_health_history")),
    )
    op.create_index("ix_health_history_at_ms", "health_history", ["at_ms"], unique=False)
    op.create_table(
        "probers",
        sa.Column("name", sa.String(length=32), nullable=False, comment="the instance whose prober it is"),
        sa.Column("heard_at_ms", sa.BigInteger(), nullable=False, comment="when it last reported"),
        sa.Column("changes", sa.BigInteger(), nullable=False, comment="counts up when the table health changed"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_probers")),
    )
