"""Surfaces that act for people, their history, every exchange, and who acted in a call."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SQLITE_APPEND_ONLY = """
CREATE TRIGGER acting_surface_history_{what} BEFORE {what} ON acting_surface_history
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""

POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER acting_surface_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON acting_surface_history
FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()
"""


def upgrade() -> None:
    op.create_table(
        "acting_surfaces",
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="number of the entry in acting_surface_history"),
        sa.Column("facts", sa.JSON(), nullable=False, comment="name, surface, public keys and limits"),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_acting_surfaces")),
    )
    op.create_table(
        "acting_surface_history",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False, comment="register, change or remove"),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person or operator"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column(
            "facts", sa.JSON(), nullable=False, comment="as they are since; of one that was removed, as they were"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_acting_surface_history")),
    )
    op.create_index(
        "ix_acting_surface_history_client_id_seq", "acting_surface_history", ["client_id", "seq"], unique=False
    )
    op.create_table(
        "used_assertions",
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of kind and jti"),
        sa.Column("until_ms", sa.BigInteger(), nullable=False, comment="when it has expired anyway"),
        sa.PrimaryKeyConstraint("client_id", "digest", name=op.f("pk_used_assertions")),
    )
    op.create_index("ix_used_assertions_until_ms", "used_assertions", ["until_ms"], unique=False)
    op.create_table(
        "exchanges",
        sa.Column(
            "id", sa.String(length=32), nullable=False, comment="jti of the token; of a refusal an id of its own"
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.String(length=512), nullable=False, comment="who acts"),
        sa.Column(
            "sub", sa.String(length=255), nullable=False, comment="for whom; empty where nobody verified says so"
        ),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("connection", sa.String(length=32), nullable=True, comment="the person's yes that it came of"),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True, comment="when the token ends; null of a refusal"),
        sa.Column("error", sa.String(length=32), nullable=False, comment="of a refusal; empty of a token"),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchanges")),
    )
    op.create_index("ix_exchanges_at_ms", "exchanges", ["at_ms"], unique=False)
    op.create_index("ix_exchanges_client_id_at_ms", "exchanges", ["client_id", "at_ms"], unique=False)
    op.create_index("ix_exchanges_connection_at_ms", "exchanges", ["connection", "at_ms"], unique=False)
    comment = "the registered surface that acted for the person; null: none did"
    op.add_column("calls", sa.Column("act", sa.Text(), nullable=True, comment=comment))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_APPEND_ONLY)
    else:
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(what=what))
