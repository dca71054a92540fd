"""The registry's tables."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
)

from pegboard_hub.storage.metadata import metadata

SERVER_LENGTH = 65
"""Longest `namespace/name`: two names of 32 and the slash."""

ACTOR_LENGTH = 255

servers = Table(
    "servers",
    metadata,
    Column("name", String(SERVER_LENGTH), primary_key=True),
    Column("source", Text, nullable=False, comment="where the operator's file says its code is; empty: nowhere"),
    Column("reason", Text, nullable=False, comment="who granted and why"),
    Column("title", Text),
    Column("description", Text, nullable=False, server_default=""),
    Column("owner", String(32), nullable=False, server_default="", comment="the owning team, a business group"),
    Column("support_channel", Text, nullable=False, server_default=""),
    Column("links", JSON, nullable=False, server_default="{}", comment="name to URL"),
    Column("sensitivity", String(16), nullable=False, server_default="restricted"),
    Column("gallery", Boolean, nullable=False, server_default=false(), comment="may the public API list it"),
    Column("uses_models", Boolean, nullable=False, server_default=false(), comment="it sends data to a model"),
    Column("lifecycle", String(12), nullable=False, server_default="draft", comment="one of Lifecycle"),
    Column("lifecycle_why", Text, nullable=False, server_default="", comment="of one deprecated or retired"),
    Column("takes_any", Boolean, nullable=False, server_default=false(), comment="every release counts as approved"),
    Column("submitted", Boolean, nullable=False, server_default=false(), comment="its releases come by the pipeline"),
    Column("ends_at_ms", BigInteger, comment="of one deprecated: when it closes; null: nobody said"),
    Column("successor", String(SERVER_LENGTH), comment="of one deprecated: what to use instead"),
    Column(
        "endpoints",
        JSON,
        nullable=False,
        server_default="[]",
        comment="where its replicas answer, as edges are told; empty: at the socket of its name, or nowhere",
    ),
    Column("release", String(64), comment="digest of the approved release that is deployed; null: none"),
    Column("waiting", String(64), comment="digest of the release that is declared and waits for reviews"),
    Column("first_live_at_ms", BigInteger, comment="when it could first be called; null: never"),
    Column("version", Integer, nullable=False, server_default="1", comment="counts up with each change"),
    Column("seq", BigInteger, nullable=False, server_default="0", comment="its newest entry in the history"),
    Column("created_at_ms", BigInteger, nullable=False, server_default="0"),
    Column("updated_at_ms", BigInteger, nullable=False, server_default="0"),
    Index("ix_servers_seq", "seq"),
)

releases = Table(
    "releases",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("semver", String(32), nullable=False, server_default="", comment="one for each digest"),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("approved_at_ms", BigInteger, comment="null: it waits, or was turned down"),
    Column("deployed_at_ms", BigInteger, comment="when it first became what is called; null: never"),
    Column(
        "unrecorded",
        JSON,
        nullable=False,
        server_default="[]",
        comment="fields of its tools that were not kept yet when it was pinned",
    ),
    Column(
        "can_ask",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="its kit asks for an approval where the registry requires one",
    ),
    Column("instructions", Text, comment="what models are told at first; null: it was not kept when it was pinned"),
)

policies = Table(
    "policies",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(["server", "release"], ["releases.server", "releases.digest"]),
)

tools = Table(
    "tools",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("position", Integer, nullable=False, comment="the author's order"),
    Column("title", Text),
    Column("description", Text, nullable=False),
    Column("policy", String(64), nullable=False),
    Column("minutes_saved", Float, nullable=False),
    Column(
        "read_only", Boolean, nullable=False, server_default=false(), comment="it changes nothing, as its author says"
    ),
    Column("destructive", Boolean, comment="the author's hint; null: nothing said"),
    Column("idempotent", Boolean, comment="the author's hint; null: nothing said"),
    Column("open_world", Boolean, comment="the author's hint; null: nothing said"),
    Column("input_schema", JSON, nullable=False),
    Column("output_schema", JSON(none_as_null=True)),
    Column("approval", JSON(none_as_null=True), comment="who must approve a call, as its code says; null: nobody"),
    Column("confirmation", Text, comment="what callers confirm, as its code says; null: nothing"),
    ForeignKeyConstraint(["server", "release"], ["releases.server", "releases.digest"]),
)

grants = Table(
    "grants",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("kind", String(8), primary_key=True, comment="one of GRANT_KINDS"),
    Column("value", String(255), primary_key=True),
    Column("requested", Boolean, nullable=False, comment="the author's manifest asks for it"),
    Column("granted", Boolean, nullable=False, comment="the operator's grants file gives it"),
)

stops = Table(
    "stops",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("tool", String(64), primary_key=True, comment="empty: the server as a whole"),
    Column("why", Text, nullable=False, comment="shown to callers"),
)

approval_requirements = Table(
    "approval_requirements",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("tool", String(64), primary_key=True),
    Column("approver", String(64), nullable=False, comment="caller, owner or a business group"),
    Column("own", Boolean, nullable=False, comment="may somebody approve what they asked for themselves"),
    Column("expires_s", Integer, nullable=False, comment="seconds from a request within which a yes is good"),
    Column("why", Text, nullable=False, comment="shown to callers and approvers"),
    Column("actor", String(ACTOR_LENGTH), nullable=False, comment="who required it"),
    Column("actor_kind", String(8), nullable=False, comment="person or operator"),
    Column("role", String(8), nullable=False, comment="operator or owner: an owner does not lift an operator's"),
    Column("at_ms", BigInteger, nullable=False),
)
"""What the registry requires now; what it ever required is in the history, as the field `approvals`."""

history = Table(
    "history",
    metadata,
    # 64 bits wherever that is not what an integer key is anyway: SQLite counts rows in an INTEGER key alone.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("server", String(SERVER_LENGTH), nullable=False),
    Column("version", Integer, nullable=False, comment="that the change made"),
    Column("actor", String(ACTOR_LENGTH), nullable=False, comment="who"),
    Column("actor_kind", String(8), nullable=False, comment="person, operator, file or system"),
    Column("action", String(32), nullable=False, comment="what"),
    Column("why", Text, nullable=False),
    Column("fields", JSON, nullable=False, comment="field to what it was and what it is since"),
    Index("ix_history_server_seq", "server", "seq"),
    Index("ix_history_actor_seq", "actor", "seq"),
)
"""Append-only: the database itself refuses to change or remove a row."""

imports = Table(
    "imports",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("entry", JSON, nullable=False, comment="what was last taken over of the grants file's entry"),
    Column("at_ms", BigInteger, nullable=False),
)

bundles = Table(
    "bundles",
    metadata,
    Column("consumer", String(SERVER_LENGTH), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("content", String(64), nullable=False, comment="SHA-256 of what the consumer decides with"),
)
