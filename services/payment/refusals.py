"""What is refused of a payment, and in which words. Pure values."""

from services.kernel import errors


class PaymentNotFound(errors.NotFound):
    """There is no payment {payment}."""


class PaymentClosed(errors.WrongState):
    """The money of order {order_id} was given up or given back; it takes no further payment."""


class PaymentMismatch(errors.Invalid):
    """Order {order_id} already has another payment: of another amount or kind, by another method or user."""


class PaymentNotCapturable(errors.WrongState):
    """The payment of order {order_id} is {state}; {amount} cannot be captured of it."""


class CaptureRefused(errors.WrongState):
    """The provider does not honour the authorization of order {order_id}: {decline_code}."""


class PaymentNotRefundable(errors.WrongState):
    """The payment of order {order_id} is {state}; refund {refund_id} is more than {left}, which is left."""


class RefundMismatch(errors.Invalid):
    """Refund {refund_id} of order {order_id} stands for another amount."""

    field = "amount"


class PaymentInProgress(errors.Stale):
    """The provider is being asked about order {order_id}; ask again with the same request id."""


class ProviderUnavailable(errors.Unavailable):
    """The payment provider has not answered; ask again with the same request id."""

    retry_after_s = 0.2
