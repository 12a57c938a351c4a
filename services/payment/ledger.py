"""The ledger: every movement of money is one entry of two lines that sum to zero. Pure.

Debits are above zero, credits below. A hold moves no money and has no entry.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.kernel.money import Money
from services.payment.domain import Kind
from services.payment.facts import Captured, Event, Refunded


class Account(StrEnum):
    """Where money can be."""

    PROVIDER_CLEARING = "provider_clearing"
    """What the provider owes us: taken from customers and not yet paid out."""

    SALES = "sales"
    """What customers paid for goods, less what was given back to them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One side of an entry."""

    account: Account
    amount: Money


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement of money; its id is that of the operation that moved it, so it is written once."""

    entry_id: str
    kind: Kind
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        first, *others = (line.amount for line in self.lines)
        assert not sum(others, first), "an entry sums to zero"


def entry_for(event: Event) -> Entry | None:
    """What the ledger says of an event; None if no money moved."""
    match event:
        case Captured(operation_id, amount):
            return _moved(
                operation_id,
                Kind.CAPTURE,
                debit=Account.PROVIDER_CLEARING,
                credit=Account.SALES,
                amount=amount,
            )
        case Refunded(operation_id, amount):
            return _moved(
                operation_id,
                Kind.REFUND,
                debit=Account.SALES,
                credit=Account.PROVIDER_CLEARING,
                amount=amount,
            )
        case _:
            return None


def _moved(entry_id: str, kind: Kind, *, debit: Account, credit: Account, amount: Money) -> Entry:
    return Entry(entry_id, kind, (Line(debit, amount), Line(credit, -amount)))
