"""What the operator stopped, so that it stays stopped over a restart of the hub."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stops",
        sa.Column("server", sa.String(length=65), nullable=False),
        sa.Column("tool", sa.String(length=64), nullable=False, comment="empty: the server as a whole"),
        sa.Column("why", sa.Text(), nullable=False, comment="shown to callers"),
        sa.ForeignKeyConstraint(["server"], ["servers.name"], name=op.f("fk_stops_server_servers")),
        sa.PrimaryKeyConstraint("server", "tool", name=op.f("pk_stops")),
    )
