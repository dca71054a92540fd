"""Approvals: requests, and the history of them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SQLITE_APPEND_ONLY = """
CREATE TRIGGER approval_events_{what} BEFORE {what} ON approval_events
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""

POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER approval_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON approval_events
FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()
"""


def upgrade() -> None:
    op.create_table(
        "approval_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("request", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.String(length=10), nullable=False, comment="the state before; empty: there was none"),
        sa.Column("after", sa.String(length=10), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False, comment="a person's id; empty: Pegboard itself"),
        sa.Column("who_name", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("door", sa.String(length=8), nullable=False, comment="one of approvals.model.Door"),
        sa.Column("shown", sa.String(length=64), nullable=False, comment="digest of what was shown then"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_approval_events")),
    )
    op.create_index("ix_approval_events_request", "approval_events", ["request", "seq"], unique=False)
    op.create_table(
        "approval_requests",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("batch", sa.String(length=32), nullable=False, comment="what was asked for together"),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="approval or confirm"),
        sa.Column("state", sa.String(length=10), nullable=False, comment="one of core.approval.State"),
        sa.Column("binding", sa.String(length=64), nullable=False, comment="what it is found by"),
        sa.Column(
            "held",
            sa.String(length=64),
            nullable=True,
            comment="the binding while no other request may have it; null: it is over",
        ),
        sa.Column("person", sa.String(length=255), nullable=False, comment="whose call it is"),
        sa.Column(
            "person_name", sa.String(length=255), nullable=False, comment="their e-mail address; empty: none is known"
        ),
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("tool", sa.String(length=128), nullable=False),
        sa.Column("policy", sa.String(length=128), nullable=False),
        sa.Column("policy_version", sa.String(length=128), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False, comment="canonical JSON; empty: no longer kept"),
        sa.Column("arguments_digest", sa.String(length=64), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False, comment="JSON; empty: none"),
        sa.Column("requirement", sa.Text(), nullable=False, comment="JSON"),
        sa.Column(
            "approver", sa.String(length=263), nullable=False, comment="who decides: person:, server: or group:"
        ),
        sa.Column("own", sa.Boolean(), nullable=False, comment="may the person decide themselves"),
        sa.Column("shown_digest", sa.String(length=64), nullable=False, comment="of what is shown to who decides"),
        sa.Column("shown_at_ms", sa.BigInteger(), nullable=False, comment="since when that is shown"),
        sa.Column("surface", sa.String(length=16), nullable=False),
        sa.Column("client", sa.Text(), nullable=False, comment="the client's id"),
        sa.Column("act", sa.Text(), nullable=False, comment="who acts for the person; empty: nobody"),
        sa.Column(
            "request_id", sa.String(length=128), nullable=False, comment="the edge's, of the call that asked first"
        ),
        sa.Column("requested_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "remind_at_ms", sa.BigInteger(), nullable=False, comment="when it is to be announced that it will expire"
        ),
        sa.Column("reminded_at_ms", sa.BigInteger(), nullable=True, comment="when it was"),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=255), nullable=False),
        sa.Column("decided_by_name", sa.Text(), nullable=False),
        sa.Column(
            "why", sa.Text(), nullable=False, comment="in the words of who decided or withdrew; else what ended it"
        ),
        sa.Column("claimed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("call_id", sa.String(length=128), nullable=False, comment="the call that runs it; empty: none"),
        sa.Column("process", sa.String(length=128), nullable=False, comment="the server process that claimed it"),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_requests")),
    )
    op.create_index(
        "ix_approval_requests_approver", "approval_requests", ["approver", "requested_at_ms", "id"], unique=False
    )
    op.create_index("ix_approval_requests_batch", "approval_requests", ["batch"], unique=False)
    op.create_index("ix_approval_requests_binding", "approval_requests", ["binding", "requested_at_ms"], unique=False)
    op.create_index("ix_approval_requests_call", "approval_requests", ["server", "call_id"], unique=False)
    op.create_index("ix_approval_requests_due", "approval_requests", ["state", "expires_at_ms"], unique=False)
    op.create_index(
        "ix_approval_requests_inbox",
        "approval_requests",
        ["state", "approver", "expires_at_ms", "id", "own", "person"],
        unique=False,
    )
    op.create_index(
        "ix_approval_requests_person", "approval_requests", ["person", "requested_at_ms", "id"], unique=False
    )
    op.create_index(
        "ix_approval_requests_remind", "approval_requests", ["state", "reminded_at_ms", "remind_at_ms"], unique=False
    )
    op.create_index("ix_approval_requests_requested_at", "approval_requests", ["requested_at_ms", "id"], unique=False)
    op.create_index("uq_approval_requests_held", "approval_requests", ["held"], unique=True)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_APPEND_ONLY)
    else:
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(what=what))
