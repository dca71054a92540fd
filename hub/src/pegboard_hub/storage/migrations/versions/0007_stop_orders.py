"""Stops of surfaces, people, clients and services, who ordered which, and the history of all stops."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SQLITE_APPEND_ONLY = """
CREATE TRIGGER stop_history_{what} BEFORE {what} ON stop_history
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""

POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER stop_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stop_history
FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()
"""


def upgrade() -> None:
    op.create_table(
        "stop_orders",
        sa.Column("kind", sa.String(length=8), nullable=False, comment="one of core.stops.STOP_KINDS"),
        sa.Column("name", sa.String(length=2048), nullable=False),
        sa.Column("why", sa.Text(), nullable=False, comment="shown to callers"),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person, operator, file or system"),
        sa.Column(
            "role",
            sa.String(length=8),
            nullable=False,
            comment="operator or owner: an owner does not end an operator's",
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "until_ms",
            sa.BigInteger(),
            nullable=True,
            comment="when it ends by itself; null: when somebody resumes it",
        ),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_stop_orders")),
    )
    op.create_table(
        "stop_history",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=2048), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False, comment="stop or resume"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("actor_kind", sa.String(length=8), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_stop_history")),
    )
    op.create_index("ix_stop_history_actor_seq", "stop_history", ["actor", "seq"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_APPEND_ONLY)
    else:
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(what=what))
