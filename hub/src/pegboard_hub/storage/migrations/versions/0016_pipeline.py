"""The pipeline: artifacts, submissions, deployments and replicas; servers that end."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _artifacts()
    _submissions()
    _events()
    _deployments()
    _replicas()
    _servers()


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the content"),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="source, project, wheel, file or sbom"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )


def _submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False, comment="digest of the submitted archive"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="core.publishing.State"),
        sa.Column("step", sa.Text(), nullable=False, comment="what it is at, or waits for"),
        sa.Column(
            "release", sa.String(length=64), nullable=True, comment="digest of the release; null before it is built"
        ),
        sa.Column("artifact", sa.JSON(none_as_null=True), nullable=True, comment="core.publishing.Artifact"),
        sa.Column("declaration", sa.JSON(none_as_null=True), nullable=True, comment="core.release.Declaration"),
        sa.Column("sbom", sa.String(length=64), nullable=True, comment="digest of the CycloneDX document"),
        sa.Column("signature", sa.Text(), nullable=True, comment="core.publishing.SignedRelease, signed"),
        sa.Column("sandboxed", sa.Boolean(), nullable=True, comment="its tools were read in a sandbox"),
        sa.Column(
            "findings",
            sa.JSON(),
            nullable=False,
            comment="core.publishing.Finding, as the hub's own check found them",
        ),
        sa.Column(
            "trouble", sa.JSON(none_as_null=True), nullable=True, comment="core.publishing.Trouble; null without"
        ),
        sa.Column("provenance", sa.JSON(), nullable=False, comment="core.publishing.Provenance"),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who submitted it"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person, service or operator"),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="how often it was given to a builder"),
        sa.Column("builder", sa.String(length=64), nullable=True, comment="who builds it now"),
        sa.Column("heard_at_ms", sa.BigInteger(), nullable=True, comment="of its builder"),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
    )
    op.create_index("ix_submissions_release", "submissions", ["server", "release"], unique=False)
    op.create_index("ix_submissions_server", "submissions", ["server", "created_at_ms"], unique=False)
    op.create_index("ix_submissions_state", "submissions", ["state"], unique=False)


def _events() -> None:
    op.create_table(
        "submission_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("submission", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission"], ["submissions.id"], name=op.f("fk_submission_events_submission_submissions")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_submission_events")),
    )
    op.create_index("ix_submission_events", "submission_events", ["submission", "seq"], unique=False)


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("live", sa.String(length=64), nullable=True, comment="submission that takes the calls; null: none"),
        sa.Column(
            "candidate", sa.String(length=64), nullable=True, comment="submission that is on its way up; null: none"
        ),
        sa.Column(
            "previous",
            sa.String(length=64),
            nullable=True,
            comment="last good submission, to which `rollback` goes; null: none",
        ),
        sa.Column("stage", sa.String(length=16), nullable=False, comment="settled, starting, stepping or watching"),
        sa.Column("percent", sa.Integer(), nullable=False, comment="of the callers that the candidate has"),
        sa.Column("since_ms", sa.BigInteger(), nullable=False, comment="when the stage began"),
        sa.Column(
            "until_ms", sa.BigInteger(), nullable=True, comment="when it ends by itself; null: it waits for something"
        ),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("paused_why", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "replicas_min", sa.Integer(), nullable=True, comment="as an operator set them; null: the manifest's"
        ),
        sa.Column("replicas_max", sa.Integer(), nullable=True),
        sa.Column(
            "version", sa.Integer(), nullable=False, comment="counts up with each change, so that two do not meet"
        ),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_deployments_server_servers")),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_deployments")),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Float(), nullable=True),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_failure", sa.Text(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("server", "release", "id", name=op.f("pk_replicas")),
    )


def _servers() -> None:
    op.add_column(
        "servers",
        sa.Column(
            "submitted",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="its releases come by the pipeline",
        ),
    )
    op.add_column(
        "servers",
        sa.Column("ends_at_ms", sa.BigInteger(), comment="of one deprecated: when it closes; null: nobody said"),
    )
    op.add_column(
        "servers", sa.Column("successor", sa.String(length=65), comment="of one deprecated: what to use instead")
    )
