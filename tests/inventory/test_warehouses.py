"""Several warehouses, corrections in them, and the ledger that explains both; over a real server."""

import pytest
from bodega.inventory.v1 import inventory_pb2 as pb

from services.chassis import status
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from tests.inventory.shop import (
    EXISTS,
    INVALID,
    NOBODY,
    NOT_FOUND,
    WRONG_STATE,
    Figures,
    Shop,
    order,
    refused,
)

Kind = pb.StockMovement


def taken(reservation: pb.Reservation) -> dict[str, int]:
    return {line.warehouse_id: line.quantity for line in reservation.lines}


class TestWarehouses:
    async def listed(self, shop: Shop, page_size: int = 0) -> list[tuple[str, int]]:
        request = pb.ListWarehousesRequest(page_size=page_size)
        found: list[tuple[str, int]] = []
        while True:
            reply = await shop.inventory.ListWarehouses(request)
            found.extend((warehouse.name, warehouse.preference) for warehouse in reply.warehouses)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    @pytest.mark.parametrize("page_size", [0, 1, 3])
    async def test_they_are_listed_most_preferred_first(self, shop: Shop, page_size: int) -> None:
        for name, preference in (("Far", 20), ("Near", 5), ("Also far", 20)):
            await shop.warehouse(name, preference)
        assert await self.listed(shop, page_size) == [("Main", 0), ("Near", 5), ("Far", 20), ("Also far", 20)]

    async def test_a_repeat_gets_the_same_warehouse(self, shop: Shop) -> None:
        assert await shop.warehouse("Far", request_id="once") == await shop.warehouse(
            "Far", request_id="once"
        )

    async def test_a_name_is_taken_once(self, shop: Shop) -> None:
        error = await refused(shop.warehouse("Main"), EXISTS, "WAREHOUSE_NAME_TAKEN")
        assert status.metadata(error) == {"name": "Main"}

    @pytest.mark.parametrize(
        ("name", "preference"),
        [("", 0), (" ", 0), ("Far ", 0), ("x" * 101, 0), ("Far", -1), ("Far", 1_000_001)],
    )
    async def test_nonsense_is_refused(self, shop: Shop, name: str, preference: int) -> None:
        await refused(shop.warehouse(name, preference), INVALID, "INVALID_REQUEST")

    async def test_a_token_of_another_list_is_refused(self, shop: Shop) -> None:
        request = pb.ListWarehousesRequest(page_token="made up")
        await refused(shop.inventory.ListWarehouses(request), INVALID, "INVALID_PAGE_TOKEN")


class TestAllocation:
    async def test_the_preferred_one_is_taken_from_first(self, shop: Shop) -> None:
        near, far = await shop.warehouse("Near", 1), await shop.warehouse("Far", 2)
        beans = await shop.product("B-1")
        await shop.count(beans, 10, far)
        await shop.count(beans, 3, near)
        assert taken(await shop.reserve(order(), (beans, 2))) == {near: 2}
        assert taken(await shop.reserve(order(), (beans, 2))) == {far: 2}, "one parcel, if it can be"

    async def test_a_line_is_split_where_it_must_be(self, shop: Shop, check_invariants: Figures) -> None:
        near, far = await shop.warehouse("Near", 1), await shop.warehouse("Far", 2)
        beans = await shop.product("B-1", on_hand=1)
        await shop.count(beans, 3, near)
        await shop.count(beans, 3, far)
        placed = order()
        assert taken(await shop.reserve(placed, (beans, 6))) == {DEFAULT_WAREHOUSE_ID: 1, near: 3, far: 2}
        await shop.commit(placed)
        assert (await shop.available(beans)).available_quantity == 1
        check_invariants()


