"""When the money of an order is taken, and what was taken when it was to be shipped."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("orders") as orders:
        orders.add_column(sa.Column("capture", sa.Text(), nullable=False, server_default="confirm"))
        orders.add_column(
            sa.Column("captured_at_shipment_minor", sa.BigInteger(), nullable=False, server_default="0")
        )
