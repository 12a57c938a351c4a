"""Whatever is done to stock, in whatever order and at once: the books stay true."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from bodega.inventory.v1 import inventory_events_pb2 as pb
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.chassis import audit as chassis_audit
from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock, SequentialIds
from services.inventory import audit, holds, tables
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, State
from services.inventory.restock import RestockPlan
from services.inventory.stock import DEFAULT_WAREHOUSE_ID, StockLevel, Want, summed
from services.inventory.store import Transaction
from services.inventory.warehouse import Warehouse
from services.kernel.errors import DomainError
from services.kernel.money import Money
from tests.databases import Databases, drawn

PRODUCTS = ("beans", "milk")
WAREHOUSES = (DEFAULT_WAREHOUSE_ID, "near", "far")
HOLD_S = 10.0


@dataclass(frozen=True)
class Reserve:
    order: int
    wants: tuple[Want, ...]


@dataclass(frozen=True)
class Commit:
    order: int


@dataclass(frozen=True)
class Release:
    order: int


@dataclass(frozen=True)
class GiveBack:
    order: int
    return_id: int
    wants: tuple[Want, ...]


@dataclass(frozen=True)
class Count:
    product: str
    warehouse: str
    on_hand: int


@dataclass(frozen=True)
class Adjust:
    product: str
    warehouse: str
    delta: int


@dataclass(frozen=True)
class Plan:
    product: str
    warehouse: str
    low_stock_below: int


@dataclass(frozen=True)
class Sweep:
    pass


Action = Reserve | Commit | Release | GiveBack | Count | Adjust | Plan | Sweep

ORDERS = 5
SOLD: Final[tuple[Action, ...]] = (
    Reserve(0, (Want("beans", "", 4), Want("milk", "", 3))),
    Commit(0),
    Reserve(1, (Want("beans", "", 3),)),
    Commit(1),
)
"""What has happened before: else chance would hardly ever give anything back that was bought."""

_orders = st.integers(0, ORDERS - 1)
_products = st.sampled_from(PRODUCTS)
_warehouses = st.sampled_from(WAREHOUSES)


def _wants(quantity_max: int) -> st.SearchStrategy[tuple[Want, ...]]:
    """Mostly from any warehouse, else from one."""
    want = st.builds(
        Want, _products, st.sampled_from(["", "", "", *WAREHOUSES]), st.integers(1, quantity_max)
    )
    return st.lists(want, min_size=1, max_size=3).map(summed)


_actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Reserve, _orders, _wants(4)),
    st.builds(Commit, _orders),
    st.builds(Release, _orders),
    st.builds(GiveBack, _orders, st.integers(0, 5), _wants(2)),
    st.builds(Count, _products, _warehouses, st.integers(0, 5)),
    st.builds(Adjust, _products, _warehouses, st.integers(-4, 4).filter(bool)),
    st.builds(Plan, _products, _warehouses, st.integers(0, 4)),
    st.just(Sweep()),
)
# Each round's actions run at once; then some time passes.
_rounds = st.lists(
    st.tuples(st.lists(_actions, min_size=1, max_size=8), st.sampled_from([0.0, 1.0, HOLD_S])), max_size=8
)


@settings(
    max_examples=drawn(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(rounds=_rounds)
def test_the_books_stay_true(
    databases: Databases, url: str, rounds: list[tuple[list[Action], float]]
) -> None:
    with databases.copy(url) as passing:
        asyncio.run(_play(passing, rounds))


async def _play(url: str, rounds: list[tuple[list[Action], float]]) -> None:
    clock, ids = FakeClock(datetime.now(UTC)), SequentialIds()
    store = Store(
        url,
        open_transaction=lambda session: Transaction(session, ids, Feed()),
        clock=clock,
        secret=b"for tests",
    )
    async with store:
        await store.write(lambda tx: _stock_up(tx, clock.now()))
        for action in SOLD:
            assert isinstance(await _act(store, action, clock.now()), Reservation)
        closed: set[int] = set()
        for actions, seconds in rounds:
            outcomes = await asyncio.gather(
                *(_act(store, action, clock.now()) for action in actions), return_exceptions=True
            )
            for action, outcome in zip(actions, outcomes, strict=True):
                event(f"{type(action).__name__} → {type(outcome).__name__}")
                if isinstance(outcome, BaseException) and not isinstance(outcome, DomainError):
                    raise outcome
                if isinstance(action, Reserve | Commit) and action.order in closed:
                    assert isinstance(outcome, DomainError), (action, outcome)
            closed |= {action.order for action in actions if isinstance(action, Release)}
            _check(url)
            _check_crossings(url)
            clock.advance(seconds)
        for order in range(ORDERS):
            await _act(store, Release(order), clock.now())
        figures = _check(url)
        assert figures["stock.possible"]["reserved"] == 0
        assert figures["stock.orders"]["committed"] == 0
        assert figures["stock.possible"]["on_hand"] == _counted_and_corrected(url), "all came back"


def _stock_up(tx: Transaction, now: datetime) -> None:
    for preference, warehouse_id in enumerate(WAREHOUSES[1:], start=1):
        tx.warehouses.add(Warehouse(warehouse_id, warehouse_id, preference, now))
    for product_id in PRODUCTS:
        described = Description(product_id, product_id)
        tx.products.save(
            Product.create(product_id=product_id, described=described, price=Money(1, "EUR"), at=now)
        )
        for warehouse_id, on_hand in zip(WAREHOUSES, (5, 3, 6), strict=True):
            tx.stock.save(tx.stock.level(product_id, warehouse_id, at=now).count(on_hand, at=now))


async def _act(
    store: Store[Transaction], action: Action, now: datetime
) -> Reservation | DomainError | StockLevel | RestockPlan | int:
    return await store.write(lambda tx: _do(tx, action, now))


def _do(
    tx: Transaction, action: Action, now: datetime
) -> Reservation | DomainError | StockLevel | RestockPlan | int:
    match action:
        case Reserve(order, wants):
            return holds.reserve(
                tx,
                order_id=str(order),
                reservation_id=f"hold-{order}",
                wants=wants,
                expires_at=now + timedelta(seconds=HOLD_S),
                at=now,
            )
        case Commit(order):
            sold = holds.commit(tx, order_id=str(order), at=now)
            assert sold.state is State.COMMITTED
            return sold
        case Release(order):
            released = holds.release(tx, order_id=str(order), at=now)
            assert released.state is State.RELEASED
            return released
        case GiveBack(order, return_id, wants):
            return holds.give_back(tx, order_id=str(order), return_id=str(return_id), wants=wants, at=now)
        case Count(product, warehouse, on_hand):
            return holds.correct(tx, product, warehouse, lambda level: level.count(on_hand, at=now), at=now)
        case Adjust(product, warehouse, delta):
            return holds.correct(
                tx, product, warehouse, lambda level: level.adjust(delta, reason="", at=now), at=now
            )
        case Plan(product, warehouse, mark):
            return _plan(tx, product, warehouse, mark, now)
        case Sweep():
            return holds.expire_lapsed(tx, at=now)


def _plan(tx: Transaction, product: str, warehouse: str, mark: int, now: datetime) -> RestockPlan:
    before = tx.plans.find(product, warehouse) or RestockPlan(product, warehouse, now)
    changed = before.change(expected_at=None, expected_quantity=0, low_stock_below=mark, at=now)
    return tx.plans.save(changed.observe(tx.stock.level(product, warehouse, at=now).available, at=now))


def _check_crossings(url: str) -> None:
    """Of each product in each warehouse, low and replenished are told in turns, low first."""
    with chassis_audit.reading(url) as connection:
        rows = connection.execute(sa.select(tables.outbox_rows).order_by(tables.outbox_rows.c.seq)).all()
    low: dict[tuple[str, str], bool] = {}
    for row in rows:
        kind = row.type.rpartition(".")[2]
        if kind in ("StockLow", "StockReplenished"):
            told = getattr(pb, kind).FromString(row.body)
            key = (told.product_id, told.warehouse_id)
            assert low.get(key, False) == (kind == "StockReplenished"), f"{kind} of {key} told twice"
            low[key] = kind == "StockLow"


def _counted_and_corrected(url: str) -> int:
    """What there is if everything else was undone."""
    movements = tables.stock_movements
    with chassis_audit.reading(url) as connection:
        found = connection.execute(
            sa.select(sa.func.sum(movements.c.delta_on_hand)).where(movements.c.order_id == "")
        )
        return int(found.scalar_one())


def _check(url: str) -> dict[str, dict[str, int]]:
    with chassis_audit.reading(url) as connection:
        findings = [check.find(connection) for check in audit.CHECKS]
    assert [finding for finding in findings if not finding.holds] == []
    return {finding.name: finding.figures for finding in findings}
