"""Ways to pay: what a user has the provider's token for. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.kernel import errors


class PaymentMethodNotFound(errors.NotFound):
    """There is no payment method {payment_method_id} to pay with."""


class ProviderTokenRefused(errors.Invalid):
    """The payment provider does not know this token."""

    field = "provider_token"


@dataclass(frozen=True, slots=True)
class Card:
    """What a provider tells of a token."""

    brand: str
    last_four: str


@dataclass(frozen=True, slots=True)
class PaymentMethodAdded:
    payment_method_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class PaymentMethodRemoved:
    payment_method_id: str
    user_id: str


MethodEvent = PaymentMethodAdded | PaymentMethodRemoved


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """One way to pay. Removed ones are kept, and can pay no more."""

    id: str
    user_id: str
    provider: str
    card: Card
    created_at: datetime
    is_default: bool = False
    removed_at: datetime | None = None

    @property
    def can_pay(self) -> bool:
        return self.removed_at is None

    def usable(self) -> "PaymentMethod":
        """Raises PaymentMethodNotFound for a removed one: it is as good as absent."""
        if not self.can_pay:
            raise PaymentMethodNotFound(payment_method_id=self.id)
        return self

    def remove(self, *, at: datetime) -> "PaymentMethod":
        return replace(self, is_default=False, removed_at=self.removed_at or at)
