"""Rolling out: where replicas answer, what leaves, who goes back, and what is known of a live release."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "servers",
        sa.Column(
            "endpoints",
            sa.JSON(),
            server_default="[]",
            nullable=False,
            comment="where its replicas answer, as edges are told; empty: at the socket of its name, or nowhere",
        ),
    )
    op.add_column(
        "deployments",
        sa.Column("leaving", sa.String(length=64), comment="submission whose replicas finish what they began"),
    )
    op.add_column("deployments", sa.Column("leaving_until_ms", sa.BigInteger(), comment="when they end"))
    op.add_column(
        "deployments",
        sa.Column(
            "proven",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="the live one came through its watch window",
        ),
    )
    op.add_column(
        "deployments",
        sa.Column(
            "going_back",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="why the candidate is one that is gone back to; empty: it is new",
        ),
    )
    op.add_column(
        "replicas",
        sa.Column(
            "smoke", sa.JSON(), server_default="{}", nullable=False, comment="how its smoke calls went, by tool"
        ),
    )
