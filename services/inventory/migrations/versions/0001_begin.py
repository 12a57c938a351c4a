"""Catalogue, stock, holds, and the tables of the chassis; one warehouse to begin with."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DEFAULT_WAREHOUSE_ID = "40e877f3-146d-5a2c-b319-8e746c2f4a9e"  # stock.DEFAULT_WAREHOUSE_ID, for ever


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("publish_time", sa.BigInteger(), nullable=True),
        sa.Column("stream_seq", sa.BigInteger(), nullable=True),
        sa.Column("stream_epoch", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("event_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_publish_time", "outbox", ["publish_time"])
    op.create_index("outbox_stream_seq", "outbox", ["stream_seq"])
    op.create_index(
        "outbox_unpublished",
        "outbox",
        ["seq"],
        sqlite_where=sa.text("stream_seq IS NULL"),
        postgresql_where=sa.text("stream_seq IS NULL"),
    )
    op.create_table(
        "products",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_minor > 0", name="price_is_positive"),
        sa.PrimaryKeyConstraint("product_id"),
        sa.UniqueConstraint("sku"),
    )
    op.create_index("products_by_category", "products", ["category", "create_time", "product_id"])
    op.create_index("products_by_create_time", "products", ["create_time", "product_id"])
    op.create_index("products_by_name", "products", ["name_key", "product_id"])
    op.create_index("products_by_price", "products", ["currency", "price_minor", "product_id"])
    op.create_table(
        "remembered_calls",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("reply_type", sa.Text(), nullable=True),
        sa.Column("reply", sa.LargeBinary(), nullable=True),
        sa.Column("refusal", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "request_id"),
    )
    op.create_index("ix_remembered_calls_create_time", "remembered_calls", ["create_time"])
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("reservation_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wants", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("expire_time", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('reserved', 'committed', 'released', 'expired', 'refused')", name="state_is_known"
        ),
        sa.PrimaryKeyConstraint("order_id"),
        sa.UniqueConstraint("reservation_id"),
    )
    op.create_index(
        "reservations_by_expiry",
        "reservations",
        ["expire_time"],
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    )
    op.create_table(
        "warehouses",
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("warehouse_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "prices",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("product_version", sa.Integer(), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("effective_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"]),
        sa.PrimaryKeyConstraint("product_id", "product_version"),
    )
    op.create_table(
        "reservation_lines",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
        sa.ForeignKeyConstraint(["order_id"], ["reservations.order_id"]),
        sa.PrimaryKeyConstraint("order_id", "product_id", "warehouse_id"),
    )
    op.create_table(
        "stock_levels",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("on_hand >= 0", name="on_hand_is_not_negative"),
        sa.CheckConstraint("reserved <= on_hand", name="reserved_is_on_hand"),
        sa.CheckConstraint("reserved >= 0", name="reserved_is_not_negative"),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"]),
        sa.ForeignKeyConstraint(["warehouse_id"], ["warehouses.warehouse_id"]),
        sa.PrimaryKeyConstraint("product_id", "warehouse_id"),
    )
    op.create_table(
        "stock_movements",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("delta_on_hand", sa.BigInteger(), nullable=False),
        sa.Column("delta_reserved", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('set', 'reserve', 'release', 'expire', 'commit', 'return')", name="kind_is_known"
        ),
        sa.CheckConstraint("delta_on_hand <> 0 OR delta_reserved <> 0", name="something_moved"),
        sa.ForeignKeyConstraint(
            ["product_id", "warehouse_id"], ["stock_levels.product_id", "stock_levels.warehouse_id"]
        ),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("stock_movements_by_level", "stock_movements", ["product_id", "warehouse_id", "sequence"])
    op.create_index("stock_movements_by_order", "stock_movements", ["order_id"])
    op.bulk_insert(
        sa.table("warehouses", sa.column("warehouse_id"), sa.column("name"), sa.column("create_time")),
        [{"warehouse_id": DEFAULT_WAREHOUSE_ID, "name": "Main", "create_time": time.time_ns() // 1000}],
    )
