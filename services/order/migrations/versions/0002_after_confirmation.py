"""What happens to an order once it is confirmed: shipping, delivery, refunds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("orders") as orders:
        orders.add_column(sa.Column("under_way", sa.Boolean(), nullable=False, server_default=sa.false()))
        orders.add_column(sa.Column("ship_time", sa.BigInteger()))
        orders.add_column(sa.Column("deliver_time", sa.BigInteger()))
        orders.add_column(sa.Column("tracking_reference", sa.Text(), nullable=False, server_default=""))
        orders.add_column(sa.Column("refunded_minor", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("order_lines") as lines:
        lines.add_column(sa.Column("refunded_quantity", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE orders SET under_way = TRUE WHERE state IN ('PENDING', 'REJECTING', 'CANCELLING')")