class TestAdjust:
    async def test_it_changes_by_a_difference_and_says_why(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=5)
        assert (await shop.adjust(beans, -2, reason="broken")).on_hand == 3
        assert (await shop.adjust(beans, 4)).on_hand == 7
        assert [movement.reason for movement in await shop.movements(beans)] == ["found some", "broken", ""]
        check_invariants()

    async def test_a_repeat_changes_nothing(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        first = await shop.adjust(beans, 1, request_id="once")
        assert await shop.adjust(beans, 1, request_id="once") == first
        assert (await shop.available(beans)).available_quantity == 6

    async def test_what_is_held_cannot_be_corrected_away(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.reserve(order(), (beans, 3))
        error = await refused(shop.adjust(beans, -3), WRONG_STATE, "STOCK_BELOW_RESERVED")
        assert status.metadata(error) == {"product_id": beans.product_id, "on_hand": "2", "reserved": "3"}
        assert (await shop.adjust(beans, -2)).available == 0

    async def test_what_is_not_there_cannot_be_taken_away(self, shop: Shop) -> None:
        await refused(shop.adjust(await shop.product("B-1"), -1), WRONG_STATE, "STOCK_BELOW_RESERVED")

    async def test_a_lapsed_hold_is_not_in_the_way(self, shop: Shop, check_invariants: Figures) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.reserve(order(), (beans, 3), expires_in_s=1)
        shop.clock.advance(1)
        assert (await shop.adjust(beans, -5)).on_hand == 0
        check_invariants()

    @pytest.mark.parametrize(
        ("delta", "reason"), [(0, "why"), (1_000_000_001, "why"), (1, ""), (1, "x" * 201)]
    )
    async def test_nonsense_is_refused(self, shop: Shop, delta: int, reason: str) -> None:
        beans = await shop.product("B-1")
        await refused(shop.adjust(beans, delta, reason=reason), INVALID, "INVALID_REQUEST")

    async def test_where_there_is_nothing(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        await refused(shop.adjust(beans, 1, warehouse_id=NOBODY), NOT_FOUND, "WAREHOUSE_NOT_FOUND")
        ghost = pb.Product(product_id=NOBODY)
        await refused(shop.adjust(ghost, 1), NOT_FOUND, "PRODUCT_NOT_FOUND")


class TestMovements:
    @pytest.mark.parametrize("page_size", [0, 1, 3])
    async def test_every_kind_is_told_newest_first(self, shop: Shop, page_size: int) -> None:
        beans = await shop.product("B-1", on_hand=10)
        await shop.adjust(beans, 1)
        sold = await shop.bought((beans, 4))
        await shop.give_back(sold, (beans, 1))
        undone = order()
        await shop.reserve(undone, (beans, 2))
        await shop.release(undone)
        await shop.reserve(order(), (beans, 5), expires_in_s=1)
        shop.clock.advance(1)
        await shop.reserve(order(), (beans, 8))
        found = await shop.movements(beans, page_size=page_size)
        assert [(move.kind, move.on_hand_delta, move.reserved_delta) for move in found] == [
            (Kind.KIND_RESERVED, 0, 8),
            (Kind.KIND_EXPIRED, 0, -5),
            (Kind.KIND_RESERVED, 0, 5),
            (Kind.KIND_RELEASED, 0, -2),
            (Kind.KIND_RESERVED, 0, 2),
            (Kind.KIND_RETURNED, 1, 0),
            (Kind.KIND_COMMITTED, -4, -4),
            (Kind.KIND_RESERVED, 0, 4),
            (Kind.KIND_ADJUSTED, 1, 0),
            (Kind.KIND_COUNTED, 10, 0),
        ]
        numbers = [move.movement_id for move in found]
        assert numbers == sorted(set(numbers), reverse=True)
        assert {move.order_id for move in found[5:8]} == {sold}
        assert found[0].create_time.ToDatetime() > found[-1].create_time.ToDatetime()

    async def test_of_one_product_and_of_one_warehouse_alone(self, shop: Shop) -> None:
        far = await shop.warehouse("Far")
        beans, milk = await shop.product("B-1", on_hand=1), await shop.product("M-1", on_hand=1)
        await shop.count(beans, 7, far)
        assert [move.on_hand_delta for move in await shop.movements(beans)] == [7, 1]
        assert [move.on_hand_delta for move in await shop.movements(beans, warehouse_id=far)] == [7]
        assert [move.product_id for move in await shop.movements(milk)] == [milk.product_id]

    async def test_of_what_is_not_there(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        await refused(shop.movements(pb.Product(product_id=NOBODY)), NOT_FOUND, "PRODUCT_NOT_FOUND")
        await refused(shop.movements(beans, warehouse_id=NOBODY), NOT_FOUND, "WAREHOUSE_NOT_FOUND")
        await refused(shop.movements(beans, page_token="made up"), INVALID, "INVALID_PAGE_TOKEN")
