"""The tables of inventory. Times are microseconds since 1970, money is minor units and a currency.

The CHECKs are a net, not the rule: the rule is decided in the domain. What would slip through ends the
transaction instead of the books.
"""

import sqlalchemy as sa

from services.chassis.events import outbox
from services.chassis.storage import audit_trail, idempotency
from services.inventory.reservation import State
from services.inventory.stock import MovementKind

metadata = sa.MetaData()


def _one_of(column: str, words: type[State] | type[MovementKind]) -> str:
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"


products = sa.Table(
    "products",
    metadata,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("sku", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("price_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    # Folded by Unicode's rules, so that search and order by name see no case on any database.
    sa.Column("name_key", sa.Text, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint("price_minor > 0", name="price_is_positive"),
    sa.Index("products_by_create_time", "create_time", "product_id"),
    sa.Index("products_by_name", "name_key", "product_id"),
    sa.Index("products_by_price", "currency", "price_minor", "product_id"),
    sa.Index("products_by_category", "category", "create_time", "product_id"),
)

# Every price a product ever had, by the product's version that brought it.
prices = sa.Table(
    "prices",
    metadata,
    sa.Column("product_id", sa.Text, sa.ForeignKey("products.product_id"), primary_key=True),
    sa.Column("product_version", sa.Integer, primary_key=True),
    sa.Column("price_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("effective_time", sa.BigInteger, nullable=False),
)

warehouses = sa.Table(
    "warehouses",
    metadata,
    sa.Column("warehouse_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("preference", sa.Integer, nullable=False, server_default="0"),
)

stock_levels = sa.Table(
    "stock_levels",
    metadata,
    sa.Column("product_id", sa.Text, sa.ForeignKey("products.product_id"), primary_key=True),
    sa.Column("warehouse_id", sa.Text, sa.ForeignKey("warehouses.warehouse_id"), primary_key=True),
    sa.Column("on_hand", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint("on_hand >= 0", name="on_hand_is_not_negative"),
    sa.CheckConstraint("reserved >= 0", name="reserved_is_not_negative"),
    sa.CheckConstraint("reserved <= on_hand", name="reserved_is_on_hand"),
)

# The ledger: each level began at nothing, and the sum of its movements is what it is now.
stock_movements = sa.Table(
    "stock_movements",
    metadata,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),  # only INTEGER counts by itself there
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("product_id", sa.Text, nullable=False),
    sa.Column("warehouse_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("delta_on_hand", sa.BigInteger, nullable=False),
    sa.Column("delta_reserved", sa.BigInteger, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.ForeignKeyConstraint(
        ["product_id", "warehouse_id"], ["stock_levels.product_id", "stock_levels.warehouse_id"]
    ),
    sa.CheckConstraint(_one_of("kind", MovementKind), name="kind_is_known"),
    sa.CheckConstraint("delta_on_hand <> 0 OR delta_reserved <> 0", name="something_moved"),
    # The list of a product's movements, and which is its newest.
    sa.Index("stock_movements_by_product", "product_id", "sequence"),
    sa.Index("stock_movements_by_order", "order_id"),
)

# What is planned, and on which side of its mark stock was last seen.
restock_plans = sa.Table(
    "restock_plans",
    metadata,
    sa.Column("product_id", sa.Text, sa.ForeignKey("products.product_id"), primary_key=True),
    sa.Column("warehouse_id", sa.Text, sa.ForeignKey("warehouses.warehouse_id"), primary_key=True),
    sa.Column("expected_time", sa.BigInteger),
    sa.Column("expected_quantity", sa.BigInteger, nullable=False),
    sa.Column("low_stock_below", sa.BigInteger, nullable=False),
    sa.Column("is_low", sa.Boolean, nullable=False),
    sa.Column("cross_time", sa.BigInteger),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint("expected_quantity >= 0", name="expected_is_not_negative"),
    sa.CheckConstraint("low_stock_below >= 0", name="mark_is_not_negative"),
)

# One row an order, for ever: holds and tombstones alike. `wants` and `refusal` are JSON.
reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("reservation_id", sa.Text, unique=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("wants", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text),
    sa.Column("expire_time", sa.BigInteger),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint(_one_of("state", State), name="state_is_known"),
)
# The sweeper's question, "which hold ends next?", looks at live holds only, however many orders there were.
sa.Index(
    "reservations_by_expiry",
    reservations.c.expire_time,
    sqlite_where=sa.text("state = 'reserved'"),
    postgresql_where=sa.text("state = 'reserved'"),
)

reservation_lines = sa.Table(
    "reservation_lines",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("reservations.order_id"), primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("warehouse_id", sa.Text, primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("returned", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
    sa.CheckConstraint("returned BETWEEN 0 AND quantity", name="returned_was_sold"),
)

# One row a return, for ever, refused ones too. `wants` and `refusal` are JSON.
returns = sa.Table(
    "returns",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("reservations.order_id"), primary_key=True),
    sa.Column("return_id", sa.Text, primary_key=True),
    sa.Column("wants", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text),
    sa.Column("create_time", sa.BigInteger, nullable=False),
)

# From where it had been sold, and where it went.
return_lines = sa.Table(
    "return_lines",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("return_id", sa.Text, primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("origin_id", sa.Text, primary_key=True),
    sa.Column("warehouse_id", sa.Text, primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.ForeignKeyConstraint(["order_id", "return_id"], ["returns.order_id", "returns.return_id"]),
    sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
)

outbox_rows = outbox.define(metadata)
remembered_calls = idempotency.define(metadata)
audit_rows = audit_trail.define(metadata)
