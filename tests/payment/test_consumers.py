"""What an order's end means to its money."""

from datetime import UTC, datetime

import grpc
import pytest
from bodega.order.v1 import order_events_pb2
from bodega.payment.v1 import payment_events_pb2
from bodega.payment.v1 import payment_pb2 as pb
from google.protobuf.message import Message

from services.chassis import status
from services.chassis.events.envelope import envelope
from services.payment.consumers import reactions
from tests.payment.house import House, new_id

ENDED = [order_events_pb2.OrderRejected, order_events_pb2.OrderCancelled]


async def hear(house: House, order_id: str, kind: type[Message]) -> None:
    message = kind()
    event = envelope("order", order_id, message, id=new_id(), at=datetime.now(UTC))
    react = reactions(house.operations, clock=house.clock)["order"][event.type]
    await house.store.write(lambda tx: react(tx, event, message))


async def state(house: House, order_id: str) -> str:
    return (await house.store.read(lambda tx: tx.payments.get_of_order(order_id))).state


@pytest.mark.parametrize("kind", ENDED)
async def test_nobody_pays_for_an_order_that_has_ended(house: House, kind: type[Message]) -> None:
    wanted = await house.processing()
    await hear(house, wanted.order_id, kind)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await house.stub.ProcessPayment(wanted)
    assert status.reason(error.value) == "PAYMENT_CLOSED"
    assert await state(house, wanted.order_id) == "VOIDED"


@pytest.mark.parametrize("kind", ENDED)
async def test_what_was_paid_in_one_go_for_an_order_that_has_ended_goes_back_once(
    house: House, kind: type[Message]
) -> None:
    paid = await house.stub.ProcessPayment(await house.processing())
    for _ in range(2):
        await hear(house, paid.order_id, kind)
        await house.settle()
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=paid.payment_id))
    assert (found.state, found.refunded_amount) == (pb.Payment.STATE_REFUNDED, paid.amount)
    told = [type(message) for message in await house.told(paid.order_id)]
    assert told.count(payment_events_pb2.PaymentRefunded) == 1


async def test_money_that_was_given_back_before_is_let_be(house: House) -> None:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    await house.void(wanted.order_id)
    before = await house.told(wanted.order_id)
    await hear(house, wanted.order_id, order_events_pb2.OrderCancelled)
    await house.settle()
    assert await house.told(wanted.order_id) == before
