"""The tables of one order step: the chassis' own, and the row that an order is shown by.

Not the order service's, which grows; what is compared shall stay the same.
"""

import sqlalchemy as sa

from services.chassis.events import outbox
from services.chassis.storage import event_store, idempotency

metadata = sa.MetaData()

order_events = event_store.define(metadata, "order_events")
outbox_rows = outbox.define(metadata)
requests = idempotency.define(metadata)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("order_id", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("total_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("payment_method_id", sa.String(36), nullable=False),
    sa.Column("rejection_reason", sa.String(64), nullable=False),
    sa.Column("cancel_reason", sa.String(500), nullable=False),
    sa.Column("needs_attention", sa.Boolean, nullable=False),
    sa.Column("reservation_id", sa.String(36), nullable=False),
    sa.Column("payment_id", sa.String(36), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.Index("orders_by_time", "create_time", "order_id"),
    sa.Index("orders_by_user", "user_id", "create_time", "order_id"),
    sa.Index("orders_by_state", "state", "create_time", "order_id"),
)
