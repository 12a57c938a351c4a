"""Reading the movement ledger, newest first. Pure; `store.fetch` runs the query."""

from typing import Any

import sqlalchemy as sa

from services.chassis.paging import Cursor
from services.chassis.storage.session import Row
from services.inventory.stock import Movement, MovementKind
from services.inventory.tables import stock_movements
from services.kernel.clock import from_micros


def page(product_id: str, warehouse_id: str, *, after: Cursor | None, rows_max: int) -> sa.Select[Any]:
    """Movements of a product (in one warehouse, if it is named) that are older than a place."""
    found = sa.select(stock_movements).where(stock_movements.c.product_id == product_id)
    if warehouse_id:
        found = found.where(stock_movements.c.warehouse_id == warehouse_id)
    if after is not None:
        found = found.where(stock_movements.c.sequence < after[0])
    return found.order_by(sa.desc(stock_movements.c.sequence)).limit(rows_max)


def place(row: sa.RowMapping) -> Cursor:
    """Where a movement stands in that order."""
    return [row["sequence"]]


def from_row(row: Row) -> Movement:
    """The movement that a row of `stock_movements` holds."""
    return Movement(
        kind=MovementKind(row["kind"]),
        product_id=row["product_id"],
        warehouse_id=row["warehouse_id"],
        delta_on_hand=row["delta_on_hand"],
        delta_reserved=row["delta_reserved"],
        at=from_micros(row["create_time"]),
        order_id=row["order_id"],
        reason=row["reason"],
        sequence=row["sequence"],
    )
