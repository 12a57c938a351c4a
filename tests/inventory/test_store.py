"""Catalogue, stock and holds on a real database, one transaction at a time."""

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.chassis import audit as chassis_audit
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.migrations import differences, migrate
from services.chassis.storage.statement import Statement
from services.chassis.testing import FakeClock
from services.inventory import audit, catalog, holds, tables
from services.inventory.catalog import Description, Product
from services.inventory.reservation import Reservation, ReservationClosed, ReservationNotFound, State
from services.inventory.restock import RestockPlan
from services.inventory.returns import NotSold, Return, ReturnedLine
from services.inventory.stock import (
    DEFAULT_WAREHOUSE_ID,
    Line,
    Movement,
    MovementKind,
    OutOfStock,
    Want,
)
from services.inventory.store import Transaction
from services.kernel.clock import to_micros
from services.kernel.errors import DomainError
from services.kernel.money import Money
from tests import databases
from tests.databases import VIOLATIONS, only_sqlite
from tests.inventory.conftest import MIGRATIONS

OTHER_WAREHOUSE_ID = "00000000-0000-4000-8000-00000000000e"
HOLD = timedelta(minutes=15)

Figures = Callable[[], dict[str, dict[str, int]]]


class Shop:
    """Inventory as a test speaks of it."""

    def __init__(self, store: Store[Transaction], clock: FakeClock) -> None:
        self.store = store
        self.clock = clock

    async def product(self, product_id: str, on_hand: int, warehouse_id: str = DEFAULT_WAREHOUSE_ID) -> str:
        made = Product.create(
            product_id=product_id,
            described=Description(f"SKU-{product_id}", product_id),
            price=Money(500, "EUR"),
            at=self.clock.now(),
        )
        await self.store.write(lambda tx: tx.products.save(made))
        await self.count(product_id, on_hand, warehouse_id)
        return product_id

    async def count(self, product_id: str, on_hand: int, warehouse_id: str = DEFAULT_WAREHOUSE_ID) -> None:
        now = self.clock.now()

        def count(tx: Transaction) -> None:
            holds.correct(tx, product_id, warehouse_id, lambda level: level.count(on_hand, at=now), at=now)

        await self.store.write(count)

    async def reserve(self, order_id: str, **wants: int) -> Reservation | DomainError:
        now = self.clock.now()
        lines = tuple(Want(product_id, "", quantity) for product_id, quantity in sorted(wants.items()))
        return await self.store.write(
            lambda tx: holds.reserve(
                tx,
                order_id=order_id,
                reservation_id=f"hold-{order_id}",
                wants=lines,
                expires_at=now + HOLD,
                at=now,
            )
        )

    async def held(self, order_id: str, **wants: int) -> Reservation:
        made = await self.reserve(order_id, **wants)
        assert isinstance(made, Reservation), made
        return made

    async def commit(self, order_id: str) -> Reservation:
        return await self.store.write(lambda tx: holds.commit(tx, order_id=order_id, at=self.clock.now()))

    async def release(self, order_id: str) -> Reservation:
        return await self.store.write(lambda tx: holds.release(tx, order_id=order_id, at=self.clock.now()))

    async def give_back(self, order_id: str, return_id: str, **wants: int) -> Reservation | DomainError:
        lines = tuple(Want(product_id, "", quantity) for product_id, quantity in sorted(wants.items()))
        return await self.store.write(
            lambda tx: holds.give_back(
                tx, order_id=order_id, return_id=return_id, wants=lines, at=self.clock.now()
            )
        )

    async def plan(self, product_id: str, low_stock_below: int) -> RestockPlan:
        made = RestockPlan(
            product_id, DEFAULT_WAREHOUSE_ID, self.clock.now(), low_stock_below=low_stock_below
        )
        return await self.store.write(lambda tx: tx.plans.save(made))

    async def level(self, product_id: str) -> tuple[int, int]:
        """On hand and reserved, in all warehouses together."""
        levels = await self.store.read(lambda tx: tx.stock.levels([product_id]))
        return sum(level.on_hand for level in levels), sum(level.reserved for level in levels)

    async def events(self) -> list[str]:
        rows = await self.store.fetch(sa.select(tables.outbox_rows.c.type).order_by(tables.outbox_rows.c.seq))
        return [row["type"].rpartition(".")[2] for row in rows]


