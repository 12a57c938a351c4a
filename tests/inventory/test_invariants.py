"""Whatever is done to stock, in whatever order and at once: the books stay true."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.chassis import audit as chassis_audit
from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock, SequentialIds
from services.inventory import audit, holds
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, State
from services.inventory.stock import DEFAULT_WAREHOUSE_ID, Want
from services.inventory.store import Transaction
from services.kernel.errors import DomainError
from services.kernel.money import Money

MIGRATIONS = Path(__file__).parents[2] / "services" / "inventory" / "migrations"
PRODUCTS = ("beans", "milk")
HOLD_S = 10.0


@dataclass(frozen=True)
class Reserve:
    order: int
    wants: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Commit:
    order: int


@dataclass(frozen=True)
class Release:
    order: int


@dataclass(frozen=True)
class Count:
    product: str
    on_hand: int


@dataclass(frozen=True)
class Sweep:
    pass


Action = Reserve | Commit | Release | Count | Sweep

_orders = st.integers(0, 3)
_products = st.sampled_from(PRODUCTS)
_actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(
        Reserve, _orders, st.lists(st.tuples(_products, st.integers(1, 4)), min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Commit, _orders),
    st.builds(Release, _orders),
    st.builds(Count, _products, st.integers(0, 8)),
    st.just(Sweep()),
)
# Each round's actions run at once; then some time passes.
_rounds = st.lists(
    st.tuples(st.lists(_actions, min_size=1, max_size=8), st.sampled_from([0.0, 1.0, HOLD_S])), max_size=8
)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A migrated database to copy: migrating anew for each example would be most of the time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        migrate(f"sqlite:///{path}", MIGRATIONS)
        yield path


@settings(
    max_examples=60,
    deadline=None,  # fsyncs take what they take
    suppress_health_check=[HealthCheck.too_slow],
)
@given(rounds=_rounds)
def test_the_books_stay_true(template: Path, rounds: list[tuple[list[Action], float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, Path(folder) / "inventory.db")
        asyncio.run(_play(f"sqlite:///{path}", rounds))


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
            clock.advance(seconds)
        for order in range(4):
            await _act(store, Release(order), clock.now())
        figures = _check(url)
        assert figures["stock.possible"]["reserved"] == 0
        assert figures["stock.orders"]["committed"] == 0


def _stock_up(tx: Transaction, now: datetime) -> None:
    for product_id in PRODUCTS:
        described = Description(product_id, product_id)
        tx.products.save(
            Product.create(product_id=product_id, described=described, price=Money(1, "EUR"), at=now)
        )
        tx.stock.save(tx.stock.level(product_id, DEFAULT_WAREHOUSE_ID, at=now).count(6, at=now))


async def _act(
    store: Store[Transaction], action: Action, now: datetime
) -> Reservation | DomainError | int | None:
    match action:
        case Reserve(order, wants):
            return await store.write(lambda tx: _reserve(tx, order, wants, now))
        case Commit(order):
            sold = await store.write(lambda tx: holds.commit(tx, order_id=str(order), at=now))
            assert sold.state is State.COMMITTED
            return sold
        case Release(order):
            released = await store.write(lambda tx: holds.release(tx, order_id=str(order), at=now))
            assert released.state is State.RELEASED
            return released
        case Count(product, on_hand):
            return await store.write(lambda tx: _count(tx, product, on_hand, now))
        case Sweep():
            return await store.write(lambda tx: holds.expire_lapsed(tx, at=now))


def _reserve(
    tx: Transaction, order: int, wants: tuple[tuple[str, int], ...], now: datetime
) -> Reservation | DomainError:
    totals = Counter[str]()
    for product_id, quantity in wants:
        totals[product_id] += quantity
    return holds.reserve(
        tx,
        order_id=str(order),
        reservation_id=f"hold-{order}",
        wants=tuple(Want(product_id, "", quantity) for product_id, quantity in sorted(totals.items())),
        expires_at=now + timedelta(seconds=HOLD_S),
        at=now,
    )


def _count(tx: Transaction, product_id: str, on_hand: int, now: datetime) -> None:
    holds.correct(tx, product_id, DEFAULT_WAREHOUSE_ID, lambda level: level.count(on_hand, at=now), at=now)


def _check(url: str) -> dict[str, dict[str, int]]:
    with chassis_audit.reading(url) as connection:
        findings = [check.find(connection) for check in audit.CHECKS]
    assert [finding for finding in findings if not finding.holds] == []
    return {finding.name: finding.figures for finding in findings}
