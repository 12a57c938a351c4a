from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bodega.order.v1 import order_events_pb2 as orders
from bodega.payment.v1 import payment_events_pb2 as payments
from bodega.user.v1 import user_events_pb2 as users
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message as ProtoMessage
from google.type.money_pb2 import Money

from services.notification.domain import TRIES_MAX, Message, State
from services.notification.templates import SOMETIMES, TEMPLATES
from tests.notification.stage import written

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = Money(currency_code="USD", units=9, nanos=500_000_000)

TOLD: list[tuple[ProtoMessage, Message]] = [
    (
        orders.OrderConfirmed(order_id="o1", user_id="u1", total=PRICE),
        Message("u1", "Order confirmed", "Your order o1 over 9.50 USD is confirmed.", "o1"),
    ),
    (
        orders.OrderRejected(order_id="o1", user_id="u1", reason="OUT_OF_STOCK"),
        Message(
            "u1",
            "Order rejected",
            "Your order o1 came to nothing because something in it is out of stock."
            " You are not charged for it.",
            "o1",
        ),
    ),
    (
        orders.OrderRejected(order_id="o1", user_id="u1", reason="SOMETHING_NEW"),
        Message(
            "u1",
            "Order rejected",
            "Your order o1 came to nothing because it could not be completed. You are not charged for it.",
            "o1",
        ),
    ),
    (
        orders.OrderCancelled(order_id="o1", user_id="u1", reason="my name is Ada Lovelace"),
        Message(
            "u1",
            "Order cancelled",
            "Your order o1 is cancelled. You are not charged for it.",
            "o1",
        ),
    ),
    (
        orders.OrderCancelled(order_id="o1", user_id="u1", held=True),
        Message(
            "u1",
            "Order cancelled",
            "Your order o1 is cancelled. You are not charged for it."
            " What was set aside for it is released; your bank may take some days to show that.",
            "o1",
        ),
    ),
    (
        orders.OrderCancelled(order_id="o1", user_id="u1", reason="CAPTURE_REFUSED"),
        Message(
            "u1",
            "Order cancelled",
            "Your order o1 is cancelled. You are not charged for it."
            " It was to be shipped, and its price could not be taken.",
            "o1",
        ),
    ),
    (
        orders.OrderRefunded(order_id="o1", user_id="u1", amount=PRICE, held=True),
        Message("u1", "Less to pay", "You pay 9.50 USD less for your order o1 when it is shipped.", "o1"),
    ),
    (
        orders.OrderShipped(order_id="o1", user_id="u1", tracking_reference="1Z 999"),
        Message(
            "u1",
            "Order shipped",
            "Your order o1 is on its way. The carrier calls the parcel 1Z 999.",
            "o1",
        ),
    ),
    (
        orders.OrderShipped(order_id="o1", user_id="u1"),
        Message("u1", "Order shipped", "Your order o1 is on its way.", "o1"),
    ),
    (
        orders.OrderDelivered(order_id="o1", user_id="u1"),
        Message("u1", "Order delivered", "Your order o1 has arrived.", "o1"),
    ),
    (
        payments.PaymentDeclined(payment_id="p1", order_id="o1", user_id="u1", amount=PRICE),
        Message("u1", "Payment declined", "The payment of 9.50 USD for your order o1 was declined.", "o1"),
    ),
    (
        payments.PaymentRefunded(payment_id="p1", order_id="o1", user_id="u1", amount=PRICE),
        Message("u1", "Payment refunded", "9.50 USD for your order o1 are on their way back to you.", "o1"),
    ),
    (
        users.UserRegistered(user_id="u1", username="ada"),
        Message("u1", "Welcome", "Your account is registered and waits to be activated."),
    ),
    (
        users.UserSuspended(user_id="u1"),
        Message("u1", "Account suspended", "Your account is suspended: you cannot buy for now."),
    ),
]


@pytest.mark.parametrize(("event", "message"), TOLD)
def test_a_fact_is_told_in_words(event: ProtoMessage, message: Message) -> None:
    package, name = event.DESCRIPTOR.full_name.rsplit(".", 1)
    template = TEMPLATES[package.split(".")[1]][f"{package}.{name}"]
    said = template(event)
    assert said is not None
    assert replace(said, particulars={}) == message


def test_every_template_tells_whom_and_what() -> None:
    for templates in TEMPLATES.values():
        for event_type, template in templates.items():
            found = descriptor_pool.Default().FindMessageTypeByName(event_type)
            event = message_factory.GetMessageClass(found)()
            event.user_id = "u1"  # type: ignore[attr-defined]
            if "order_id" in found.fields_by_name:
                event.order_id = "o1"  # type: ignore[attr-defined]
            for amount in ("total", "amount"):
                if amount in found.fields_by_name:
                    getattr(event, amount).CopyFrom(PRICE)
            if event_type in SOMETIMES:
                assert template(event) is None
                event.held = True  # type: ignore[attr-defined]
            message = template(event)
            assert message is not None
            assert message.user_id == "u1"
            assert message.title
            assert message.body
            assert message.order_id == getattr(event, "order_id", "")


def test_what_is_not_the_customers_business_is_not_told() -> None:
    names = {name.rpartition(".")[2] for templates in TEMPLATES.values() for name in templates}
    assert names.isdisjoint({"OrderNeedsAttention", "OrderPlaced", "UserUpdated", "PaymentVoided"})


def test_a_message_is_due_at_once() -> None:
    message = written(1)
    assert (message.state, message.next_try_at) == (State.PENDING, message.created_at)


def test_a_sent_message_has_its_time() -> None:
    sent = written(1).sent(at=AT)
    assert (sent.state, sent.sent_at, sent.tries) == (State.SENT, AT, 1)


def test_a_failed_try_is_repeated_later() -> None:
    failed = written(1).failed("OSError", at=AT, retry_in=timedelta(seconds=3))
    assert (failed.state, failed.tries, failed.problem) == (State.PENDING, 1, "OSError")
    assert failed.next_try_at == AT + timedelta(seconds=3)


def test_the_last_failed_try_parks_the_message() -> None:
    message = written(1)
    states = []
    for _ in range(TRIES_MAX):
        message = message.failed("OSError", at=AT, retry_in=timedelta())
        states.append(message.state)
    assert states == [State.PENDING] * (TRIES_MAX - 1) + [State.PARKED]


def test_what_can_never_be_sent_is_parked_at_once() -> None:
    parked = written(1).given_up("NO_ADDRESS")
    assert (parked.state, parked.tries, parked.problem) == (State.PARKED, 1, "NO_ADDRESS")
