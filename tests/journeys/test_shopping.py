"""A shopper's story, through REST and past the edge through gRPC."""

import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc

from services.chassis import status
from services.cli import shopper as shopping
from services.cli.edge import new_id
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper

ANSWER_MAX_S = 15.0


def facts(timeline: list[dict[str, Any]]) -> list[str]:
    """What happened, as steps and endings."""
    return [
        event[name].get("step", name)
        for event in timeline
        for name in event
        if name not in ("version", "time", "traceId", "actor", "onBehalfOf", "requestId")
    ]


def signed_in(shopper: Shopper) -> tuple[tuple[str, str], ...]:
    """What goes with calls of the buyer's past the edge."""
    return (("authorization", shopper.signed_in.bearer(shopper.gateway)),)


@pytest.fixture
async def orders(shop: Endpoints) -> AsyncIterator[order_pb2_grpc.OrderServiceStub]:
    async with grpc.aio.insecure_channel(shop.services["order"].grpc) as channel:
        yield order_pb2_grpc.OrderServiceStub(channel)


def test_a_purchase_over_rest(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    beans = shopper.product("Coffee beans", cents=1490, on_hand=5)["productId"]

    placed = shopper.http.post(
        "/api/v1/orders",
        json=shopping.order(buyer, card, {beans: 2}),
        headers={"Idempotency-Key": new_id()},
    )
    assert placed.status_code == 201
    order = placed.json()
    assert placed.headers["location"] == f"/api/v1/orders/{order['orderId']}"
    assert order["state"] == "STATE_CONFIRMED"
    assert order["total"] == {"currencyCode": "USD", "units": "29", "nanos": 800_000_000}

    assert shopper.ask("GET", placed.headers["location"]) == order
    assert shopper.available(beans) == 3
    assert shopper.payment(order["paymentId"])["state"] == "STATE_CAPTURED"
    assert [found["orderId"] for found in shopper.ask("GET", f"/api/v1/users/{buyer}/orders")["orders"]] == [
        order["orderId"]
    ]
    assert facts(shopper.timeline(order["orderId"])) == [
        "placed",
        "STEP_RESERVE_STOCK",
        "STEP_AUTHORIZE_PAYMENT",
        "STEP_COMMIT_STOCK",
        "STEP_CAPTURE_PAYMENT",
        "confirmed",
    ]
    told = shopper.eventually(
        lambda: [found["eventType"] for found in shopper.notifications(buyer)],
        lambda types: "bodega.order.v1.OrderConfirmed" in types,
        "the buyer is told",
        20.0,
    )
    assert told.count("bodega.order.v1.OrderConfirmed") == 1


def test_every_event_of_a_timeline_says_when_and_in_which_trace(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
    trace_id = new_id().replace("-", "")
    placed = shopper.http.post(
        "/api/v1/orders",
        json=shopping.order(buyer, card, {product: 1}),
        headers={"Idempotency-Key": new_id(), "traceparent": f"00-{trace_id}-{'1' * 16}-01"},
    ).json()
    timeline = shopper.timeline(placed["orderId"])
    assert [event["version"] for event in timeline] == [str(n + 1) for n in range(len(timeline))]
    assert [event["time"] for event in timeline] == sorted(event["time"] for event in timeline)
    assert {event["traceId"] for event in timeline} == {trace_id}


def test_a_declined_card_gives_the_stock_back(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer, shopping.DECLINES)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=2)["productId"]
    order = shopper.order(buyer, card, {product: 2})
    assert (order["state"], order["rejectionReason"]) == ("STATE_REJECTED", "PAYMENT_DECLINED")
    assert facts(shopper.timeline(order["orderId"])) == [
        "placed",
        "STEP_RESERVE_STOCK",
        "STEP_AUTHORIZE_PAYMENT",
        "STEP_RELEASE_STOCK",
        "rejected",
    ]
    assert shopper.available(product) == 2


def test_a_cancelled_order_gives_everything_back(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=2)["productId"]
    order = shopper.order(buyer, card, {product: 2})
    assert shopper.available(product) == 0
    assert shopper.cancel(order["orderId"], "changed my mind")["state"] == "STATE_CANCELLED"
    assert shopper.available(product) == 2
    payment = shopper.payment(order["paymentId"])
    assert (payment["state"], payment["refundedAmount"]) == ("STATE_REFUNDED", payment["capturedAmount"])


@pytest.mark.parametrize("token", ["tok_slow", "tok_lost_reply"])
def test_a_provider_that_is_slow_or_loses_replies_charges_once(shopper: Shopper, token: str) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer, token)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
    order = shopper.order(buyer, card, {product: 1})
    assert order["state"] == "STATE_CONFIRMED"
    path = f"/api/v1/payments/{order['paymentId']}/transactions"
    kinds = [found["kind"] for found in shopper.ask("GET", path)["transactions"]]
    assert (kinds.count("KIND_AUTHORIZE"), kinds.count("KIND_CAPTURE")) == (1, 1)


def test_a_price_that_changed_is_not_what_was_agreed(shopper: Shopper) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
    price = {"price": {"currencyCode": "USD", "units": "10"}}
    shopper.ask("PUT", f"/api/v1/products/{product}/price", body=price, by=shopper.staff.keeper)
    body = shopping.order(buyer, card, {product: 1}) | {
        "expectedTotal": {"currencyCode": "USD", "units": "9"}
    }
    refused = shopper.http.post("/api/v1/orders", json=body, headers={"Idempotency-Key": new_id()})
    assert refused.status_code == 400
    assert "PRICE_CHANGED" in refused.text


async def test_a_purchase_over_grpc(
    shopper: Shopper, shop: Endpoints, orders: order_pb2_grpc.OrderServiceStub
) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Grinder", cents=24900, on_hand=3)["productId"]
    order = await orders.CreateOrder(
        order_pb2.CreateOrderRequest(
            user_id=buyer,
            payment_method_id=card,
            currency="USD",
            lines=[order_pb2.CreateOrderLine(product_id=product, quantity=1)],
            wait_until_settled=True,
            request_id=new_id(),
        ),
        timeout=ANSWER_MAX_S,
        metadata=signed_in(shopper),
    )
    assert order.state == order_pb2.Order.STATE_CONFIRMED
    request = order_pb2.GetOrderRequest(order_id=order.order_id)
    assert await orders.GetOrder(request, metadata=signed_in(shopper)) == order
    async with grpc.aio.insecure_channel(shop.services["inventory"].grpc) as channel:
        found = await inventory_pb2_grpc.InventoryServiceStub(channel).CheckAvailability(
            inventory_pb2.CheckAvailabilityRequest(product_id=product, quantity=3), timeout=ANSWER_MAX_S
        )
    assert (found.available, found.available_quantity) == (False, 2)


async def test_over_grpc_a_refusal_says_why_and_names_every_violation(
    shopper: Shopper, orders: order_pb2_grpc.OrderServiceStub
) -> None:
    buyer = shopper.buyer()["userId"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await orders.CreateOrder(
            order_pb2.CreateOrderRequest(
                user_id=buyer,
                payment_method_id="card",
                currency="dollars",
                lines=[order_pb2.CreateOrderLine(product_id=new_id(), quantity=-1)],
                request_id=new_id(),
            ),
            timeout=ANSWER_MAX_S,
            metadata=signed_in(shopper),
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (bad,) = [found for found in status.details(refused.value) if hasattr(found, "field_violations")]
    fields = {re.sub(r"\[\d+\]", "[]", violation.field) for violation in bad.field_violations}
    assert fields == {"payment_method_id", "currency", "lines[].quantity"}
