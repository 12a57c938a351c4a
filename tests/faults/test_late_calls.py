"""Calls that arrive after an order was given up, as networks deliver them: nothing comes back to life."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from services.chassis import client, status
from tests.faults.scene import PRICE_UNITS, Json, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

Call = Callable[[], Awaitable[Any]]

REFUSALS: dict[str, set[str | None]] = {
    "reserve": {"RESERVATION_CLOSED"},
    "authorize": {"PAYMENT_CLOSED", None},  # None: it is declined, and says so again
    "commit": {"RESERVATION_CLOSED"},
    "capture": {"PAYMENT_CLOSED", "PAYMENT_NOT_CAPTURABLE"},
}


async def cancelled_before_money_was_held(scene: Scene) -> Json:
    await scene.kill("payment")
    order_id = await scene.begin()
    await scene.call_off(order_id)
    await scene.revive("payment")
    return await scene.settled(order_id)


async def cancelled_before_goods_were_held(scene: Scene) -> Json:
    async with scene.down("inventory", "storage.commit.before[ReserveStock]=exit") as death:
        order_id = await scene.begin()
        await death
        await scene.call_off(order_id)
    return await scene.settled(order_id)


async def cancelled_when_confirmed(scene: Scene) -> Json:
    return await scene.cancel((await scene.buy())["orderId"])


async def declined(scene: Scene) -> Json:
    return await scene.buy(card="decline")


async def refused_at_capture(scene: Scene) -> Json:
    return await scene.buy(card="capture_refused")


@pytest.mark.parametrize(
    "given_up",
    [
        cancelled_before_goods_were_held,
        cancelled_before_money_was_held,
        cancelled_when_confirmed,
        declined,
        refused_at_capture,
    ],
)
async def test_no_late_call_moves_goods_or_money(
    scene: Scene, given_up: Callable[[Scene], Awaitable[Json]]
) -> None:
    order = await given_up(scene)
    done = await scene.done_at_provider(order)
    async with late_calls(scene, order) as calls:
        for name, call in calls.items():
            assert await refusal(call) in REFUSALS[name], name
    assert await scene.done_at_provider(order) == done
    await scene.everything_holds()


@asynccontextmanager
async def late_calls(scene: Scene, order: Json) -> AsyncIterator[dict[str, Call]]:
    """Each step of the order again, as nobody remembers it: under a new request id."""
    shop = scene.shop.endpoints
    at, saga = shop.services, shop.identity("order")
    async with (
        client.connect(at["inventory"].mesh, inventory_pb2.DESCRIPTOR, tls=saga) as inventory,
        client.connect(at["payment"].mesh, payment_pb2.DESCRIPTOR, tls=saga) as payment,
    ):
        stock = inventory_pb2_grpc.InventoryServiceStub(inventory)
        money = payment_pb2_grpc.PaymentServiceStub(payment)
        who: Json = {"order_id": order["orderId"]}
        reserve = inventory_pb2.ReserveStockRequest(
            **who,
            lines=[inventory_pb2.ReserveLine(product_id=scene.product_id, quantity=1)],
            expires_in=Duration(seconds=60),
        )
        authorize = payment_pb2.AuthorizePaymentRequest(
            **who,
            user_id=scene.user_id,
            payment_method_id=order["paymentMethodId"],
            amount=Money(currency_code="USD", units=PRICE_UNITS),
        )
        yield {
            "reserve": lambda: stock.ReserveStock(again(reserve)),
            "authorize": lambda: money.AuthorizePayment(again(authorize)),
            "commit": lambda: stock.CommitStock(again(inventory_pb2.CommitStockRequest(**who))),
            "capture": lambda: money.CapturePayment(again(payment_pb2.CapturePaymentRequest(**who))),
        }


def again(request: Any) -> Any:
    request.request_id = str(uuid.uuid4())
    return request


async def refusal(call: Call) -> str | None:
    """Why the call was refused; None if it says how things stand."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return status.reason(error) or error.code().name
    return None
