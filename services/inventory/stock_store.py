"""Stock levels and the ledger that explains them, in and out of a transaction."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from services.chassis import context
from services.chassis.feed import Feed
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.inventory.announcements import Announcements
from services.inventory.restock_store import RestockPlans
from services.inventory.stock import Movement, StockLevel
from services.inventory.tables import stock_levels, stock_movements, warehouses
from services.kernel.clock import from_micros, to_micros

_SELECT = sa.select(stock_levels, warehouses.c.preference).join(
    warehouses, warehouses.c.warehouse_id == stock_levels.c.warehouse_id
)
_LEVELS = Statement(
    _SELECT.where(stock_levels.c.product_id.in_(sa.bindparam("product_ids", expanding=True))).order_by(
        stock_levels.c.product_id, stock_levels.c.warehouse_id
    )
)
_LEVEL = Statement(
    _SELECT.where(
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
_NEWEST = Statement(
    sa.select(sa.func.max(stock_movements.c.sequence).label("sequence")).where(
        stock_movements.c.product_id == sa.bindparam("product_id")
    )
)
_NOTE = Statement(sa.insert(stock_movements).values({name: sa.bindparam(name) for name in _NOTED}).inline())


class Stock:
    """Levels and ledger in one transaction; neither changes without the other."""

    def __init__(
        self, session: Session, announcements: Announcements, plans: RestockPlans, feed: Feed
    ) -> None:
        self._session = session
        self._announcements = announcements
        self._plans = plans
        self._feed = feed

    def levels(self, product_ids: Iterable[str]) -> list[StockLevel]:
        """Every level of these products, in every warehouse that ever had any."""
        return [_level(row) for row in self._session.all(_LEVELS, product_ids=sorted(product_ids))]

    def level(self, product_id: str, warehouse_id: str, *, at: datetime) -> StockLevel:
        """The level of a product in a warehouse; an empty one of this time if there never was any."""
        row = self._session.one(_LEVEL, product_id=product_id, warehouse_id=warehouse_id)
        return _level(row) if row else StockLevel(product_id, warehouse_id, 0, 0, at)

    def version(self, product_id: str) -> int:
        """The number of the product's newest movement; 0 if it has none."""
        row = self._session.one(_NEWEST, product_id=product_id)
        return row["sequence"] or 0 if row else 0

    def save(self, level: StockLevel) -> StockLevel:
        """Writes what moved, with its events."""
        self._begin(level.product_id, level.warehouse_id, level.updated_at)
        self._announcements.tell(level.pending_events)
        self.move(level.pending_movements)
        return replace(level, pending_movements=(), pending_events=())

    def move(self, movements: Iterable[Movement]) -> None:
        """Applies movements to their levels and notes them in the ledger; tells of marks that were crossed.

        A movement that would make a level impossible ends the transaction with the driver's integrity error:
        the domain must not let it come so far.
        """
        current = context.current()
        trace_id = current.trace.trace_id if current else ""
        touched: dict[tuple[str, str], datetime] = {}
        for movement in movements:
            self._apply(movement)
            self._note(movement, trace_id)
            touched[movement.product_id, movement.warehouse_id] = movement.at
        self._plans.observe(touched)
        for product_id in {product_id for product_id, _ in touched}:
            self._session.after_commit(partial(self._feed.moved, product_id))

    def _begin(self, product_id: str, warehouse_id: str, at: datetime) -> None:
        """Makes an empty level where there is none."""
        self._session.run(
            _BEGIN_LEVEL,
            product_id=product_id,
            warehouse_id=warehouse_id,
            on_hand=0,
            reserved=0,
            update_time=to_micros(at),
        )

    def _apply(self, movement: Movement) -> None:
        if not self._changed(movement):
            # Only goods that come back can come to where there never were any.
            self._begin(movement.product_id, movement.warehouse_id, movement.at)
            touched = self._changed(movement)
            assert touched == 1, movement

    def _changed(self, movement: Movement) -> int:
        return self._session.run(
            _MOVE,
            of_product_id=movement.product_id,
            of_warehouse_id=movement.warehouse_id,
            delta_on_hand=movement.delta_on_hand,
            delta_reserved=movement.delta_reserved,
            new_update_time=to_micros(movement.at),
        )

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
            reason=movement.reason,
        )


def _level(row: Row) -> StockLevel:
    return StockLevel(
        product_id=row["product_id"],
        warehouse_id=row["warehouse_id"],
        on_hand=row["on_hand"],
        reserved=row["reserved"],
        updated_at=from_micros(row["update_time"]),
        preference=row["preference"],
    )
