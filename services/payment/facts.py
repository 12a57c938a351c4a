"""What may happen to a payment. Pure values."""

from dataclasses import dataclass

from services.kernel.money import Money


@dataclass(frozen=True, slots=True)
class Authorized:
    amount: Money


@dataclass(frozen=True, slots=True)
class Declined:
    amount: Money
    code: str


@dataclass(frozen=True, slots=True)
class Captured:
    operation_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Voided:
    """Nothing is held any more and nothing was taken."""


@dataclass(frozen=True, slots=True)
class Refunded:
    operation_id: str
    amount: Money


Event = Authorized | Declined | Captured | Voided | Refunded
