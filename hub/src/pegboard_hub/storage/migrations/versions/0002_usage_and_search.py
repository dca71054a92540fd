# ruff: noqa: S608 - the texts put together here are this file's own
"""What the ledger counts as records come in, filled from what is there; and what calls are searched by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DAY_MS = 86_400_000
_SAVED = "(CASE WHEN t.minutes_saved > 10080 THEN 10080 ELSE t.minutes_saved END) * 60000 + 0.5"
SAVED_MS = {
    "sqlite": f"CAST({_SAVED} AS BIGINT)",
    # Its cast rounds, where SQLite's cuts off.
    "postgresql": f"CAST(floor({_SAVED}) AS BIGINT)",
}
"""What a call of a pinned tool saves: a week at most, in whole milliseconds."""

INDEXES = (("status", "at_ms"), ("tool", "at_ms"), ("code", "at_ms"), ("id",), ("request_id",), ("trace_id",))


def upgrade() -> None:
    _add_columns()
    _add_tables()
    # Before the indexes, which would only slow the writing down.
    op.execute(
        "UPDATE calls SET status = coalesce((SELECT o.status FROM outcomes o "
        "WHERE o.server = calls.server AND o.id = calls.id), '') WHERE kind = 'intent'"
    )
    for columns in INDEXES:
        op.create_index(op.f(f"ix_calls_{'_'.join(columns)}"), "calls", list(columns), unique=False)
    _fill_days()
    _fill_totals()


def _add_columns() -> None:
    op.add_column(
        "calls",
        sa.Column(
            "status",
            sa.String(length=16),
            nullable=False,
            server_default="",
            comment="of an allowed call, its outcome's, kept here to be searched by; empty while there is none",
        ),
    )
    op.add_column(
        "calls",
        sa.Column(
            "steps_ms",
            sa.JSON(),
            nullable=True,
            comment="of a refusal, how long each step took; null where nobody said",
        ),
    )
    for table in ("calls", "outcomes"):
        op.add_column(
            table,
            sa.Column(
                "received_at_ms",
                sa.BigInteger(),
                nullable=True,
                comment="when the hub took it in; null for rows from before it was noted",
            ),
        )


def _add_tables() -> None:
    op.create_table(
        "usage_days",
        sa.Column("server", sa.String(length=65), nullable=False, comment="empty: no registered server"),
        sa.Column(
            "day_ms", sa.BigInteger(), nullable=False, comment="beginning of the UTC day in which the call began"
        ),
        sa.Column("tool", sa.Text(), nullable=False, comment="empty: none that the release declares"),
        sa.Column(
            "status", sa.String(length=16), nullable=False, comment="begun, an outcome's status, denied, or edge"
        ),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column(
            "saved_ms", sa.BigInteger(), nullable=False, comment="milliseconds of people's work, as owners declare"
        ),
        sa.PrimaryKeyConstraint("server", "day_ms", "tool", "status", name=op.f("pk_usage_days")),
    )
    op.create_table(
        "usage_totals",
        sa.Column("server", sa.String(length=65), nullable=False, comment="* for all of them together"),
        sa.Column("status", sa.String(length=16), nullable=False, comment="as in usage_days"),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column(
            "callers", sa.BigInteger(), nullable=False, comment="different ones; of calls that ended well alone"
        ),
        sa.Column("saved_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("server", "status", name=op.f("pk_usage_totals")),
    )
    op.create_table(
        "usage_callers",
        sa.Column("server", sa.String(length=65), nullable=False, comment="* for all of them together"),
        sa.Column("sub_type", sa.String(length=8), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server", "sub_type", "sub", name=op.f("pk_usage_callers")),
    )
    op.create_table(
        "unpriced",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server", "release", name=op.f("pk_unpriced")),
    )


def _fill_days() -> None:
    of_release = "LEFT JOIN tools t ON t.server = c.server AND t.release = c.release AND t.name = c.tool"
    begun_and_denied = f"""
        INSERT INTO usage_days (server, day_ms, tool, status, calls, saved_ms)
        SELECT c.server, c.at_ms - c.at_ms % {DAY_MS}, coalesce(t.name, ''),
               CASE c.kind WHEN 'intent' THEN 'begun' ELSE 'denied' END, count(*), 0
        FROM calls c {of_release}
        WHERE c.kind IN ('intent', 'denial') GROUP BY 1, 2, 3, 4"""
    saved = SAVED_MS[op.get_bind().dialect.name]
    ended = f"""
        INSERT INTO usage_days (server, day_ms, tool, status, calls, saved_ms)
        SELECT c.server, c.at_ms - c.at_ms % {DAY_MS}, coalesce(t.name, ''), c.status, count(*),
               sum(CASE WHEN c.status = 'ok' AND t.name IS NOT NULL THEN {saved} ELSE 0 END)
        FROM calls c {of_release}
        WHERE c.kind = 'intent' AND c.status <> '' GROUP BY 1, 2, 3, 4"""
    at_edge = f"""
        INSERT INTO usage_days (server, day_ms, tool, status, calls, saved_ms)
        SELECT coalesce(s.name, ''), c.at_ms - c.at_ms % {DAY_MS}, '', 'edge', count(*), 0
        FROM calls c LEFT JOIN servers s ON s.name = c.server
        WHERE c.kind = 'edge' GROUP BY 1, 2"""
    for statement in (begun_and_denied, ended, at_edge):
        op.execute(statement)


def _fill_totals() -> None:
    well = "FROM calls WHERE kind = 'intent' AND status = 'ok'"
    op.execute(f"INSERT INTO usage_callers (server, sub_type, sub) SELECT DISTINCT server, sub_type, sub {well}")
    op.execute(f"INSERT INTO usage_callers (server, sub_type, sub) SELECT DISTINCT '*', sub_type, sub {well}")
    callers = "CASE WHEN status = 'ok' THEN (SELECT count(*) FROM usage_callers u WHERE u.server = {name}) ELSE 0 END"
    for name in ("d.server", "'*'"):
        op.execute(
            "INSERT INTO usage_totals (server, status, calls, callers, saved_ms) "
            f"SELECT {name}, status, sum(calls), {callers.format(name=name)}, sum(saved_ms) "
            f"FROM usage_days d GROUP BY {name if name.startswith('d') else '1'}, status"
        )
    op.execute(
        "INSERT INTO unpriced (server, release) SELECT DISTINCT c.server, c.release FROM calls c "
        "LEFT JOIN releases r ON r.server = c.server AND r.digest = c.release "
        "WHERE c.kind <> 'edge' AND r.digest IS NULL"
    )
