"""The record of each server, its lifecycle and history; releases that wait; reviews; what was last imported."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

HISTORY_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _server_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "owner",
            sa.String(length=32),
            server_default="",
            nullable=False,
            comment="the owning team, a business group",
        ),
        sa.Column("support_channel", sa.Text(), server_default="", nullable=False),
        sa.Column("links", sa.JSON(), server_default="{}", nullable=False, comment="name to URL"),
        sa.Column("sensitivity", sa.String(length=16), server_default="restricted", nullable=False),
        sa.Column(
            "gallery",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="may the public API list it",
        ),
        sa.Column(
            "uses_models",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="it sends data to a model",
        ),
        sa.Column(
            "lifecycle", sa.String(length=12), server_default="draft", nullable=False, comment="one of Lifecycle"
        ),
        sa.Column(
            "lifecycle_why", sa.Text(), server_default="", nullable=False, comment="of one deprecated or retired"
        ),
        sa.Column(
            "takes_any",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="every release counts as approved",
        ),
        sa.Column(
            "waiting",
            sa.String(length=64),
            nullable=True,
            comment="digest of the release that is declared and waits for reviews",
        ),
        sa.Column(
            "first_live_at_ms", sa.BigInteger(), nullable=True, comment="when it could first be called; null: never"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False, comment="counts up with each change"),
        sa.Column(
            "seq", sa.BigInteger(), server_default="0", nullable=False, comment="its newest entry in the history"
        ),
        sa.Column("created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
    )


COMMENTS = {
    "source": "where the operator's file says its code is; empty: nowhere",
    "release": "digest of the approved release that is deployed; null: none",
}
"""What columns that were there before mean since."""

HINTS = ("destructive", "idempotent", "open_world")

TOLD_AT_FIRST = ("name", "title", "description", "policy", "minutes_saved", "input_schema")
"""What a declaration said of a tool before revision 0004."""

SQLITE_APPEND_ONLY = """
CREATE TRIGGER history_{what} BEFORE {what} ON history
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""

POSTGRESQL_APPEND_ONLY = (
    """
CREATE FUNCTION history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the history is append-only'; END $$
""",
    """
CREATE TRIGGER history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON history
FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()
""",
)


def upgrade() -> None:
    _widen()
    _create()
    _fill()
    _close_history()


def _widen() -> None:
    for column in _server_columns():
        op.add_column("servers", column)
    op.create_index("ix_servers_seq", "servers", ["seq"], unique=False)
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        for name, comment in COMMENTS.items():
            op.alter_column("servers", name, comment=comment)
    op.add_column(
        "releases",
        sa.Column("semver", sa.String(length=32), server_default="", nullable=False, comment="one for each digest"),
    )
    op.add_column(
        "releases",
        sa.Column("approved_at_ms", sa.BigInteger(), nullable=True, comment="null: it waits, or was turned down"),
    )
    op.add_column(
        "releases",
        sa.Column(
            "deployed_at_ms",
            sa.BigInteger(),
            nullable=True,
            comment="when it first became what is called; null: never",
        ),
    )
    op.add_column(
        "releases",
        sa.Column(
            "unrecorded",
            sa.JSON(),
            server_default="[]",
            nullable=False,
            comment="fields of its tools that were not kept yet when it was pinned",
        ),
    )
    for hint in HINTS:
        column = sa.Column(hint, sa.Boolean(), nullable=True, comment="the author's hint; null: nothing said")
        op.add_column("tools", column)
    op.add_column("tools", sa.Column("output_schema", sa.JSON(none_as_null=True), nullable=True))


