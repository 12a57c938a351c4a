"""Warehouses by preference, corrections with reasons, returns, restock plans."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# As 0001 left them: SQLite changes a CHECK by copying the table, and cannot be asked what its CHECKs are.
_MOVEMENTS = sa.Table(
    "stock_movements",
    sa.MetaData(),
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
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
    sa.Index("stock_movements_by_order", "order_id"),
)
_RESERVED = sa.Table(
    "reservation_lines",
    sa.MetaData(),
    sa.Column("order_id", sa.Text(), sa.ForeignKey("reservations.order_id"), primary_key=True),
    sa.Column("product_id", sa.Text(), primary_key=True),
    sa.Column("warehouse_id", sa.Text(), primary_key=True),
    sa.Column("quantity", sa.BigInteger(), nullable=False),
    sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
)


def upgrade() -> None:
    op.add_column("warehouses", sa.Column("preference", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("stock_movements_by_level", "stock_movements")
    with op.batch_alter_table("stock_movements", copy_from=_MOVEMENTS) as movements:
        movements.add_column(sa.Column("reason", sa.Text(), nullable=False, server_default=""))
        movements.drop_constraint("kind_is_known", type_="check")
        movements.create_check_constraint(
            "kind_is_known",
            "kind IN ('set', 'adjust', 'reserve', 'release', 'expire', 'commit', 'return')",
        )
    op.create_index("stock_movements_by_product", "stock_movements", ["product_id", "sequence"])
    with op.batch_alter_table("reservation_lines", copy_from=_RESERVED) as lines:
        lines.add_column(sa.Column("returned", sa.BigInteger(), nullable=False, server_default="0"))
        lines.create_check_constraint("returned_was_sold", "returned BETWEEN 0 AND quantity")
    op.create_table(
        "returns",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("return_id", sa.Text(), nullable=False),
        sa.Column("wants", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["reservations.order_id"]),
        sa.PrimaryKeyConstraint("order_id", "return_id"),
    )
    op.create_table(
        "return_lines",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("return_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("origin_id", sa.Text(), nullable=False),
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
        sa.ForeignKeyConstraint(["order_id", "return_id"], ["returns.order_id", "returns.return_id"]),
        sa.PrimaryKeyConstraint("order_id", "return_id", "product_id", "origin_id", "warehouse_id"),
    )
    op.create_table(
        "restock_plans",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("warehouse_id", sa.Text(), nullable=False),
        sa.Column("expected_time", sa.BigInteger(), nullable=True),
        sa.Column("expected_quantity", sa.BigInteger(), nullable=False),
        sa.Column("low_stock_below", sa.BigInteger(), nullable=False),
        sa.Column("is_low", sa.Boolean(), nullable=False),
        sa.Column("cross_time", sa.BigInteger(), nullable=True),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("expected_quantity >= 0", name="expected_is_not_negative"),
        sa.CheckConstraint("low_stock_below >= 0", name="mark_is_not_negative"),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"]),
        sa.ForeignKeyConstraint(["warehouse_id"], ["warehouses.warehouse_id"]),
        sa.PrimaryKeyConstraint("product_id", "warehouse_id"),
    )
