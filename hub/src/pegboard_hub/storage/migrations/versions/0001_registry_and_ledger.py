"""The registry's and the ledger's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bundles",
        sa.Column("consumer", sa.String(length=65), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column(
            "content", sa.String(length=64), nullable=False, comment="SHA-256 of what the consumer decides with"
        ),
        sa.PrimaryKeyConstraint("consumer", name=op.f("pk_bundles")),
    )
    op.create_table(
        "calls",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column(
            "id", sa.String(length=128), nullable=False, comment="the call's id; of an edge refusal its request id"
        ),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("sub_type", sa.String(length=8), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False, comment="the MCP method, of an edge refusal"),
        sa.Column("code", sa.String(length=64), nullable=False, comment="of a refusal, as the caller was told"),
        sa.Column("reason", sa.Text(), nullable=False, comment="of a refusal, in one word"),
        sa.Column("detail", sa.Text(), nullable=False, comment="of a refusal, for the owner alone"),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("arguments_digest", sa.Text(), nullable=False),
        sa.Column("arguments_bytes", sa.BigInteger(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server", "kind", "id", name=op.f("pk_calls")),
    )
    op.create_index(op.f("ix_calls_at_ms"), "calls", ["at_ms"], unique=False)
    op.create_index(op.f("ix_calls_server_at_ms"), "calls", ["server", "at_ms"], unique=False)
    op.create_index(op.f("ix_calls_sub_at_ms"), "calls", ["sub", "at_ms"], unique=False)
    op.create_table(
        "counted",
        sa.Column("layer", sa.String(length=8), nullable=False),
        sa.Column("server", sa.String(length=65), nullable=False, comment="who delivered it; empty for the edge"),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "server", "id", name=op.f("pk_counted")),
    )
    op.create_index(op.f("ix_counted_seen_at_ms"), "counted", ["seen_at_ms"], unique=False)
    op.create_table(
        "outcomes",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("result_digest", sa.Text(), nullable=False),
        sa.Column("result_bytes", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=False),
        sa.Column("steps_ms", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("server", "id", name=op.f("pk_outcomes")),
    )
    op.create_table(
        "refusal_counts",
        sa.Column("layer", sa.String(length=8), nullable=False),
        sa.Column("server", sa.String(length=65), nullable=False, comment="empty: no registered server"),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False, comment="the hour's beginning"),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "server", "code", "hour_ms", name=op.f("pk_refusal_counts")),
    )
    op.create_table(
        "rejected_records",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the record as JSON"),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False, comment="the record as JSON, its beginning if it is long"),
        sa.PrimaryKeyConstraint("server", "digest", name=op.f("pk_rejected_records")),
    )
    op.create_table(
        "servers",
        sa.Column("name", sa.String(length=65), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "registered", sa.Boolean(), nullable=False, comment="false once the grants file no longer names it"
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="who granted and why"),
        sa.Column(
            "release",
            sa.String(length=64),
            nullable=True,
            comment="digest of the release that is deployed; null: not deployed",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_servers")),
    )
    op.create_table(
        "grants",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="one of GRANT_KINDS"),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("requested", sa.Boolean(), nullable=False, comment="the author's manifest asks for it"),
        sa.Column("granted", sa.Boolean(), nullable=False, comment="the operator's grants file gives it"),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_grants_server_servers")),
        sa.PrimaryKeyConstraint("server", "kind", "value", name=op.f("pk_grants")),
    )
    op.create_table(
        "releases",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_releases_server_servers")),
        sa.PrimaryKeyConstraint("server", "digest", name=op.f("pk_releases")),
    )
    op.create_table(
        "policies",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["server", "release"], ["releases.server", "releases.digest"], name=op.f("fk_policies_server_releases")
        ),
        sa.PrimaryKeyConstraint("server", "release", "name", name=op.f("pk_policies")),
    )
    op.create_table(
        "tools",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="the author's order"),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("minutes_saved", sa.Float(), nullable=False),
        sa.Column("input_schema", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["server", "release"], ["releases.server", "releases.digest"], name=op.f("fk_tools_server_releases")
        ),
        sa.PrimaryKeyConstraint("server", "release", "name", name=op.f("pk_tools")),
    )
