"""Which token each call came with, so that calls with tokens that were never issued can be found."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "id (jti) of the token it came with; empty: nobody said"
    column = sa.Column("token_id", sa.String(length=128), server_default="", nullable=False, comment=comment)
    op.add_column("calls", column)
