"""Reactions to others' events: late money that went back stands in the order's history."""

from typing import Final

from bodega.payment.v1 import payment_events_pb2

from services.chassis.events.consumer import Reaction
from services.chassis.events.envelope import Envelope
from services.kernel.money import Money
from services.order import convert
from services.order.store import Transaction


def on_payment_refunded(
    tx: Transaction, envelope: Envelope, message: payment_events_pb2.PaymentRefunded
) -> None:
    if message.late:
        _note(tx, envelope, message.payment_id, convert.money_from_proto(message.amount))


def on_payment_voided(tx: Transaction, envelope: Envelope, message: payment_events_pb2.PaymentVoided) -> None:
    if message.late:
        _note(tx, envelope, message.payment_id, None)


def _note(tx: Transaction, envelope: Envelope, payment_id: str, amount: Money | None) -> None:
    order = tx.orders.get(envelope.subject)
    tx.orders.save(order.note_late_money(payment_id, amount, at=envelope.time))


REACTIONS: Final[dict[str, Reaction[Transaction]]] = {
    "bodega.payment.v1.PaymentRefunded": on_payment_refunded,
    "bodega.payment.v1.PaymentVoided": on_payment_voided,
}
