"""On whose behalf things happened, and in which request."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("order_events") as events:
        events.add_column(sa.Column("on_behalf_of", sa.Text(), nullable=False, server_default=""))
        events.add_column(sa.Column("request_id", sa.Text(), nullable=False, server_default=""))
