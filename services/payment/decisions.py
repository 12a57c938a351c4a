"""What to answer once nothing more can be asked: pure.

Each returns the refusal, None where the payment itself is the answer. Refusals that are returned are final;
"not now" is raised.
"""

from dataclasses import dataclass

from services.kernel.errors import DomainError
from services.kernel.money import Money
from services.payment.domain import Payment, State
from services.payment.refusals import (
    CaptureRefused,
    PaymentClosed,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotCapturable,
    PaymentNotRefundable,
    ProviderUnavailable,
    RefundMismatch,
)

_GIVEN_UP = (State.VOIDED, State.REFUNDED)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What AuthorizePayment and ProcessPayment ask for."""

    order_id: str
    user_id: str
    payment_method_id: str
    amount: Money

    def is_of(self, payment: Payment) -> bool:
        """Whether this is what the payment was begun for."""
        return (payment.user_id, payment.payment_method_id, payment.amount) == (
            self.user_id,
            self.payment_method_id,
            self.amount,
        )


def authorized(payment: Payment, wanted: Authorization, *, direct: bool = False) -> DomainError | None:
    """Raises PaymentInProgress.

    What was begun in one go is no hold: it is, or will be, taken before the goods are anyone's.
    """
    if payment.closed or payment.state in _GIVEN_UP:
        return PaymentClosed(order_id=payment.order_id)
    if payment.direct is not direct or not wanted.is_of(payment):
        return PaymentMismatch(order_id=payment.order_id)
    _settled(payment)
    return None


def processed(payment: Payment, wanted: Authorization) -> DomainError | None:
    """Raises PaymentInProgress, and ProviderUnavailable where it will have to be asked again."""
    if payment.user_id not in ("", wanted.user_id):
        return PaymentMismatch(order_id=payment.order_id)  # how another's payment stands is theirs to know
    if payment.direct and payment.capture_code and not payment.captured:
        if not payment.at_rest:
            raise ProviderUnavailable  # the hold is not given up yet
        return CaptureRefused(order_id=payment.order_id, decline_code=payment.capture_code)
    if refusal := authorized(payment, wanted, direct=True):
        return refusal
    if payment.next_step:
        raise PaymentInProgress(order_id=payment.order_id)
    return None


def captured(payment: Payment, amount: Money | None = None) -> DomainError | None:
    """Raises PaymentInProgress."""
    if payment.closed or payment.state in _GIVEN_UP:
        return PaymentClosed(order_id=payment.order_id)
    _settled(payment)
    if payment.captured and amount in (None, payment.captured):
        return None
    if code := payment.capture_code:
        return CaptureRefused(order_id=payment.order_id, decline_code=code)
    if payment.can_take(amount):  # authorized since we looked
        raise PaymentInProgress(order_id=payment.order_id)
    return PaymentNotCapturable(
        order_id=payment.order_id, state=payment.state, amount=amount or payment.amount
    )


def voided(payment: Payment) -> DomainError | None:
    """Raises PaymentInProgress, and ProviderUnavailable where it will have to be asked again."""
    _settled(payment)
    if not payment.at_rest:
        raise ProviderUnavailable
    return None


def refunded(payment: Payment, refund_id: str, amount: Money | None = None) -> DomainError | None:
    """Raises PaymentInProgress, and ProviderUnavailable where it will have to be asked again.

    A refund is only answered while nothing else is under way, so that its state says what was given back.
    """
    if not payment.stands_for(refund_id, amount):
        return RefundMismatch(order_id=payment.order_id, refund_id=refund_id)
    _settled(payment)
    if payment.has_refund(refund_id):
        return None
    if payment.can_refund(refund_id, amount):
        raise ProviderUnavailable
    return PaymentNotRefundable(
        order_id=payment.order_id, state=payment.state, refund_id=refund_id, left=payment.left
    )


def _settled(payment: Payment) -> None:
    if payment.pending is not None:
        raise PaymentInProgress(order_id=payment.order_id)
