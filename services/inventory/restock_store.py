"""Restock plans, in and out of a transaction."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.inventory.announcements import Announcements
from services.inventory.restock import RestockPlan
from services.inventory.tables import restock_plans, stock_levels
from services.kernel.clock import from_micros, to_micros

_KEY: Final = ("product_id", "warehouse_id")
_THIS: Final = sa.and_(*(restock_plans.c[name] == sa.bindparam(name) for name in _KEY))

_FIND = Statement(sa.select(restock_plans).where(_THIS))
# Asked at every movement, and nearly always answered with nothing: so one question for plans and levels.
_FIND_WITH_LEVELS = Statement(
    sa.select(restock_plans, (stock_levels.c.on_hand - stock_levels.c.reserved).label("available"))
    .join(stock_levels, sa.and_(*(stock_levels.c[name] == restock_plans.c[name] for name in _KEY)))
    .where(restock_plans.c.product_id.in_(sa.bindparam("product_ids", expanding=True)))
    .order_by(restock_plans.c.product_id, restock_plans.c.warehouse_id)
)
_PUT = insert(restock_plans).values(
    {column.name: sa.bindparam(column.name) for column in restock_plans.columns}
)
_SAVE = Statement(
    _PUT.on_conflict_do_update(
        index_elements=_KEY,
        set_={
            column.name: _PUT.excluded[column.name]
            for column in restock_plans.columns
            if column.name not in _KEY
        },
    )
)
_EXPECTED = Statement(
    sa.select(sa.func.min(restock_plans.c.expected_time).label("expected_time")).where(
        restock_plans.c.product_id == sa.bindparam("product_id"),
        sa.bindparam("warehouse_id", type_=sa.Text).in_(["", restock_plans.c.warehouse_id]),
        restock_plans.c.expected_time > sa.bindparam("after", type_=sa.BigInteger),
    )
)


class RestockPlans:
    """What is planned, in one transaction."""

    def __init__(self, session: Session, announcements: Announcements) -> None:
        self._session = session
        self._announcements = announcements

    def find(self, product_id: str, warehouse_id: str) -> RestockPlan | None:
        row = self._session.one(_FIND, product_id=product_id, warehouse_id=warehouse_id)
        return _plan(row) if row else None

    def save(self, plan: RestockPlan) -> RestockPlan:
        """Writes the plan with its events."""
        self._session.run(_SAVE, **_row(plan))
        self._announcements.tell(plan.pending_events)
        return replace(plan, pending_events=())

    def observe(self, touched: Mapping[tuple[str, str], datetime]) -> None:
        """Tells where stock has crossed the mark of its plan, of products and warehouses touched when."""
        product_ids = list({product_id for product_id, _ in touched})
        for row in self._session.all(_FIND_WITH_LEVELS, product_ids=product_ids) if touched else ():
            at = touched.get((row["product_id"], row["warehouse_id"]))
            if at is None:
                continue
            plan = _plan(row)
            observed = plan.observe(row["available"], at=at)
            if observed is not plan:
                self.save(observed)

    def next_expected(self, product_id: str, warehouse_id: str, *, after: datetime) -> datetime | None:
        """When more of a product is expected next: in this warehouse, or (if that is empty) in any."""
        row = self._session.one(
            _EXPECTED, product_id=product_id, warehouse_id=warehouse_id, after=to_micros(after)
        )
        return _time(row["expected_time"]) if row else None


def _plan(row: Row) -> RestockPlan:
    return RestockPlan(
        product_id=row["product_id"],
        warehouse_id=row["warehouse_id"],
        updated_at=from_micros(row["update_time"]),
        expected_at=_time(row["expected_time"]),
        expected_quantity=row["expected_quantity"],
        low_stock_below=row["low_stock_below"],
        is_low=bool(row["is_low"]),
        crossed_at=_time(row["cross_time"]),
    )


def _row(plan: RestockPlan) -> dict[str, Any]:
    return {
        "product_id": plan.product_id,
        "warehouse_id": plan.warehouse_id,
        "expected_time": _micros(plan.expected_at),
        "expected_quantity": plan.expected_quantity,
        "low_stock_below": plan.low_stock_below,
        "is_low": plan.is_low,
        "cross_time": _micros(plan.crossed_at),
        "update_time": to_micros(plan.updated_at),
    }


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)
