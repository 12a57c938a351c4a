"""What happened here, as the messages the others read. Pure."""

from bodega.payment.v1 import payment_events_pb2 as pb
from google.protobuf.message import Message

from services.chassis import wire
from services.payment import domain, facts, methods


def to_message(payment: domain.Payment, event: facts.Event) -> Message:
    """Keyed by order."""
    payment_id, order_id, user_id = payment.payment_id, payment.order_id, payment.user_id
    match event:
        case facts.Authorized(amount):
            return pb.PaymentAuthorized(
                payment_id=payment_id,
                order_id=order_id,
                user_id=user_id,
                amount=wire.money_to_proto(amount),
            )
        case facts.Declined(amount, code):
            return pb.PaymentDeclined(
                payment_id=payment_id,
                order_id=order_id,
                user_id=user_id,
                amount=wire.money_to_proto(amount),
                decline_code=code,
            )
        case facts.Captured(_, amount):
            return pb.PaymentCaptured(
                payment_id=payment_id,
                order_id=order_id,
                user_id=user_id,
                amount=wire.money_to_proto(amount),
            )
        case facts.Refunded(_, amount):
            return pb.PaymentRefunded(
                payment_id=payment_id,
                order_id=order_id,
                user_id=user_id,
                amount=wire.money_to_proto(amount),
                late=payment.turned_up_late,
            )
        case facts.Voided():
            return pb.PaymentVoided(payment_id=payment_id, order_id=order_id, user_id=user_id)


def method_to_message(event: methods.MethodEvent) -> Message:
    """Keyed by payment method."""
    match event:
        case methods.PaymentMethodAdded(payment_method_id, user_id):
            return pb.PaymentMethodAdded(payment_method_id=payment_method_id, user_id=user_id)
        case methods.PaymentMethodRemoved(payment_method_id, user_id):
            return pb.PaymentMethodRemoved(payment_method_id=payment_method_id, user_id=user_id)
