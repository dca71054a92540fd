"""Joined edges."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "edges",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of its credential, in hex"),
        sa.Column(
            "spiffe_id",
            sa.String(length=2048),
            nullable=True,
            comment="of an edge on another machine: whom the gate lets in",
        ),
        sa.Column("added_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=255), nullable=False),
        sa.Column("removed_at_ms", sa.BigInteger(), nullable=True, comment="null while it is one of the edges"),
        sa.Column("removed_by", sa.String(length=255), nullable=True),
        sa.Column("removed_why", sa.Text(), nullable=True),
        sa.Column("heard_at_ms", sa.BigInteger(), nullable=True, comment="when it was last heard of; null: never"),
        sa.Column(
            "word",
            sa.Text(),
            nullable=True,
            comment="what it last said of itself, as JSON (common.joining.EdgeWord)",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_edges")),
        sa.UniqueConstraint("digest", name=op.f("uq_edges_digest")),
    )
    op.create_index(op.f("ix_edges_name"), "edges", ["name"], unique=False)
