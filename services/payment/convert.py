"""Contract ⇄ domain, pure. Ids are lower-cased at the door: a UUID names the same thing in either case."""

from typing import Final

from bodega.payment.v1 import payment_pb2 as pb

from services.chassis import wire
from services.kernel.money import Money
from services.payment.decisions import Authorization
from services.payment.domain import Kind, Operation, Outcome, Payment, State
from services.payment.methods import PaymentMethod

_STATES: Final = {
    State.UNKNOWN: pb.Payment.STATE_UNKNOWN,
    State.AUTHORIZED: pb.Payment.STATE_AUTHORIZED,
    State.CAPTURED: pb.Payment.STATE_CAPTURED,
    State.REFUNDED: pb.Payment.STATE_REFUNDED,
    State.PARTIALLY_REFUNDED: pb.Payment.STATE_PARTIALLY_REFUNDED,
    State.DECLINED: pb.Payment.STATE_DECLINED,
    State.VOIDED: pb.Payment.STATE_VOIDED,
}
_KINDS: Final = {
    Kind.AUTHORIZE: pb.Transaction.KIND_AUTHORIZE,
    Kind.CAPTURE: pb.Transaction.KIND_CAPTURE,
    Kind.VOID: pb.Transaction.KIND_VOID,
    Kind.REFUND: pb.Transaction.KIND_REFUND,
}
_OUTCOMES: Final = {
    Outcome.UNKNOWN: pb.Transaction.OUTCOME_UNKNOWN,
    Outcome.SUCCEEDED: pb.Transaction.OUTCOME_SUCCEEDED,
    Outcome.DECLINED: pb.Transaction.OUTCOME_DECLINED,
}


def amount_asked(
    request: pb.CapturePaymentRequest | pb.RefundPaymentRequest,
) -> Money | None:
    """None where the request leaves it open. Raises as `money_from_proto`."""
    return wire.money_from_proto(request.amount) if request.HasField("amount") else None


def authorization_from_proto(
    request: pb.AuthorizePaymentRequest | pb.ProcessPaymentRequest,
) -> Authorization:
    """Raises as `money_from_proto`."""
    return Authorization(
        order_id=wire.uuid_key(request.order_id),
        user_id=wire.uuid_key(request.user_id),
        payment_method_id=wire.uuid_key(request.payment_method_id),
        amount=wire.money_from_proto(request.amount),
    )


def state_from_proto(state: pb.Payment.State.ValueType) -> State | None:
    """None for any."""
    return next((known for known, message in _STATES.items() if message == state), None)


def payment_to_proto(payment: Payment) -> pb.Payment:
    """A tombstone has no amounts: nobody ever said how much it would have been."""
    made = pb.Payment(
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        user_id=payment.user_id,
        payment_method_id=payment.payment_method_id,
        state=_STATES[payment.state],
        decline_code=payment.decline_code,
        create_time=wire.timestamp(payment.created_at),
        update_time=wire.timestamp(payment.updated_at),
    )
    if payment.payment_id:
        made.amount.CopyFrom(wire.money_to_proto(payment.amount))
        made.captured_amount.CopyFrom(wire.money_to_proto(payment.captured))
        made.refunded_amount.CopyFrom(wire.money_to_proto(payment.refunded))
    return made


def transaction_to_proto(payment_id: str, operation: Operation) -> pb.Transaction:
    return pb.Transaction(
        transaction_id=operation.operation_id,
        payment_id=payment_id,
        kind=_KINDS[operation.kind],
        outcome=_OUTCOMES[operation.outcome],
        amount=wire.money_to_proto(operation.amount),
        provider_reference=operation.reference,
        decline_code=operation.decline_code,
        create_time=wire.timestamp(operation.begun_at),
        settle_time=wire.timestamp(operation.settled_at) if operation.settled_at else None,
    )


def method_to_proto(method: PaymentMethod) -> pb.PaymentMethod:
    return pb.PaymentMethod(
        payment_method_id=method.id,
        user_id=method.user_id,
        provider=method.provider,
        brand=method.card.brand,
        last_four=method.card.last_four,
        is_default=method.is_default,
        create_time=wire.timestamp(method.created_at),
    )
