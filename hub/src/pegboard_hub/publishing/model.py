"""The pipeline's tables."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
)

from pegboard_hub.registry.tables import ACTOR_LENGTH, SERVER_LENGTH
from pegboard_hub.storage.metadata import metadata

_COUNTED = BigInteger().with_variant(Integer, "sqlite")

artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the content"),
    Column("kind", String(16), nullable=False, comment="source, project, wheel, file or sbom"),
    Column("size", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""Bytes by their digest. Nothing here is ever changed; what no submission names any more is swept."""

artifact_parts = Table(
    "artifact_parts",
    metadata,
    Column("digest", ForeignKey("artifacts.digest"), primary_key=True),
    Column("part", Integer, primary_key=True, comment="from 0 on"),
    Column("content", LargeBinary, nullable=False),
)
"""The bytes themselves, in parts of 1 MiB."""

submissions = Table(
    "submissions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("server", String(SERVER_LENGTH), nullable=False),
    Column("source", String(64), nullable=False, comment="digest of the submitted archive"),
    Column("state", String(16), nullable=False, comment="core.publishing.State"),
    Column("step", Text, nullable=False, comment="what it is at, or waits for"),
    Column("release", String(64), comment="digest of the release; null before it is built"),
    Column("artifact", JSON(none_as_null=True), comment="core.publishing.Artifact"),
    Column("declaration", JSON(none_as_null=True), comment="core.release.Declaration"),
    Column("sbom", String(64), comment="digest of the CycloneDX document"),
    Column("signature", Text, comment="core.publishing.SignedRelease, signed"),
    Column("sandboxed", Boolean, comment="its tools were read in a sandbox"),
    Column("findings", JSON, nullable=False, comment="core.publishing.Finding, as the hub's own check found them"),
    Column("trouble", JSON(none_as_null=True), comment="core.publishing.Trouble; null without"),
    Column("provenance", JSON, nullable=False, comment="core.publishing.Provenance"),
    Column("actor", String(ACTOR_LENGTH), nullable=False, comment="who submitted it"),
    Column("actor_kind", String(8), nullable=False, comment="person, service or operator"),
    Column("attempt", Integer, nullable=False, comment="how often it was given to a builder"),
    Column("builder", String(64), comment="who builds it now"),
    Column("heard_at_ms", BigInteger, comment="of its builder"),
    Column("retry_at_ms", BigInteger, comment="it is given to no builder before; null: to the next that asks"),
    Column("packages", JSON(none_as_null=True), comment="packages and what is known of them, as its builder told"),
    Column(
        "access",
        JSON(none_as_null=True),
        comment="adds: what holds from its switch on; covers: who it was approved for, as far as anybody said",
    ),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_submissions_server", "server", "created_at_ms"),
    Index("ix_submissions_state", "state"),
    Index("ix_submissions_release", "server", "release"),
    Index("ix_submissions_actor", "actor", "created_at_ms"),
)

submission_events = Table(
    "submission_events",
    metadata,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("submission", ForeignKey("submissions.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("who", String(ACTOR_LENGTH), nullable=False),
    Index("ix_submission_events", "submission", "seq"),
)
"""Append-only; written in the transaction that changes the state."""

artifact_uses = Table(
    "artifact_uses",
    metadata,
    Column("submission", ForeignKey("submissions.id"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Index("ix_artifact_uses_digest", "digest"),
)
"""Which artifacts a submission needs. What none needs any more is swept."""

publishers = Table(
    "publishers",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("service", String(ACTOR_LENGTH), primary_key=True, comment="SPIFFE ID of what may submit its releases"),
    Column("why", Text, nullable=False),
    Column("actor", String(ACTOR_LENGTH), nullable=False, comment="who named it"),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_publishers_service", "service"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("live", String(64), comment="submission that takes the calls; null: none"),
    Column("candidate", String(64), comment="submission that is on its way up; null: none"),
    Column("previous", String(64), comment="last good submission, to which `rollback` goes; null: none"),
    Column("stage", String(16), nullable=False, comment="settled, starting, stepping or watching"),
    Column("percent", Integer, nullable=False, comment="of the callers that the candidate has"),
    Column("since_ms", BigInteger, nullable=False, comment="when the stage began"),
    Column("until_ms", BigInteger, comment="when it ends by itself; null: it waits for something"),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("paused_why", Text, nullable=False, server_default=""),
    Column("replicas_min", Integer, comment="as an operator set them; null: the manifest's"),
    Column("replicas_max", Integer),
    Column("leaving", String(64), comment="submission whose replicas finish what they began"),
    Column("leaving_until_ms", BigInteger, comment="when they end"),
    Column(
        "proven",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="the live one came through its watch window",
    ),
    Column(
        "going_back",
        Text,
        nullable=False,
        server_default="",
        comment="why the candidate is one that is gone back to; empty: it is new",
    ),
    Column(
        "turn",
        Integer,
        nullable=False,
        server_default="0",
        comment="how often somebody had its processes started anew",
    ),
    Column("version", Integer, nullable=False, comment="counts up with each change, so that two do not meet"),
    Column("updated_at_ms", BigInteger, nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("runtime", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("memory_mb", Float),
    Column("started_at_ms", BigInteger),
    Column("last_failure", Text, nullable=False),
    Column("smoke", JSON, nullable=False, server_default="{}", comment="how its smoke calls went, by tool"),
    Column("seen_at_ms", BigInteger, nullable=False),
)
"""What runtimes saw last. It is not the truth of anything: it is told anew after every restart."""
