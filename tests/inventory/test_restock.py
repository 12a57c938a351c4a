"""When more is expected, and who is told that stock runs low; over a real server."""

from datetime import timedelta

import pytest
from bodega.inventory.v1 import inventory_events_pb2 as events
from bodega.inventory.v1 import inventory_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.inventory import holds
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from services.inventory.tables import outbox_rows
from tests.inventory.shop import INVALID, NOBODY, NOT_FOUND, Figures, Shop, order, refused


def after(shop: Shop, seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(shop.clock.now() + timedelta(seconds=seconds))
    return made


async def crossings(shop: Shop) -> list[str]:
    return await shop.told("StockLow", "StockReplenished")


class TestExpected:
    async def test_the_earliest_that_is_still_to_come_is_told(self, shop: Shop) -> None:
        near, far = await shop.warehouse("Near"), await shop.warehouse("Far")
        beans = await shop.product("B-1", on_hand=1)
        await shop.plan(beans, expected_time=after(shop, -1))
        await shop.plan(beans, near, expected_time=after(shop, 20), expected_quantity=5)
        await shop.plan(beans, far, expected_time=after(shop, 10))
        assert (await shop.available(beans, 2)).estimated_restock_time == after(shop, 10)
        shop.clock.advance(10)
        assert (await shop.available(beans, 2)).estimated_restock_time == after(shop, 10)
        shop.clock.advance(10)
        assert not (await shop.available(beans, 2)).HasField("estimated_restock_time")

    async def test_only_of_the_warehouse_asked_about(self, shop: Shop) -> None:
        near, far = await shop.warehouse("Near"), await shop.warehouse("Far")
        beans = await shop.product("B-1")
        await shop.plan(beans, near, expected_time=after(shop, 20))
        for warehouse_id, told in ((near, True), (far, False)):
            reply = await shop.inventory.CheckAvailability(
                pb.CheckAvailabilityRequest(product_id=beans.product_id, warehouse_id=warehouse_id)
            )
            assert reply.HasField("estimated_restock_time") == told

    async def test_not_of_what_is_there_nor_of_another_product(self, shop: Shop) -> None:
        beans, milk = await shop.product("B-1", on_hand=1), await shop.product("M-1")
        await shop.plan(beans, expected_time=after(shop, 10))
        assert not (await shop.available(beans, 1)).HasField("estimated_restock_time")
        assert not (await shop.available(milk, 1)).HasField("estimated_restock_time")

    async def test_a_plan_is_replaced_as_a_whole(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        first = await shop.plan(
            beans, expected_time=after(shop, 10), expected_quantity=5, low_stock_below=2, request_id="one"
        )
        assert first.expected_time == after(shop, 10)
        assert (first.expected_quantity, first.low_stock_below) == (5, 2)
        shop.clock.advance(1)
        second = await shop.plan(beans, low_stock_below=3)
        assert not second.HasField("expected_time")
        assert (second.expected_quantity, second.low_stock_below) == (0, 3)
        assert second.update_time.ToDatetime() > first.update_time.ToDatetime()
        assert not (await shop.available(beans)).HasField("estimated_restock_time")

    async def test_where_there_is_nothing(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        await refused(shop.plan(beans, NOBODY), NOT_FOUND, "WAREHOUSE_NOT_FOUND")
        await refused(shop.plan(pb.Product(product_id=NOBODY)), NOT_FOUND, "PRODUCT_NOT_FOUND")

    @pytest.mark.parametrize("value", [-1, 1_000_000_001])
    async def test_nonsense_is_refused(self, shop: Shop, value: int) -> None:
        beans = await shop.product("B-1")
        await refused(shop.plan(beans, expected_quantity=value), INVALID, "INVALID_REQUEST")
        await refused(shop.plan(beans, low_stock_below=value), INVALID, "INVALID_REQUEST")


class TestLow:
    async def test_each_crossing_is_told_once(self, shop: Shop, check_invariants: Figures) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.plan(beans, low_stock_below=3)
        for on_hand, told in ((3, 0), (2, 1), (1, 1), (0, 1), (2, 1), (3, 2), (9, 2), (0, 3)):
            await shop.count(beans, on_hand)
            assert len(await crossings(shop)) == told, on_hand
        assert await crossings(shop) == ["StockLow", "StockReplenished", "StockLow"]
        assert check_invariants()["stock.low"] == {"plans": 1, "low": 1, "violations": 0}

    async def test_it_is_told_with_its_figures(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.plan(beans, low_stock_below=3)
        await shop.adjust(beans, -3)
        await shop.adjust(beans, 8)
        rows = await shop.store.fetch(outbox_rows.select().order_by(outbox_rows.c.seq))
        low, replenished = rows[-3], rows[-1]
        assert events.StockLow.FromString(low["body"]) == events.StockLow(
            product_id=beans.product_id, warehouse_id=DEFAULT_WAREHOUSE_ID, available=2, low_stock_below=3
        )
        assert events.StockReplenished.FromString(replenished["body"]) == events.StockReplenished(
            product_id=beans.product_id, warehouse_id=DEFAULT_WAREHOUSE_ID, available=10
        )
        assert {low["aggregate_id"], replenished["aggregate_id"]} == {beans.product_id}

    async def test_whatever_moves_stock_tells_it(self, shop: Shop, check_invariants: Figures) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.plan(beans, low_stock_below=3)
        undone = order()
        await shop.reserve(undone, (beans, 3))
        await shop.release(undone)
        lapsed = order()
        await shop.reserve(lapsed, (beans, 3), expires_in_s=1)
        shop.clock.advance(1)
        await shop.store.write(lambda tx: holds.expire_lapsed(tx, at=shop.clock.now()))
        sold = await shop.bought((beans, 3))
        await shop.give_back(sold, (beans, 1))
        assert await crossings(shop) == ["StockLow", "StockReplenished"] * 3
        await shop.release(sold)
        assert len(await crossings(shop)) == 6
        check_invariants()

    async def test_a_new_mark_may_be_crossed_by_itself(self, shop: Shop, check_invariants: Figures) -> None:
        beans = await shop.product("B-1", on_hand=5)
        for mark, told in ((5, 0), (6, 1), (6, 1), (8, 1), (0, 2)):
            await shop.plan(beans, low_stock_below=mark)
            assert len(await crossings(shop)) == told
        check_invariants()

    async def test_a_product_that_was_never_there_is_low_from_the_start(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1")
        await shop.plan(beans, low_stock_below=1)
        assert await crossings(shop) == ["StockLow"]
        await shop.count(beans, 1)
        assert await crossings(shop) == ["StockLow", "StockReplenished"]
        check_invariants()

    async def test_each_warehouse_has_its_own_mark(self, shop: Shop) -> None:
        far = await shop.warehouse("Far")
        beans = await shop.product("B-1", on_hand=5)
        await shop.count(beans, 5, far)
        await shop.plan(beans, far, low_stock_below=3)
        await shop.count(beans, 0)
        assert await crossings(shop) == []
        await shop.count(beans, 0, far)
        assert await crossings(shop) == ["StockLow"]
