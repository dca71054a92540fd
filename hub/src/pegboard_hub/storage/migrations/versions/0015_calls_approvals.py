"""Which requests were claimed for a call, or hold it up."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "ids of the approval requests that were claimed for it, or that it waits for; null: none"
    op.add_column("calls", sa.Column("approval", sa.JSON(none_as_null=True), comment=comment))