@pytest.fixture
def shop(store: Store[Transaction], clock: FakeClock) -> Shop:
    return Shop(store, clock)


def test_the_migrations_lead_to_the_tables(url: str) -> None:
    assert differences(url, tables.metadata) == []


def test_the_first_migration_makes_the_default_warehouse(url: str) -> None:
    with chassis_audit.reading(url) as connection:
        rows = connection.execute(sa.select(tables.warehouses.c.warehouse_id)).scalars()
        assert list(rows) == [DEFAULT_WAREHOUSE_ID]


class TestProducts:
    async def test_a_product_comes_back_as_it_was_saved(self, shop: Shop) -> None:
        now = shop.clock.now()
        made = Product.create(
            product_id="beans",
            described=Description("B-1", "Beäns", "Good ones", "coffee"),
            price=Money(1250, "EUR"),
            at=now,
        )
        saved = await shop.store.write(lambda tx: tx.products.save(made))
        assert saved.version == 1
        assert await shop.store.read(lambda tx: tx.products.get("beans")) == saved

    async def test_an_article_number_is_taken_once(self, shop: Shop) -> None:
        await shop.product("beans", 1)
        await shop.product("milk", 1)
        milk = await shop.store.read(lambda tx: tx.products.get("milk"))
        renamed = milk.describe(Description("SKU-beans", "Milk"), at=shop.clock.now())
        with pytest.raises(catalog.SkuTaken):
            await shop.store.write(lambda tx: tx.products.save(renamed))

    async def test_who_saves_an_old_version_is_stale(self, shop: Shop) -> None:
        await shop.product("beans", 1)
        old = await shop.store.read(lambda tx: tx.products.get("beans"))
        dearer = old.set_price(Money(600, "EUR"), at=shop.clock.now())
        await shop.store.write(lambda tx: tx.products.save(dearer))
        with pytest.raises(StaleVersion):
            await shop.store.write(lambda tx: tx.products.save(dearer))

    async def test_every_price_is_kept(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 1)
        for price in (600, 700):
            shop.clock.advance(1)
            product = await shop.store.read(lambda tx: tx.products.get("beans"))
            dearer = product.set_price(Money(price, "EUR"), at=shop.clock.now())
            await shop.store.write(partial(_save, dearer))
        rows = await shop.store.fetch(
            sa.select(tables.prices.c.price_minor).order_by(tables.prices.c.product_version)
        )
        assert [row["price_minor"] for row in rows] == [500, 600, 700]
        check_invariants()


