"""The money of one order: pure.

A payment is the list of its operations at the provider, at most one of them unanswered; its state, what was
captured and what was refunded all follow from that list. `closed` is the wish that the money come to nothing,
for ever: once it is there, whoever finds something held or taken undoes it. `direct` is the wish that what is
held be taken at once. Whoever comes upon a payment does what is still due of either (`next_step`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.kernel import ids
from services.kernel.money import Money
from services.payment.facts import Authorized, Captured, Declined, Event, Refunded, Voided

FOUND = "found"  # in the keys of operations that we learnt of from the provider's books
NO_CURRENCY = "XXX"  # ISO 4217: no currency is involved; what a tombstone amounts to


class State(StrEnum):
    """What became of a payment; names as in the proto."""

    UNKNOWN = "UNKNOWN"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"


class Kind(StrEnum):
    """What a provider can be asked to do."""

    AUTHORIZE = "AUTHORIZE"
    CAPTURE = "CAPTURE"
    VOID = "VOID"
    REFUND = "REFUND"


class Outcome(StrEnum):
    """What came of an operation."""

    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one authorization stands in the provider's books."""

    reference: str
    payment_id: str
    held: bool
    captured: Money
    refunded: Money


@dataclass(frozen=True, slots=True)
class Done:
    """The provider has done it."""

    reference: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider has definitely not done it."""

    code: str
    standing: Standing | None = None
    """How the authorization stands instead, where there is one."""


Answer = Done | Refused


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the provider was asked to do; `key` makes asking again harmless."""

    number: int
    kind: Kind
    key: str
    amount: Money
    begun_at: datetime
    refund_id: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    reference: str = ""
    decline_code: str = ""
    settled_at: datetime | None = None

    @property
    def operation_id(self) -> str:
        return ids.derived("payment operation", self.key)

    def settled(self, answer: Answer, at: datetime) -> "Operation":
        match answer:
            case Done(reference):
                return replace(self, outcome=Outcome.SUCCEEDED, reference=reference, settled_at=at)
            case Refused(code):
                return replace(self, outcome=Outcome.DECLINED, decline_code=code, settled_at=at)


