"""Approvals that the registry requires of tools, those that their code asks for, and which releases can ask."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approval_requirements",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("approver", sa.String(length=64), nullable=False, comment="caller, owner or a business group"),
        sa.Column("own", sa.Boolean(), nullable=False, comment="may somebody approve what they asked for themselves"),
        sa.Column(
            "expires_s", sa.Integer(), nullable=False, comment="seconds from a request within which a yes is good"
        ),
        sa.Column("why", sa.Text(), nullable=False, comment="shown to callers and approvers"),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who required it"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person or operator"),
        sa.Column(
            "role",
            sa.String(length=8),
            nullable=False,
            comment="operator or owner: an owner does not lift an operator's",
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_approval_requirements_server_servers")),
        sa.PrimaryKeyConstraint("server", "tool", name=op.f("pk_approval_requirements")),
    )
    op.add_column(
        "releases",
        sa.Column(
            "can_ask",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="its kit asks for an approval where the registry requires one",
        ),
    )
    op.add_column(
        "tools",
        sa.Column(
            "approval",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="who must approve a call, as its code says; null: nobody",
        ),
    )
    op.add_column(
        "tools",
        sa.Column(
            "confirmation", sa.Text(), nullable=True, comment="what callers confirm, as its code says; null: nothing"
        ),
    )
