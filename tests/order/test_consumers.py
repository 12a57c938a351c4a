"""What payment's events mean to an order."""

from datetime import UTC, datetime, timedelta

from bodega.order.v1 import order_pb2 as pb
from bodega.payment.v1 import payment_events_pb2
from google.protobuf.message import Message
from google.type.money_pb2 import Money as MoneyMessage

from services.chassis.events.envelope import envelope
from services.chassis.storage.database import Store
from services.kernel.money import Money
from services.order import domain, facts
from services.order.consumers import REACTIONS
from services.order.store import Transaction
from tests.order.conftest import placed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ID = "0190dddd-0000-7000-8000-000000000001"
USD_9 = MoneyMessage(currency_code="USD", units=9)


async def rejected(store: Store[Transaction]) -> domain.Order:
    order = domain.place(ID, placed(), at=NOW)
    order = order.apply(facts.StepRefused(facts.Step.RESERVE_STOCK, 1, "OUT_OF_STOCK"), at=NOW)
    return await store.write(lambda tx: tx.orders.save(order))


async def told(store: Store[Transaction], message: Message) -> list[facts.Fact]:
    event = envelope("payment", ID, message, id="e1", at=LATER)
    await store.write(lambda tx: REACTIONS["payment"][event.type](tx, event, message))
    return [event.fact for event in await store.read(lambda tx: tx.orders.history(ID))]


async def test_late_money_that_went_back_stands_in_the_history_and_resurrects_nothing(
    store: Store[Transaction],
) -> None:
    before = await rejected(store)
    message = payment_events_pb2.PaymentRefunded(payment_id="p1", order_id=ID, amount=USD_9, late=True)
    history = await told(store, message)
    assert history[-1] == facts.LateMoneyReturned("p1", Money(900, "USD"))
    after = await store.read(lambda tx: tx.orders.shown(ID))
    assert (after.state, after.version) == (pb.Order.STATE_REJECTED, before.version + 1)


async def test_money_that_the_order_itself_gave_back_is_no_news(store: Store[Transaction]) -> None:
    before = await rejected(store)
    message = payment_events_pb2.PaymentRefunded(payment_id="p1", order_id=ID, amount=USD_9)
    assert len(await told(store, message)) == before.version


async def test_late_money_of_what_was_no_order_is_nobodys_news(store: Store[Transaction]) -> None:
    message = payment_events_pb2.PaymentRefunded(payment_id="p1", order_id=ID, amount=USD_9, late=True)
    assert await told(store, message) == []
