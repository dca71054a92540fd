"""Webhooks that tell of approvals: messages until they are delivered."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notifications",
        sa.Column(
            "id",
            sa.String(length=40),
            nullable=False,
            comment="the same at every attempt: receivers know repeats by it",
        ),
        sa.Column("destination", sa.String(length=32), nullable=False, comment="as the notification file calls it"),
        sa.Column("event", sa.String(length=16), nullable=False, comment="requested, expiring, decided or unknown"),
        sa.Column(
            "body",
            sa.Text(),
            nullable=False,
            comment="as it is sent; no arguments, and nothing that opens anything",
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, comment="when it happened"),
        sa.Column("state", sa.String(length=12), nullable=False, comment="waiting, delivered or given_up"),
        sa.Column(
            "next_at_ms",
            sa.BigInteger(),
            nullable=False,
            comment="of one that waits: when it is tried; else when it ended",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "trouble",
            sa.String(length=200),
            nullable=False,
            comment="why the last attempt failed; no word of the receiver's",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index(
        "ix_notifications_state_destination_next",
        "notifications",
        ["state", "destination", "next_at_ms"],
        unique=False,
    )
