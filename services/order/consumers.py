"""Reactions to others' events: late money that went back stands in the order's history."""

from typing import Final

from bodega.payment.v1 import payment_events_pb2

from services.chassis import wire
from services.chassis.events.envelope import Envelope
from services.chassis.service import Reactions
from services.order.refusals import OrderNotFound
from services.order.store import Transaction


def on_payment_refunded(
    tx: Transaction, envelope: Envelope, message: payment_events_pb2.PaymentRefunded
) -> None:
    if not message.late:
        return
    try:
        order = tx.orders.get(envelope.subject)
    except OrderNotFound:
        return  # paid for outside orders (ProcessPayment), under an id of the payer's own
    amount = wire.money_from_proto(message.amount)
    tx.orders.save(order.note_late_money(message.payment_id, amount, at=envelope.time))


REACTIONS: Final[Reactions[Transaction]] = {
    "payment": {"bodega.payment.v1.PaymentRefunded": on_payment_refunded},
}