class TestReserve:
    async def test_all_lines_or_none(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        await shop.product("milk", 1)
        refusal = await shop.reserve("order", beans=5, milk=2)
        assert isinstance(refusal, OutOfStock)
        assert refusal.metadata == {"product_id": "milk", "requested": "2", "available": "1"}
        assert await shop.level("beans") == (10, 0)
        check_invariants()

    async def test_a_refused_order_stays_refused_when_stock_comes(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 1)
        assert isinstance(await shop.reserve("order", beans=2), OutOfStock)
        await shop.count("beans", 100)
        with pytest.raises(OutOfStock):
            await shop.reserve("order", beans=2)
        with pytest.raises(ReservationClosed):
            await shop.commit("order")
        assert await shop.level("beans") == (100, 0)
        check_invariants()

    async def test_a_product_that_does_not_exist_closes_the_order_too(self, shop: Shop) -> None:
        assert isinstance(await shop.reserve("order", ghost=2), catalog.ProductNotFound)
        await shop.product("ghost", 10)
        with pytest.raises(catalog.ProductNotFound):
            await shop.reserve("order", ghost=2)

    async def test_a_line_is_split_over_warehouses(self, shop: Shop, check_invariants: Figures) -> None:
        await _open_warehouse(shop)
        await shop.product("beans", 3)
        await shop.count("beans", 4, OTHER_WAREHOUSE_ID)
        held = await shop.held("order", beans=6)
        assert {line.warehouse_id: line.quantity for line in held.lines} == {
            OTHER_WAREHOUSE_ID: 4,
            DEFAULT_WAREHOUSE_ID: 2,
        }
        await shop.commit("order")
        assert await shop.level("beans") == (1, 0)
        check_invariants()

    async def test_a_lapsed_hold_of_another_order_does_not_stand_in_the_way(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("slow", beans=10)
        shop.clock.advance(HOLD.total_seconds())
        assert (await shop.held("quick", beans=10)).state is State.RESERVED
        assert await shop.level("beans") == (10, 10)
        assert (await _found(shop, "slow")).state is State.EXPIRED
        check_invariants()

    async def test_more_lapsed_holds_than_a_batch_do_not_either(self, shop: Shop) -> None:
        lapsed = holds.HOLDS_PER_BATCH + 5
        await shop.product("beans", lapsed)
        for number in range(lapsed):
            await shop.held(f"slow-{number}", beans=1)
        shop.clock.advance(HOLD.total_seconds())
        assert (await shop.held("quick", beans=lapsed)).state is State.RESERVED

    async def test_a_lapsed_hold_asked_for_again_is_answered_as_expired(self, shop: Shop) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=10)
        shop.clock.advance(HOLD.total_seconds())
        assert (await shop.held("order", beans=10)).state is State.EXPIRED
        assert await shop.level("beans") == (10, 0)


class TestCommit:
    async def test_goods_leave_the_house_once(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        first, second = await shop.commit("order"), await shop.commit("order")
        assert first == second
        assert await shop.level("beans") == (6, 0)
        check_invariants()

    async def test_an_order_that_never_reserved_has_nothing_to_commit(self, shop: Shop) -> None:
        with pytest.raises(ReservationNotFound):
            await shop.commit("order")

    @pytest.mark.parametrize("swept", [True, False])
    async def test_an_expired_hold_is_taken_again_if_stock_is_left(
        self, shop: Shop, check_invariants: Figures, *, swept: bool
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        shop.clock.advance(HOLD.total_seconds())
        if swept:
            await _expire(shop)
        assert (await shop.commit("order")).state is State.COMMITTED
        assert await shop.level("beans") == (6, 0)
        check_invariants()

    async def test_an_expired_hold_may_be_taken_from_another_warehouse(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await _open_warehouse(shop)
        await shop.product("beans", 4)
        await shop.held("order", beans=4)
        shop.clock.advance(HOLD.total_seconds())
        await _expire(shop)
        await shop.count("beans", 0)
        await shop.count("beans", 4, OTHER_WAREHOUSE_ID)
        assert (await shop.commit("order")).lines == (Line("beans", OTHER_WAREHOUSE_ID, 4),)
        assert (await _found(shop, "order")).lines == (Line("beans", OTHER_WAREHOUSE_ID, 4),)
        check_invariants()

    async def test_an_expired_hold_whose_goods_are_gone_says_so(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("slow", beans=4)
        shop.clock.advance(HOLD.total_seconds())
        await shop.held("quick", beans=8)
        with pytest.raises(OutOfStock):
            await shop.commit("slow")
        assert await shop.level("beans") == (10, 8)
        check_invariants()


class TestRelease:
    async def test_a_hold_comes_back(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        first, second = await shop.release("order"), await shop.release("order")
        assert first == second
        assert first.state is State.RELEASED
        assert await shop.level("beans") == (10, 0)
        check_invariants()

    async def test_a_sale_comes_back(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        await shop.commit("order")
        await shop.release("order")
        await shop.release("order")
        assert await shop.level("beans") == (10, 0)
        check_invariants()

    async def test_a_reserve_that_arrives_after_the_release_is_refused(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        tombstone = await shop.release("order")
        assert (tombstone.id, tombstone.state) == ("", State.RELEASED)
        with pytest.raises(ReservationClosed):
            await shop.reserve("order", beans=1)
        with pytest.raises(ReservationClosed):
            await shop.commit("order")
        assert await shop.level("beans") == (10, 0)
        check_invariants()

    async def test_a_commit_that_arrives_after_an_expired_hold_was_released_is_refused(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=1)
        shop.clock.advance(HOLD.total_seconds())
        await _expire(shop)
        await shop.release("order")
        with pytest.raises(ReservationClosed):
            await shop.commit("order")
        assert await shop.level("beans") == (10, 0)
        check_invariants()


class TestBooks:
    async def test_every_change_is_told_in_order(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        await shop.held("kept", beans=4)
        await shop.commit("kept")
        await shop.held("undone", beans=2)
        await shop.release("undone")
        await shop.release("never")
        await shop.held("slow", beans=1)
        shop.clock.advance(HOLD.total_seconds())
        await _expire(shop)
        assert await shop.events() == [
            "ProductCreated",
            "StockAdjusted",
            "StockReserved",
            "StockCommitted",
            "StockReserved",
            "StockReleased",
            "StockReserved",
            "ReservationExpired",
        ]
        figures = check_invariants()
        assert figures["stock.told"]["facts"] == 7
        assert figures["stock.orders"] == {
            "reserved": 0,
            "committed": 1,
            "released": 2,
            "expired": 1,
            "refused": 0,
            "violations": 0,
        }

    async def test_a_refused_transaction_leaves_no_row_and_no_event(self, shop: Shop) -> None:
        await shop.product("beans", 10)
        before = await shop.events()

        def fail(tx: Transaction) -> None:
            holds.release(tx, order_id="order", at=shop.clock.now())
            raise ReservationNotFound(order_id="order")

        with pytest.raises(ReservationNotFound):
            await shop.store.write(fail)
        assert await shop.events() == before
        assert await shop.store.read(lambda tx: tx.reservations.find("order")) is None

    @pytest.mark.parametrize(("on_hand", "reserved"), [(-11, 0), (0, -1), (0, 11)])
    async def test_the_database_itself_refuses_impossible_stock(
        self, shop: Shop, check_invariants: Figures, on_hand: int, reserved: int
    ) -> None:
        await shop.product("beans", 10)
        wrong = Movement(MovementKind.SET, "beans", DEFAULT_WAREHOUSE_ID, on_hand, reserved, shop.clock.now())
        with pytest.raises(VIOLATIONS):
            await shop.store.write(lambda tx: tx.stock.move([wrong]))
        check_invariants()

    async def test_lapsed_holds_do_not_stand_in_the_way_of_counting(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=8)
        shop.clock.advance(HOLD.total_seconds())
        await shop.count("beans", 2)
        assert await shop.level("beans") == (2, 0)
        check_invariants()

    async def test_fifty_orders_for_ten_pieces_get_ten(self, shop: Shop, check_invariants: Figures) -> None:
        await shop.product("beans", 10)
        outcomes = await asyncio.gather(*(shop.reserve(f"order-{number}", beans=1) for number in range(50)))
        assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 10
        assert sum(isinstance(outcome, OutOfStock) for outcome in outcomes) == 40
        assert await shop.level("beans") == (10, 10)
        check_invariants()

    async def test_who_holds_and_who_bought_can_be_asked_across_services(self, shop: Shop, url: str) -> None:
        await shop.product("beans", 10)
        await shop.held("holding", beans=2)
        await shop.held("sold", beans=3)
        await shop.commit("sold")
        with chassis_audit.reading(url) as connection:
            assert audit.active_holds(connection) == [audit.Hold("holding", {"beans": 2})]
            assert audit.sales(connection) == [audit.Hold("sold", {"beans": 3})]


class TestAuditsFind:
    """An audit that never complains proves nothing."""

    @pytest.mark.parametrize(
        ("damage", "name"),
        [
            ("UPDATE stock_levels SET on_hand = on_hand + 1", "stock.ledger"),
            ("UPDATE stock_levels SET reserved = reserved - 1", "stock.reserved_is_held"),
            ("UPDATE reservations SET state = 'committed'", "stock.orders"),
            ("UPDATE reservation_lines SET quantity = quantity + 1", "stock.reserved_is_held"),
            ("DELETE FROM stock_movements WHERE kind = 'reserve'", "stock.orders"),
            ("DELETE FROM outbox WHERE type LIKE '%StockReserved'", "stock.told"),
            ("UPDATE prices SET price_minor = 1", "catalog.prices"),
            ("UPDATE restock_plans SET is_low = TRUE", "stock.low"),
            ("UPDATE restock_plans SET cross_time = update_time", "stock.told"),
            ("UPDATE reservation_lines SET returned = 1", "stock.returns"),
            pytest.param(
                "PRAGMA ignore_check_constraints = ON; UPDATE stock_levels SET reserved = 11",
                "stock.possible",
                marks=only_sqlite,
            ),
        ],
    )
    async def test_what_is_wrong(self, shop: Shop, url: str, damage: str, name: str) -> None:
        await shop.product("beans", 10)
        await shop.plan("beans", low_stock_below=5)
        await shop.held("order", beans=4)
        databases.damage(url, damage)
        with chassis_audit.reading(url) as reading:
            found = {check.name: check.find(reading) for check in audit.CHECKS}
        assert not found[name].holds
        assert found[name].examples
        assert found[name].figures["violations"] > 0

    @pytest.mark.parametrize(
        ("damage", "name"),
        [
            ("DELETE FROM return_lines", "stock.returns"),
            ("UPDATE return_lines SET quantity = quantity + 3", "stock.returns"),
            ("UPDATE return_lines SET product_id = 'milk'", "stock.returns"),
            ("UPDATE return_lines SET warehouse_id = 'elsewhere'", "stock.orders"),
            ("UPDATE reservation_lines SET returned = returned - 1", "stock.returns"),
            ("DELETE FROM outbox WHERE type LIKE '%StockReturned'", "stock.told"),
            ("DELETE FROM stock_movements WHERE kind = 'return'", "stock.orders"),
        ],
    )
    async def test_what_is_wrong_with_returns(
        self, shop: Shop, url: str, check_invariants: Figures, damage: str, name: str
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        await shop.commit("order")
        await shop.give_back("order", "some", beans=3)
        check_invariants()
        databases.damage(url, damage)
        with chassis_audit.reading(url) as reading:
            found = {check.name: check.find(reading) for check in audit.CHECKS}
        assert not found[name].holds
        assert found[name].examples


class TestReturns:
    async def test_a_return_comes_back_as_it_was_saved(self, shop: Shop) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        refusal = await shop.give_back("order", "early", beans=1)
        assert isinstance(refusal, NotSold)
        await shop.commit("order")
        await shop.give_back("order", "some", beans=3)
        early, some = (
            await shop.store.read(lambda tx: tx.returns.find("order", "early")),
            await shop.store.read(lambda tx: tx.returns.find("order", "some")),
        )
        assert early is not None
        assert isinstance(early.refusal, NotSold)
        assert early.refusal.metadata == refusal.metadata
        line = ReturnedLine("beans", DEFAULT_WAREHOUSE_ID, DEFAULT_WAREHOUSE_ID, 3)
        assert some == Return("order", "some", (Want("beans", "", 3),), shop.clock.now(), (line,))

    async def test_the_database_itself_refuses_more_than_was_sold(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        await shop.product("beans", 10)
        await shop.held("order", beans=4)
        sold = await shop.commit("order")
        line = Line("beans", DEFAULT_WAREHOUSE_ID, 5)
        wrong = sold.give_back((line,), (line,), "too many", at=shop.clock.now())
        with pytest.raises(VIOLATIONS):
            await shop.store.write(lambda tx: tx.reservations.save(wrong))
        check_invariants()


def test_what_an_older_program_left_is_still_there_after_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "inventory.db"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "shop_before_0002.sql").read_text(encoding="utf-8"))
    connection.close()
    url = f"sqlite:///{path}"
    migrate(url, MIGRATIONS)
    assert differences(url, tables.metadata) == []
    with chassis_audit.reading(url) as reading:
        findings = {check.name: check.find(reading) for check in audit.CHECKS}
        assert {name for name, finding in findings.items() if not finding.holds} <= {"stock.told"}
        assert findings["stock.ledger"].figures["movements"] == 4
        assert audit.sales(reading) == [audit.Hold("sold", {"beans": 3})]
        assert audit.active_holds(reading) == [audit.Hold("holding", {"beans": 2})]


def _save(product: Product, tx: Transaction) -> None:
    tx.products.save(product)


async def _found(shop: Shop, order_id: str) -> Reservation:
    found = await shop.store.read(lambda tx: tx.reservations.find(order_id))
    assert found is not None
    return found


async def _expire(shop: Shop) -> None:
    assert await shop.store.write(lambda tx: holds.expire_lapsed(tx, at=shop.clock.now())) > 0


async def _open_warehouse(shop: Shop) -> None:
    now = to_micros(shop.clock.now())
    insert = sa.insert(tables.warehouses).values(
        warehouse_id=OTHER_WAREHOUSE_ID, name="Other", create_time=now
    )
    await shop.store.write(lambda tx: tx.session.run(Statement(insert)))
