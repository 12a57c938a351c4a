"""Reactions to others' events: for an order that has ended nobody pays any more."""

from bodega.order.v1 import order_events_pb2

from services.chassis.events.envelope import Envelope
from services.chassis.service import Reactions
from services.kernel.clock import Clock
from services.payment.operations import Operations
from services.payment.store import Transaction

Ended = order_events_pb2.OrderRejected | order_events_pb2.OrderCancelled


def reactions(operations: Operations, *, clock: Clock) -> Reactions[Transaction]:
    """What the payment service does about others' events."""

    def on_order_ended(tx: Transaction, envelope: Envelope, _: Ended) -> None:
        operations.close(tx, envelope.subject, now=clock.now())

    ended = (order_events_pb2.OrderRejected, order_events_pb2.OrderCancelled)
    return {"order": {event.DESCRIPTOR.full_name: on_order_ended for event in ended}}
