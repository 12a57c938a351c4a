"""What is pending, in order, without a look at what was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    pending = sa.text("state = 'PENDING'")
    op.create_index(
        "notifications_queue", "notifications", ["sequence"], sqlite_where=pending, postgresql_where=pending
    )