@dataclass(frozen=True, slots=True)
class Payment:
    """The money of one order."""

    order_id: str
    payment_id: str
    """Empty for a tombstone: the order was voided before anything was authorized."""

    user_id: str
    payment_method_id: str
    amount: Money
    created_at: datetime
    updated_at: datetime
    closed: bool = False
    direct: bool = False
    """Whether it is captured as soon as it is authorized, and given up if that is refused."""

    operations: tuple[Operation, ...] = ()
    version: int = 0
    pending_events: tuple[Event, ...] = ()

    @classmethod
    def begun(
        cls,
        *,
        order_id: str,
        payment_id: str,
        user_id: str,
        payment_method_id: str,
        amount: Money,
        at: datetime,
        direct: bool = False,
    ) -> "Payment":
        """A payment whose authorization is about to be asked for."""
        opened = cls(order_id, payment_id, user_id, payment_method_id, amount, at, at, direct=direct)
        return opened._asking(Kind.AUTHORIZE, amount, at)

    @classmethod
    def tombstone(cls, *, order_id: str, at: datetime) -> "Payment":
        """What a void leaves behind where it found nothing."""
        nothing = cls(order_id, "", "", "", Money.zero(NO_CURRENCY), at, at, closed=True)
        return _told(nothing, Voided())

    @property
    def state(self) -> State:
        if self.pending is not None:
            return State.UNKNOWN
        if self.captured:
            if not self.refunded:
                return State.CAPTURED
            return State.PARTIALLY_REFUNDED if self.left else State.REFUNDED
        if self._succeeded(Kind.VOID) or not self.operations:
            return State.VOIDED
        return State.AUTHORIZED if self._succeeded(Kind.AUTHORIZE) else State.DECLINED

    @property
    def pending(self) -> Operation | None:
        """The operation the provider has not answered; the next one is not begun before it has."""
        last = self.operations[-1] if self.operations else None
        return last if last is not None and last.outcome is Outcome.UNKNOWN else None

    @property
    def captured(self) -> Money:
        return self._total(Kind.CAPTURE)

    @property
    def refunded(self) -> Money:
        return self._total(Kind.REFUND)

    @property
    def left(self) -> Money:
        """How much was taken and not given back; never below zero."""
        return max(self.captured - self.refunded, Money.zero(self.amount.currency))

    @property
    def authorization(self) -> str:
        """What the provider calls the hold; empty unless there was one."""
        return next((done.reference for done in self._succeeded(Kind.AUTHORIZE)), "")

    @property
    def decline_code(self) -> str:
        """Why it is DECLINED; empty otherwise."""
        return self._code(Kind.AUTHORIZE)

    @property
    def capture_code(self) -> str:
        """Why the provider would not let us capture; empty if it would."""
        return self._code(Kind.CAPTURE)

    @property
    def can_capture(self) -> bool:
        return self.state is State.AUTHORIZED and not self.closed and not self.capture_code

    @property
    def next_undo(self) -> Kind | None:
        """What must still be asked for to bring a closed payment to nothing."""
        if not self.closed:
            return None
        return _UNDONE_BY.get(self.state)

    @property
    def next_step(self) -> Kind | None:
        """What is still to be asked for, by whoever comes, to have what was wished for."""
        return Kind.CAPTURE if self.direct and self.can_capture else self.next_undo

    @property
    def turned_up_late(self) -> bool:
        """Whether the provider took money that nobody here had asked for any more."""
        return self.closed and any(
            done.kind is Kind.CAPTURE and done.key.startswith(f"{self.payment_id}/{FOUND}/")
            for done in self.operations
        )

    @property
    def at_rest(self) -> bool:
        """Nothing is unanswered and nothing remains to be done."""
        return self.pending is None and self.next_step is None

    def can_take(self, amount: Money | None) -> bool:
        """Whether `amount` can be captured; None is all that is authorized. Raises CurrencyMismatch."""
        return self.can_capture and (amount is None or amount <= self.amount)

    def stands_for(self, refund_id: str, amount: Money | None) -> bool:
        """Whether a refund of this id, if there was one, was of this amount; None is whatever it was."""
        asked = [one.amount for one in self.operations if refund_id and one.refund_id == refund_id]
        return amount is None or not asked or asked[-1] == amount

    def can_refund(self, refund_id: str, amount: Money | None = None) -> bool:
        """Whether `amount` is left to be given back; None is all that is. Raises CurrencyMismatch."""
        open_to_it = self.state in (State.CAPTURED, State.PARTIALLY_REFUNDED) and not self.closed
        fits = amount is None or amount <= self.left
        return open_to_it and fits and not self.has_refund(refund_id)

    def has_refund(self, refund_id: str) -> bool:
        return any(refund.refund_id == refund_id for refund in self._succeeded(Kind.REFUND))

    def capture(self, amount: Money | None = None, *, at: datetime) -> "Payment":
        """Begins to take a part, or all, of what is held; the rest is given up with it."""
        assert self.can_take(amount)
        return self._asking(Kind.CAPTURE, amount or self.amount, at)

    def refund(self, *, refund_id: str, amount: Money | None = None, at: datetime) -> "Payment":
        """Begins to give back a part, or all, of what is left."""
        assert self.can_refund(refund_id, amount)
        return self._asking(Kind.REFUND, amount or self.left, at, refund_id=refund_id)

    def close(self, *, at: datetime) -> "Payment":
        """From now on this money is to come to nothing; closing again changes nothing."""
        return self if self.closed else replace(self, closed=True, updated_at=at)

    def go_on(self, *, at: datetime) -> "Payment":
        """Begins `next_step`."""
        match self.next_step:
            case Kind.CAPTURE:
                return self.capture(at=at)
            case Kind.REFUND:
                refund_id = ids.derived("payment undo", self.payment_id)
                return self._asking(Kind.REFUND, self.left, at, refund_id=refund_id)
            case kind:
                assert kind is Kind.VOID
                return self._asking(Kind.VOID, self.amount, at)

    def settle(self, key: str, answer: Answer, *, at: datetime) -> "Payment":
        """The provider has answered. An answer that is known already changes nothing."""
        asked = self.pending
        if asked is None or asked.key != key:
            return self
        done = asked.settled(answer, at)
        settled = replace(self, operations=(*self.operations[:-1], done), updated_at=at)
        match answer:
            case Done():
                return _told(settled, _fact(done))
            case Refused(code) if done.kind is Kind.AUTHORIZE:
                return _told(settled, Declined(self.amount, code))
            case Refused(standing=Standing() as standing):
                settled = settled.adopt(standing, at=at)
        # A direct payment that cannot be captured is nobody's wish any more.
        given_up = settled.direct and settled.state is State.AUTHORIZED and done.kind is Kind.CAPTURE
        return settled.close(at=at) if given_up else settled

    def adopt(self, standing: Standing, *, at: datetime) -> "Payment":
        """Takes over what the provider's books know beyond ours: captured, refunded, no longer held.

        Only forward; what we know and they do not is left to the audit. Not while an operation is pending,
        whose own answer would then count twice.
        """
        assert self.pending is None
        found = self
        for kind, total in ((Kind.CAPTURE, standing.captured), (Kind.REFUND, standing.refunded)):
            missing = total - self._total(kind) if total else total
            if missing.amount_minor > 0:
                found = _found(found, kind, missing, at)
        if found.next_undo is Kind.VOID and not standing.held:
            found = _found(found, Kind.VOID, found.amount, at)
        return found

    def _asking(self, kind: Kind, amount: Money, at: datetime, *, refund_id: str = "") -> "Payment":
        assert self.pending is None
        asked = Operation(
            number=len(self.operations) + 1,
            kind=kind,
            key=self._key(kind, refund_id),
            amount=amount,
            begun_at=at,
            refund_id=refund_id,
        )
        return replace(self, operations=(*self.operations, asked), updated_at=at)

    def _key(self, kind: Kind, refund_id: str) -> str:
        """Payment, operation, refund id; and which attempt it is, for a key repeats its answer for ever."""
        parts = [self.payment_id, kind.lower(), *filter(None, [refund_id])]
        earlier = sum(tried.kind is kind and tried.refund_id == refund_id for tried in self.operations)
        return "/".join([*parts, *([str(earlier + 1)] if earlier else [])])

    def _succeeded(self, kind: Kind) -> tuple[Operation, ...]:
        return tuple(
            done for done in self.operations if done.kind is kind and done.outcome is Outcome.SUCCEEDED
        )

    def _code(self, kind: Kind) -> str:
        refusals = [tried.decline_code for tried in self.operations if tried.kind is kind]
        return refusals[-1] if refusals else ""

    def _total(self, kind: Kind) -> Money:
        return sum((done.amount for done in self._succeeded(kind)), Money.zero(self.amount.currency))


_UNDONE_BY = {
    State.AUTHORIZED: Kind.VOID,
    State.CAPTURED: Kind.REFUND,
    State.PARTIALLY_REFUNDED: Kind.REFUND,
}


def _fact(done: Operation) -> Event:
    match done.kind:
        case Kind.AUTHORIZE:
            return Authorized(done.amount)
        case Kind.CAPTURE:
            return Captured(done.operation_id, done.amount)
        case Kind.REFUND:
            return Refunded(done.operation_id, done.amount)
        case Kind.VOID:
            return Voided()


def _found(payment: Payment, kind: Kind, amount: Money, at: datetime) -> Payment:
    """With an operation that the provider's books have and ours had not."""
    number = len(payment.operations) + 1
    found = Operation(
        number=number,
        kind=kind,
        key=f"{payment.payment_id}/{FOUND}/{number}",
        amount=amount,
        begun_at=at,
        outcome=Outcome.SUCCEEDED,
        reference=payment.authorization,
        settled_at=at,
    )
    changed = replace(payment, operations=(*payment.operations, found), updated_at=at)
    return _told(changed, _fact(found))


def _told(payment: Payment, event: Event) -> Payment:
    return replace(payment, pending_events=(*payment.pending_events, event))
