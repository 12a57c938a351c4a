"""Orders that are paid when the parcel leaves: wherever who dies, nothing ships that is not paid.

Of places that enclose nothing new (before the call, after the append before it) one stands for all.
"""

import asyncio
from functools import partial

import pytest

from tests.faults.scene import PRICE_UNITS, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

PRICE = {"currencyCode": "USD", "units": str(PRICE_UNITS)}

SHIPPING = [
    "storage.commit.after[UpdateOrderStatus]=exit@1",  # the wish to be paid
    "order.capture_payment.after=exit",
    "order.append.after=exit",
    "storage.commit.before[UpdateOrderStatus]=exit@2",  # SHIPPED
    "server.reply.before[UpdateOrderStatus]=exit",
]


@pytest.mark.parametrize("place", SHIPPING)
async def test_what_ships_is_paid_once_though_the_order_service_dies_at(later: Scene, place: str) -> None:
    bought = await later.buy()
    [order] = await later.survives("order", place, later.ship(bought["orderId"]))
    await later.assert_shipped(order)


async def test_what_ships_is_paid_once_though_payment_dies_when_it_has_taken_the_money(later: Scene) -> None:
    bought = await later.buy()
    place = "payment.capture.provider.answered=exit"
    [order] = await later.survives("payment", place, later.ship(bought["orderId"]))
    await later.assert_shipped(order)


@pytest.mark.parametrize("card", ["slow", "lost_reply"])
async def test_what_ships_is_paid_once_however_the_provider_answers(later: Scene, card: str) -> None:
    bought = await later.buy(card=card)
    await later.assert_shipped(await later.ship(bought["orderId"]))


async def test_an_order_whose_money_cannot_be_taken_never_ships_though_the_order_service_dies(
    later: Scene,
) -> None:
    bought = await later.buy(card="capture_refused")
    await later.assert_held(bought)
    [shipped] = await later.survives("order", "order.append.after=exit", later.ship(bought["orderId"]))
    assert shipped == {}
    order = await later.until(
        lambda: later.order(bought["orderId"]), lambda order: order["state"] == "STATE_CANCELLED"
    )
    assert order["cancelReason"] == "CAPTURE_REFUSED"
    await later.assert_called_off(order, ["AUTHORIZE", "VOID"])


async def test_what_is_cancelled_before_it_ships_is_let_go_though_the_order_service_dies(
    later: Scene,
) -> None:
    bought = await later.buy()
    await later.assert_held(bought)
    deed = later.cancel(bought["orderId"])
    [order] = await later.survives("order", "order.void_payment.after=exit", deed)
    await later.assert_called_off(order, ["AUTHORIZE", "VOID"])


async def test_a_cancel_that_meets_a_shipment_lets_one_of_them_win(later: Scene) -> None:
    bought = [await later.buy() for _ in range(4)]
    for order in bought:
        await asyncio.gather(
            later.ship(order["orderId"]),
            later.ask(
                "POST", f"/orders/{order['orderId']}:cancel", {"reason": ""}, unless="ORDER_NOT_CANCELLABLE"
            ),
        )
    for order in bought:
        ended = await later.until(
            partial(later.order, order["orderId"]),
            lambda seen: seen["state"] in ("STATE_SHIPPED", "STATE_CANCELLED"),
        )
        done = await later.done_at_provider(ended)
        if ended["state"] == "STATE_SHIPPED":
            assert done == ["AUTHORIZE", "CAPTURE"]
        else:
            assert done in (["AUTHORIZE", "VOID"], ["AUTHORIZE", "CAPTURE", "REFUND"])


async def test_a_shipment_while_payment_is_away_waits_for_it(later: Scene) -> None:
    bought = await later.buy()
    await later.kill("payment")
    shipping = asyncio.create_task(later.ship(bought["orderId"]))
    await later.until(lambda: later.attempts(bought["orderId"]), lambda attempts: attempts >= 3)
    assert (await later.order(bought["orderId"]))["state"] == "STATE_CONFIRMED"
    await later.revive("payment")
    await later.assert_shipped(await shipping)


async def test_what_is_taken_off_before_it_ships_is_told_once_though_the_order_service_dies(
    later: Scene,
) -> None:
    two = [{"productId": later.product_id, "quantity": "2"}]
    bought = await later.ask("POST", "/orders", {**later.order_body(wait=True), "lines": two})
    one = {"lines": [{"productId": later.product_id, "quantity": "1"}], "reason": ""}
    path = f"/orders/{bought['orderId']}:refund"
    deed = later.ask("POST", path, one, by=later.staff.helper)
    await later.survives("order", "order.return_stock.after=exit", deed)
    await later.assert_told(bought, ["Less to pay", "Order confirmed"])
    order = await later.ship(bought["orderId"])
    assert (order["refundedTotal"], order["capturedTotal"]) == (PRICE, PRICE)
    await later.assert_told(bought, ["Less to pay", "Order confirmed", "Order shipped"])