def _create() -> None:
    op.create_table(
        "history",
        sa.Column("seq", HISTORY_KEY, autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="that the change made"),
        sa.Column("actor", sa.String(length=255), nullable=False, comment="who"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person, operator, file or system"),
        sa.Column("action", sa.String(length=32), nullable=False, comment="what"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False, comment="field to what it was and what it is since"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_history")),
    )
    op.create_index("ix_history_actor_seq", "history", ["actor", "seq"], unique=False)
    op.create_index("ix_history_server_seq", "history", ["server", "seq"], unique=False)
    op.create_table(
        "imports",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("entry", sa.JSON(), nullable=False, comment="what was last taken over of the grants file's entry"),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_imports_server_servers")),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_imports")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False, comment="one of Kind"),
        sa.Column("state", sa.String(length=12), nullable=False, comment="one of State"),
        sa.Column(
            "release", sa.String(length=64), nullable=False, comment="digest that is looked at; empty: none yet"
        ),
        sa.Column("requested", sa.JSON(), nullable=False, comment="the access that is looked at"),
        sa.Column("changes", sa.JSON(), nullable=False, comment="what differs from what was last approved"),
        sa.Column("opened_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.String(length=255), nullable=False),
        sa.Column("opened_why", sa.Text(), nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("outcome_why", sa.Text(), server_default="", nullable=False),
        sa.Column("checklist", sa.JSON(), server_default="{}", nullable=False, comment="item to whether it holds"),
        sa.Column("granted", sa.JSON(none_as_null=True), nullable=True, comment="the access that was approved"),
        sa.Column("conditions", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_reviews_server_servers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index("ix_reviews_server_opened_at_ms", "reviews", ["server", "opened_at_ms"], unique=False)
    op.create_index("ix_reviews_state_opened_at_ms", "reviews", ["state", "opened_at_ms"], unique=False)
    op.create_table(
        "review_comments",
        sa.Column("id", HISTORY_KEY, autoincrement=True, nullable=False),
        sa.Column("review", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["review"], ["reviews.id"], name=op.f("fk_review_comments_review_reviews")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_comments")),
    )
    op.create_index("ix_review_comments_review_id", "review_comments", ["review", "id"], unique=False)


def _fill() -> None:
    """What was granted until now stays granted: the operator's file said so."""
    connection = op.get_bind()
    servers = sa.table(
        "servers",
        *map(sa.column, ("name", "release", "title", "description", "owner", "support_channel")),
        *map(sa.column, ("sensitivity", "lifecycle", "lifecycle_why", "first_live_at_ms")),
        sa.column("registered", sa.Boolean()),
        sa.column("gallery", sa.Boolean()),
        *map(sa.column, ("created_at_ms", "updated_at_ms")),
    )
    releases = sa.table(
        "releases",
        *map(sa.column, ("server", "digest", "semver", "seen_at_ms", "approved_at_ms", "deployed_at_ms")),
        sa.column("manifest", sa.JSON()),
        sa.column("unrecorded", sa.JSON()),
    )
    found = connection.execute(sa.select(releases).order_by(releases.c.server, releases.c.seen_at_ms)).all()
    manifests: dict[tuple[str, str], dict[str, Any]] = {}
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for row in found:
        count[row.server] = count.get(row.server, -1) + 1
        first.setdefault(row.server, row.seen_at_ms)
        manifests[row.server, row.digest] = row.manifest
        connection.execute(
            sa.update(releases)
            .where(releases.c.server == row.server, releases.c.digest == row.digest)
            .values(
                semver=f"1.0.{count[row.server]}",
                approved_at_ms=row.seen_at_ms,
                deployed_at_ms=row.seen_at_ms,
                unrecorded=_unrecorded(row.server, row.digest, row.manifest),
            )
        )
    for row in connection.execute(sa.select(servers)).all():
        manifest = manifests.get((row.name, row.release), {})
        said = {
            "title": manifest.get("title"),
            "description": manifest.get("description", ""),
            "owner": manifest.get("owner", ""),
            "support_channel": manifest.get("support_channel", ""),
            "sensitivity": manifest.get("sensitivity", "restricted"),
            "gallery": bool(manifest.get("gallery", False)),
        }
        lifecycle = "live" if manifest else "approved"
        connection.execute(
            sa.update(servers)
            .where(servers.c.name == row.name)
            .values(
                **said,
                lifecycle=lifecycle if row.registered else "retired",
                lifecycle_why="" if row.registered else "the grants file no longer names it",
                first_live_at_ms=first.get(row.name),
                created_at_ms=first.get(row.name, 0),
                updated_at_ms=first.get(row.name, 0),
            )
        )
    op.drop_column("servers", "registered")


def _unrecorded(server: str, release: str, manifest: dict[str, Any]) -> list[str]:
    """What of a release's tools was not kept when it was pinned: the hints and the output schema of all of them.

    Revision 0004 brought `read_only`. Whether a release was pinned before that, its digest tells: it is that of what
    its declaration could say then.
    """
    connection, found = op.get_bind(), {}
    for table, fields in (("tools", TOLD_AT_FIRST), ("policies", ("name", "text"))):
        typed = [sa.column(name, sa.JSON()) if name == "input_schema" else sa.column(name) for name in fields]
        rows = sa.table(table, *typed, *map(sa.column, ("server", "release", "position")))
        query = sa.select(*typed).where(rows.c.server == server, rows.c.release == release)
        query = query.order_by(rows.c.position) if table == "tools" else query
        found[table] = [dict(row._mapping) for row in connection.execute(query)]
    told = {
        "manifest": manifest,
        "tools": found["tools"],
        "policies": {policy["name"]: policy["text"] for policy in found["policies"]},
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    before_read_only = hashlib.sha256(text.encode()).hexdigest() == release
    return [*(["read_only"] if before_read_only else []), *HINTS, "output_schema"]


def _close_history() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in POSTGRESQL_APPEND_ONLY:
            op.execute(statement)
    else:
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(what=what))
