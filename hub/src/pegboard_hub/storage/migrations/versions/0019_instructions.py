"""What a release tells models before they use its tools, kept with it."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "releases",
        sa.Column(
            "instructions",
            sa.Text(),
            comment="what models are told at first; null: it was not kept when it was pinned",
        ),
    )
