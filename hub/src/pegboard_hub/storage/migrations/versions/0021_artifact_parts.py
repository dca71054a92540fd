"""Artifacts in parts, so that none is ever whole in memory."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

PART = 1024 * 1024


def upgrade() -> None:
    op.create_table(
        "artifact_parts",
        sa.Column("digest", sa.String(length=64), sa.ForeignKey("artifacts.digest"), primary_key=True),
        sa.Column("part", sa.Integer(), primary_key=True, comment="from 0 on"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    connection = op.get_bind()
    largest = connection.scalar(sa.text("SELECT max(length(content)) FROM artifacts")) or 0
    for part in range(-(-largest // PART)):
        connection.execute(
            sa.text(
                "INSERT INTO artifact_parts (digest, part, content)"
                " SELECT digest, :part, substr(content, :start, :most) FROM artifacts WHERE length(content) > :before"
            ),
            {"part": part, "start": part * PART + 1, "most": PART, "before": part * PART},
        )
    op.drop_column("artifacts", "content")
    op.create_index("ix_submissions_actor", "submissions", ["actor", "created_at_ms"])
