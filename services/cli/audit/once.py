"""Once: one request id, one order, one message about each thing that became of it."""

from collections import Counter
from typing import Any, Final

import sqlalchemy as sa
from bodega.order.v1 import order_events_pb2, order_pb2
from bodega.payment.v1 import payment_events_pb2
from google.protobuf.message import Message

from services.chassis.storage import idempotency
from services.cli.audit.books import Books, CrossCheck, Differences
from services.notification.tables import notifications
from services.notification.templates import TEMPLATES
from services.order import audit as orders
from services.order.domain import State

_CALLS: Final = idempotency.define(sa.MetaData())
_CREATE: Final = "/bodega.order.v1.OrderService/CreateOrder"

_TELLS: Final[dict[State, type[Message]]] = {
    State.CONFIRMED: order_events_pb2.OrderConfirmed,
    State.REJECTED: order_events_pb2.OrderRejected,
    State.CANCELLED: order_events_pb2.OrderCancelled,
    State.SHIPPED: order_events_pb2.OrderShipped,
    State.DELIVERED: order_events_pb2.OrderDelivered,
    # It is payment who tells of refunds, whatever set them off.
    State.PARTIALLY_REFUNDED: payment_events_pb2.PaymentRefunded,
    State.REFUNDED: payment_events_pb2.PaymentRefunded,
}
_TYPES: Final = {
    state: name
    for state, event in _TELLS.items()
    if any((name := event.DESCRIPTOR.full_name) in told for told in TEMPLATES.values())
}
"""What a buyer is told of an order that has come to a state; of the others nobody is told."""

_SAID_OFTEN: Final = payment_events_pb2.PaymentRefunded.DESCRIPTOR.full_name
"""Of an order there may be several of these, one for each refund."""


def _requests(books: Books) -> Differences:
    """Of the last day, which is how long request ids are remembered."""
    rows = books.order.execute(
        sa.select(_CALLS.c.request_id, _CALLS.c.reply).where(
            _CALLS.c.scope.endswith(_CREATE), _CALLS.c.reply.is_not(None)
        )
    ).all()
    standings = orders.standings(books.order)
    found = Differences({"requests": len(rows), "orders": len(standings)})
    request_of: dict[str, str] = {}
    for row in rows:
        order_id = order_pb2.Order.FromString(row.reply).order_id
        if order_id not in standings:
            found.add(row.request_id, f"request {row.request_id}: its order {order_id} does not exist")
        other = request_of.setdefault(order_id, row.request_id)
        if other != row.request_id:
            found.add(row.request_id, f"requests {other} and {row.request_id}: both are order {order_id}")
    return found


def _messages(books: Books) -> Differences:
    standings = orders.standings(books.order)
    rows = books.notification.execute(
        sa.select(notifications.c.order_id, notifications.c.event_type, notifications.c.event_id).where(
            notifications.c.event_type.in_(set(_TYPES.values()))
        )
    )
    messages = Counter((row.order_id, row.event_type, _occasion(row)) for row in rows)
    told = {(order_id, event_type) for order_id, event_type, _ in messages}
    found = Differences({"messages": messages.total()})
    for (order_id, event_type, occasion), number in messages.items():
        if number > 1:
            key = f"{order_id} {event_type} {occasion}".rstrip()
            found.add(key, f"order {order_id}: {number} messages of {event_type}")
    for order in standings.values():
        if order.is_settled and order.state in _TYPES and _is_told(order):
            found.count("settled_orders")
            if (order.order_id, _TYPES[order.state]) not in told:
                found.add(order.order_id, f"order {order.order_id}: {order.state}, and nobody was told")
    return found


def _is_told(order: orders.Standing) -> bool:
    """Of what was refunded before it was taken nothing comes back, and payment tells nothing of it.

    The order does, by an event that did not say so in earlier releases; nobody is to be blamed for those.
    """
    return order.given_back_minor > 0 or _TYPES[order.state] != _SAID_OFTEN


def _occasion(row: sa.Row[*tuple[Any, ...]]) -> str:
    return str(row.event_id) if row.event_type == _SAID_OFTEN else ""


CHECKS: Final = (
    CrossCheck("once.requests", "One request id is one order, and that order exists.", _requests),
    CrossCheck(
        "once.messages", "What became of an order is told its buyer once.", _messages, needs_streams=True
    ),
)
