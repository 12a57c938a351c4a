"""What each fact says to whom: a plain function per event. Pure.

Every event listed here is told; any other is not. An order that needs attention is the shop's business, not
the buyer's; that an order was placed they have just seen themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bodega.order.v1 import order_events_pb2 as orders
from bodega.payment.v1 import payment_events_pb2 as payments
from bodega.user.v1 import user_events_pb2 as users
from google.type.money_pb2 import Money as MoneyMessage

from services.kernel.money import Money
from services.notification.domain import Message

Template = Callable[[Any], Message]

_WHY_REJECTED: Final = {
    "OUT_OF_STOCK": "something in it is out of stock",
    "PAYMENT_DECLINED": "the payment was declined",
}


def order_confirmed(event: orders.OrderConfirmed) -> Message:
    return _of_order(
        event, "Order confirmed", f"Your order {event.order_id} over {_amount(event.total)} is paid."
    )


def order_rejected(event: orders.OrderRejected) -> Message:
    why = _WHY_REJECTED.get(event.reason, "it could not be completed")
    body = f"Your order {event.order_id} came to nothing because {why}. You are not charged for it."
    return _of_order(event, "Order rejected", body)


def order_cancelled(event: orders.OrderCancelled) -> Message:
    """Without the reason: those are somebody's own words, and this may show up anywhere."""
    body = f"Your order {event.order_id} is cancelled. Whatever was taken for it is given back."
    return _of_order(event, "Order cancelled", body)


def payment_declined(event: payments.PaymentDeclined) -> Message:
    body = f"The payment of {_amount(event.amount)} for your order {event.order_id} was declined."
    return _of_order(event, "Payment declined", body)


def payment_refunded(event: payments.PaymentRefunded) -> Message:
    body = f"{_amount(event.amount)} for your order {event.order_id} are on their way back to you."
    return _of_order(event, "Payment refunded", body)


def user_registered(event: users.UserRegistered) -> Message:
    return Message(event.user_id, "Welcome", "Your account is registered and waits to be activated.")


def user_activated(event: users.UserActivated) -> Message:
    return Message(event.user_id, "Account activated", "Your account is active: you can buy now.")


def user_suspended(event: users.UserSuspended) -> Message:
    return Message(event.user_id, "Account suspended", "Your account is suspended: you cannot buy for now.")


def user_reinstated(event: users.UserReinstated) -> Message:
    return Message(event.user_id, "Account reinstated", "Your account is active again.")


def user_deactivated(event: users.UserDeactivated) -> Message:
    return Message(event.user_id, "Account closed", "Your account is closed. Thank you for having been here.")


TEMPLATES: Final[Mapping[str, Mapping[str, Template]]] = {
    "order": {
        orders.OrderConfirmed.DESCRIPTOR.full_name: order_confirmed,
        orders.OrderRejected.DESCRIPTOR.full_name: order_rejected,
        orders.OrderCancelled.DESCRIPTOR.full_name: order_cancelled,
    },
    "payment": {
        payments.PaymentDeclined.DESCRIPTOR.full_name: payment_declined,
        payments.PaymentRefunded.DESCRIPTOR.full_name: payment_refunded,
    },
    "user": {
        users.UserRegistered.DESCRIPTOR.full_name: user_registered,
        users.UserActivated.DESCRIPTOR.full_name: user_activated,
        users.UserSuspended.DESCRIPTOR.full_name: user_suspended,
        users.UserReinstated.DESCRIPTOR.full_name: user_reinstated,
        users.UserDeactivated.DESCRIPTOR.full_name: user_deactivated,
    },
}
"""By the service whose facts they are, then by the full name of the event."""


def _of_order(event: Any, title: str, body: str) -> Message:
    return Message(event.user_id, title, body, order_id=event.order_id)


def _amount(amount: MoneyMessage) -> str:
    return str(Money.of(amount.units, amount.nanos, amount.currency_code))
