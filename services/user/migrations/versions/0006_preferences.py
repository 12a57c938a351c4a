"""What owners of accounts wish."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("marketing_opt_in_time", sa.BigInteger(), nullable=True))
