"""Goods that were sold come back, in parts, once, and never more than were sold; over a real server."""

import asyncio

import pytest
from bodega.inventory.v1 import inventory_pb2 as pb

from services.chassis import audit as chassis_audit
from services.chassis import status
from services.inventory import audit
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from tests.inventory.shop import INVALID, NOBODY, NOT_FOUND, WRONG_STATE, Figures, Shop, order, refused


def left(reservation: pb.Reservation) -> list[tuple[int, int]]:
    """Of each line: how many were sold, how many came back."""
    return [(line.quantity, line.returned_quantity) for line in reservation.lines]


async def test_pieces_come_back_in_parts(shop: Shop, check_invariants: Figures) -> None:
    beans, milk = await shop.product("B-1", on_hand=5), await shop.product("M-1", on_hand=5)
    sold = await shop.bought((beans, 3), (milk, 1))
    assert left(await shop.give_back(sold, (beans, 1))) == [(3, 1), (1, 0)]
    both = await shop.give_back(sold, (beans, 1), (milk, 1), (beans, 1))
    assert (both.state, left(both)) == (pb.Reservation.STATE_COMMITTED, [(3, 3), (1, 1)])
    assert (await shop.available(beans)).available_quantity == 5
    assert check_invariants()["stock.returns"]["returned"] == 4


async def test_never_more_than_was_sold(shop: Shop, check_invariants: Figures) -> None:
    beans, milk = await shop.product("B-1", on_hand=5), await shop.product("M-1", on_hand=5)
    sold = await shop.bought((beans, 3))
    await shop.give_back(sold, (beans, 2))
    error = await refused(shop.give_back(sold, (beans, 1), (beans, 1)), WRONG_STATE, "MORE_THAN_SOLD")
    assert status.metadata(error) == {
        "order_id": sold,
        "product_id": beans.product_id,
        "requested": "2",
        "sold": "1",
    }
    await refused(shop.give_back(sold, (beans, 1), (milk, 1)), WRONG_STATE, "MORE_THAN_SOLD")
    assert (await shop.available(beans)).available_quantity == 4
    check_invariants()


async def test_a_return_is_made_once_whatever_its_request_id(shop: Shop, check_invariants: Figures) -> None:
    beans = await shop.product("B-1", on_hand=5)
    sold, made = await shop.bought((beans, 3)), order()
    replies = await asyncio.gather(
        shop.give_back(sold, (beans, 2), return_id=made, request_id="one"),
        shop.give_back(sold, (beans, 2), return_id=made, request_id="one"),
        shop.give_back(sold, (beans, 1), (beans, 1), return_id=made.upper(), request_id="two"),
    )
    assert [left(reply) for reply in replies] == [[(3, 2)]] * 3
    await refused(shop.give_back(sold, (beans, 1), return_id=made), INVALID, "RETURN_MISMATCH")
    assert await shop.told("StockReturned") == ["StockReturned"]
    check_invariants()


async def test_a_return_has_its_name_among_those_of_its_order_only(shop: Shop) -> None:
    beans, made = await shop.product("B-1", on_hand=5), order()
    one, other = await shop.bought((beans, 1)), await shop.bought((beans, 1))
    await shop.give_back(one, (beans, 1), return_id=made)
    await shop.give_back(other, (beans, 1), return_id=made)
    assert (await shop.available(beans)).available_quantity == 5


async def test_what_was_refused_stays_refused(shop: Shop, check_invariants: Figures) -> None:
    beans, made, early = await shop.product("B-1", on_hand=5), order(), order()
    placed = order()
    await shop.reserve(placed, (beans, 2))
    error = await refused(shop.give_back(placed, (beans, 1), return_id=early), WRONG_STATE, "NOT_SOLD")
    assert status.metadata(error) == {"order_id": placed, "state": "reserved"}
    await shop.commit(placed)
    again = await refused(shop.give_back(placed, (beans, 1), return_id=early), WRONG_STATE, "NOT_SOLD")
    assert status.metadata(again) == status.metadata(error)
    await refused(shop.give_back(placed, (beans, 3), return_id=made), WRONG_STATE, "MORE_THAN_SOLD")
    await refused(shop.give_back(placed, (beans, 3), return_id=made), WRONG_STATE, "MORE_THAN_SOLD")
    await refused(shop.give_back(placed, (beans, 1), return_id=made), INVALID, "RETURN_MISMATCH")
    assert left(await shop.give_back(placed, (beans, 1))) == [(2, 1)]
    assert check_invariants()["stock.returns"]["returns"] == 3


async def test_undoing_the_order_brings_back_only_what_is_left(shop: Shop, check_invariants: Figures) -> None:
    beans, made = await shop.product("B-1", on_hand=5), order()
    sold = await shop.bought((beans, 3))
    await shop.give_back(sold, (beans, 2), return_id=made)
    released = await shop.release(sold)
    assert (released.state, left(released)) == (pb.Reservation.STATE_RELEASED, [(3, 3)])
    assert (await shop.available(beans)).available_quantity == 5
    # A late repeat of the return is answered, a late new one is refused; neither brings anything.
    assert (await shop.give_back(sold, (beans, 2), return_id=made)).state == pb.Reservation.STATE_RELEASED
    await refused(shop.give_back(sold, (beans, 1)), WRONG_STATE, "NOT_SOLD")
    assert (await shop.available(beans)).available_quantity == 5
    check_invariants()


