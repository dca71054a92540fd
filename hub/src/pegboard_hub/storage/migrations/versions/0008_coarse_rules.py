"""Coarse rules: every version of the whole set, who made it, when and why."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SQLITE_APPEND_ONLY = """
CREATE TRIGGER rule_versions_{what} BEFORE {what} ON rule_versions
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""

POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER rule_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rule_versions
FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()
"""


def upgrade() -> None:
    op.create_table(
        "rule_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False, comment="apply or revert"),
        sa.Column(
            "reverts_to", sa.Integer(), nullable=True, comment="of a revert: the version whose rules it brings back"
        ),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person or operator"),
        sa.Column("text", sa.Text(), nullable=False, comment="the file as it was written"),
        sa.Column("rules", sa.JSON(), nullable=False, comment="the whole set, each rule as core.coarse has it"),
        sa.Column("since", sa.JSON(), nullable=False, comment="by rule: the version that made it what it is"),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_rule_versions")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_APPEND_ONLY)
    else:
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(what=what))
