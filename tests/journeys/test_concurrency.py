"""Many at once: nothing is sold twice, nobody is charged twice."""

import asyncio
from collections import Counter

import httpx

from services.cli import shopper as shopping
from services.cli.edge import Json, new_id
from services.cli.shopper import Shopper

ANSWER_MAX_S = 30.0


async def post_all(shopper: Shopper, bodies: list[Json], keys: list[str]) -> list[httpx.Response]:
    """Sends all orders at the same time, a connection each."""
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(
        base_url=shopper.gateway, timeout=ANSWER_MAX_S, limits=limits, auth=shopper.signed_in
    ) as client:
        return await asyncio.gather(
            *(
                client.post("/api/v1/orders", json=body, headers={"Idempotency-Key": key})
                for body, key in zip(bodies, keys, strict=True)
            )
        )


async def test_fifty_orders_for_ten_pieces_confirm_exactly_ten(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Rare grinder", cents=24900, on_hand=10)["productId"]

    bodies = [shopping.order(buyer, card, {product: 1}, wait=False)] * 50
    replies = await post_all(shopper, bodies, [new_id() for _ in bodies])
    assert {reply.status_code for reply in replies} == {201}
    order_ids = {reply.json()["orderId"] for reply in replies}
    assert len(order_ids) == 50

    orders = [shopper.settled(order_id) for order_id in order_ids]
    ends = Counter((order["state"], order.get("rejectionReason")) for order in orders)
    assert ends == {("STATE_CONFIRMED", None): 10, ("STATE_REJECTED", "OUT_OF_STOCK"): 40}
    assert shopper.available(product) == 0

    confirmed = [order for order in orders if order["state"] == "STATE_CONFIRMED"]
    payments = [shopper.payment(order["paymentId"]) for order in confirmed]
    assert {payment["state"] for payment in payments} == {"STATE_CAPTURED"}
    assert {payment["capturedAmount"]["units"] for payment in payments} == {"249"}
    assert {order.get("paymentId") for order in orders if order not in confirmed} == {None}


async def test_twenty_creations_with_one_key_are_one_order_and_one_charge(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=20)["productId"]

    bodies = [shopping.order(buyer, card, {product: 1})] * 20
    replies = await post_all(shopper, bodies, [new_id()] * 20)
    assert {reply.status_code for reply in replies} == {201}
    (body,) = {reply.text for reply in replies}
    assert '"STATE_CONFIRMED"' in body

    (order,) = shopper.ask("GET", f"/api/v1/users/{buyer}/orders")["orders"]
    assert shopper.available(product) == 19
    path = f"/api/v1/payments/{order['paymentId']}/transactions"
    kinds = [found["kind"] for found in shopper.ask("GET", path)["transactions"]]
    assert sorted(kinds) == ["KIND_AUTHORIZE", "KIND_CAPTURE"]


async def test_a_key_used_for_another_order_is_refused(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=20)["productId"]
    key = new_id()
    shopper.order(buyer, card, {product: 1}, key=key)
    other = shopping.order(buyer, card, {product: 2})
    refused = shopper.http.post("/api/v1/orders", json=other, headers={"Idempotency-Key": key})
    assert refused.status_code == 400
    assert "REQUEST_ID_REUSED" in refused.text
    assert shopper.available(product) == 19
