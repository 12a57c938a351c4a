"""The order service's tables. Times are microseconds since 1970 (UTC), amounts minor units."""

import sqlalchemy as sa

from services.chassis.events import inbox, outbox
from services.chassis.storage import audit_trail, event_store, idempotency

metadata = sa.MetaData()

# The truth. Everything below but the chassis' own tables can be made again from it.
order_events = event_store.define(metadata, "order_events")

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("total_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("payment_method_id", sa.Text, nullable=False),
    sa.Column("rejection_reason", sa.Text, nullable=False),
    sa.Column("cancel_reason", sa.Text, nullable=False),
    sa.Column("needs_attention", sa.Boolean, nullable=False),
    sa.Column("reservation_id", sa.Text, nullable=False),
    sa.Column("payment_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.Column("under_way", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("ship_time", sa.BigInteger),
    sa.Column("deliver_time", sa.BigInteger),
    sa.Column("tracking_reference", sa.Text, nullable=False, server_default=""),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("capture", sa.Text, nullable=False, server_default="confirm"),
    # Zero for orders that are paid before they are confirmed: what was taken for those follows from `state`.
    sa.Column("captured_at_shipment_minor", sa.BigInteger, nullable=False, server_default="0"),
    # Lists go newest first, of one user or of all, in one state or in any.
    sa.Index("orders_by_time", "create_time", "order_id"),
    sa.Index("orders_by_user", "user_id", "create_time", "order_id"),
    sa.Index("orders_by_state", "state", "create_time", "order_id"),
)

order_lines = sa.Table(
    "order_lines",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("product_id", sa.Text, nullable=False),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("unit_price_minor", sa.BigInteger, nullable=False),
    sa.Column("refunded_quantity", sa.BigInteger, nullable=False, server_default="0"),
)

# Who drives an order that is under way, and when it is next due. Scheduling only: what to do stands in
# the events.
order_drives = sa.Table(
    "order_drives",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("due_time", sa.BigInteger, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False),
    sa.Column("driver", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("step_since", sa.BigInteger, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Index("order_drives_by_due", "due_time"),
)

requests = idempotency.define(metadata)
outbox_rows = outbox.define(metadata)
inbox_rows = inbox.define(metadata)
audit_rows = audit_trail.define(metadata)
