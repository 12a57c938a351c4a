"""Stock levels and the ledger that explains them, in and out of a transaction."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from services.chassis import context
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.inventory.announcements import Announcements
from services.inventory.stock import Movement, StockLevel
from services.inventory.tables import stock_levels, stock_movements
from services.kernel.clock import from_micros, to_micros

_LEVELS = Statement(
    sa.select(stock_levels)
    .where(stock_levels.c.product_id.in_(sa.bindparam("product_ids", expanding=True)))
    .order_by(stock_levels.c.product_id, stock_levels.c.warehouse_id)
)
_LEVEL = Statement(
    sa.select(stock_levels).where(
        stock_levels.c.product_id == sa.bindparam("product_id"),
        stock_levels.c.warehouse_id == sa.bindparam("warehouse_id"),
    )
)
_BEGIN_LEVEL = Statement(
    insert(stock_levels)
    .values({column.name: sa.bindparam(column.name) for column in stock_levels.columns})
    .on_conflict_do_nothing(index_elements=["product_id", "warehouse_id"])
)
# By difference, not by value: whatever was read before, no movement can undo another.
_MOVE = Statement(
    sa.update(stock_levels)
    .where(
        stock_levels.c.product_id == sa.bindparam("of_product_id"),
        stock_levels.c.warehouse_id == sa.bindparam("of_warehouse_id"),
    )
    .values(
        on_hand=stock_levels.c.on_hand + sa.bindparam("delta_on_hand", type_=sa.BigInteger),
        reserved=stock_levels.c.reserved + sa.bindparam("delta_reserved", type_=sa.BigInteger),
        update_time=sa.bindparam("new_update_time"),
    )
)
_NOTED = [column.name for column in stock_movements.columns if column.name != "sequence"]
_NOTE = Statement(sa.insert(stock_movements).values({name: sa.bindparam(name) for name in _NOTED}).inline())


class Stock:
    """Levels and ledger in one transaction; neither changes without the other."""

    def __init__(self, session: Session, announcements: Announcements) -> None:
        self._session = session
        self._announcements = announcements

    def levels(self, product_ids: Iterable[str]) -> list[StockLevel]:
        """Every level of these products, in every warehouse that ever had any."""
        return [_level(row) for row in self._session.all(_LEVELS, product_ids=sorted(product_ids))]

    def level(self, product_id: str, warehouse_id: str, *, at: datetime) -> StockLevel:
        """The level of a product in a warehouse; an empty one of this time if there never was any."""
        row = self._session.one(_LEVEL, product_id=product_id, warehouse_id=warehouse_id)
        return _level(row) if row else StockLevel(product_id, warehouse_id, 0, 0, at)

    def save(self, level: StockLevel) -> StockLevel:
        """Writes what moved, with its events."""
        self._session.run(
            _BEGIN_LEVEL,
            product_id=level.product_id,
            warehouse_id=level.warehouse_id,
            on_hand=0,
            reserved=0,
            update_time=to_micros(level.updated_at),
        )
        self.move(level.pending_movements)
        self._announcements.tell(level.pending_events)
        return replace(level, pending_movements=(), pending_events=())

    def move(self, movements: Iterable[Movement]) -> None:
        """Applies movements to their levels and notes them in the ledger.

        A movement that would make a level impossible ends the transaction with the driver's integrity error:
        the domain must not let it come so far.
        """
        current = context.current()
        trace_id = current.trace.trace_id if current else ""
        for movement in movements:
            self._apply(movement)
            self._note(movement, trace_id)

    def _apply(self, movement: Movement) -> None:
        touched = self._session.run(
            _MOVE,
            of_product_id=movement.product_id,
            of_warehouse_id=movement.warehouse_id,
            delta_on_hand=movement.delta_on_hand,
            delta_reserved=movement.delta_reserved,
            new_update_time=to_micros(movement.at),
        )
        assert touched == 1, movement

    def _note(self, movement: Movement, trace_id: str) -> None:
        self._session.run(
            _NOTE,
            product_id=movement.product_id,
            warehouse_id=movement.warehouse_id,
            kind=str(movement.kind),
            delta_on_hand=movement.delta_on_hand,
            delta_reserved=movement.delta_reserved,
            order_id=movement.order_id,
            trace_id=trace_id,
            create_time=to_micros(movement.at),
        )


def _level(row: Row) -> StockLevel:
    return StockLevel(
        product_id=row["product_id"],
        warehouse_id=row["warehouse_id"],
        on_hand=row["on_hand"],
        reserved=row["reserved"],
        updated_at=from_micros(row["update_time"]),
    )