async def test_undoing_an_order_that_gave_all_back_moves_nothing(
    shop: Shop, check_invariants: Figures
) -> None:
    beans = await shop.product("B-1", on_hand=5)
    sold = await shop.bought((beans, 3))
    await shop.give_back(sold, (beans, 3))
    moved = len(await shop.movements(beans))
    await shop.release(sold)
    assert len(await shop.movements(beans)) == moved
    assert await shop.told("StockReleased") == []
    check_invariants()


@pytest.mark.parametrize("undone", [False, True])
async def test_pieces_may_come_back_to_another_warehouse(
    shop: Shop, check_invariants: Figures, *, undone: bool
) -> None:
    far = await shop.warehouse("Far", 1)
    beans = await shop.product("B-1", on_hand=5)
    sold = await shop.bought((beans, 3))
    await shop.give_back(sold, (beans, 2, far))
    if undone:
        await shop.release(sold)
    there = [(move.warehouse_id, move.on_hand_delta) for move in await shop.movements(beans)]
    assert (far, 2) in there
    assert (await shop.available(beans)).available_quantity == (5 if undone else 4)
    check_invariants()


async def test_pieces_of_a_split_line_go_back_to_where_they_came_from(
    shop: Shop, check_invariants: Figures
) -> None:
    far = await shop.warehouse("Far", 1)
    beans = await shop.product("B-1", on_hand=2)
    await shop.count(beans, 2, far)
    sold = await shop.bought((beans, 4))
    some = await shop.give_back(sold, (beans, 1, far))
    assert {line.warehouse_id: line.returned_quantity for line in some.lines} == {
        far: 1,
        DEFAULT_WAREHOUSE_ID: 0,
    }
    await shop.give_back(sold, (beans, 3))
    levels = await shop.store.read(lambda tx: tx.stock.levels([beans.product_id]))
    assert {level.warehouse_id: level.on_hand for level in levels} == {far: 2, DEFAULT_WAREHOUSE_ID: 2}
    check_invariants()


async def test_where_there_is_nothing(shop: Shop) -> None:
    beans = await shop.product("B-1", on_hand=5)
    await refused(shop.give_back(order(), (beans, 1)), NOT_FOUND, "RESERVATION_NOT_FOUND")
    sold, made = await shop.bought((beans, 1)), order()
    nowhere = shop.give_back(sold, (beans, 1, NOBODY), return_id=made)
    await refused(nowhere, NOT_FOUND, "WAREHOUSE_NOT_FOUND")
    # That was a slip of the pen: the return itself is still to be made.
    assert left(await shop.give_back(sold, (beans, 1), return_id=made)) == [(1, 1)]


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001])
async def test_nonsense_is_refused(shop: Shop, quantity: int) -> None:
    beans = await shop.product("B-1", on_hand=5)
    sold = await shop.bought((beans, 1))
    await refused(shop.give_back(sold, (beans, quantity)), INVALID, "INVALID_REQUEST")
    await refused(shop.give_back(sold), INVALID, "INVALID_REQUEST")
    await refused(shop.give_back(sold, (beans, 1), return_id="1"), INVALID, "INVALID_REQUEST")


async def test_ten_returns_at_once_of_what_could_come_back_four_times(
    shop: Shop, check_invariants: Figures
) -> None:
    beans = await shop.product("B-1", on_hand=5)
    sold = await shop.bought((beans, 4))
    outcomes = await asyncio.gather(
        *(shop.give_back(sold, (beans, 1)) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, pb.Reservation) for outcome in outcomes) == 4
    assert (await shop.available(beans)).available_quantity == 5
    check_invariants()


async def test_what_is_still_the_buyers_can_be_asked_across_services(shop: Shop, url: str) -> None:
    beans, milk = await shop.product("B-1", on_hand=5), await shop.product("M-1", on_hand=5)
    sold = await shop.bought((beans, 3), (milk, 1))
    await shop.give_back(sold, (beans, 2))
    with chassis_audit.reading(url) as connection:
        assert audit.sales(connection) == [
            audit.Hold(sold, {beans.product_id: 1, milk.product_id: 1}, {beans.product_id: 2})
        ]


async def test_what_came_back_can_be_asked_by_the_name_of_the_return(shop: Shop, url: str) -> None:
    beans = await shop.product("B-1", on_hand=5)
    sold = await shop.bought((beans, 3))
    made, too_much = order(), order()
    await shop.give_back(sold, (beans, 2), return_id=made)
    await refused(shop.give_back(sold, (beans, 2), return_id=too_much), WRONG_STATE, "MORE_THAN_SOLD")
    with chassis_audit.reading(url) as connection:
        assert audit.came_back(connection) == {sold: {made: {beans.product_id: 2}, too_much: {}}}
