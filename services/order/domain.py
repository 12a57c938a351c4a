"""The life of an order: what may happen to it, and what to do for it next.

Pure. An order is what its events say (`replay`); commands return the order with the new events pending,
`save` writes both together. What to do next is a function of the order alone, so a saga that was killed
anywhere goes on anywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.kernel import errors
from services.kernel.money import AMOUNT_MINOR_MAX, Money


class State(StrEnum):
    """Where an order stands."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    REJECTING = "REJECTING"
    REJECTED = "REJECTED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


class Step(StrEnum):
    """What the house does for an order: four steps forward, two that undo."""

    RESERVE_STOCK = "RESERVE_STOCK"
    AUTHORIZE_PAYMENT = "AUTHORIZE_PAYMENT"
    COMMIT_STOCK = "COMMIT_STOCK"
    CAPTURE_PAYMENT = "CAPTURE_PAYMENT"
    VOID_PAYMENT = "VOID_PAYMENT"
    RELEASE_STOCK = "RELEASE_STOCK"


# Money moves last, when the goods are already ours to give.
FORWARD: Final = (Step.RESERVE_STOCK, Step.AUTHORIZE_PAYMENT, Step.COMMIT_STOCK, Step.CAPTURE_PAYMENT)
UNDO_BOTH: Final = (Step.VOID_PAYMENT, Step.RELEASE_STOCK)

# A definite refusal of a step proves that no later step ever ran: only what came before it is undone.
UNDO_AFTER_REFUSED: Final[dict[Step, tuple[Step, ...]]] = {
    Step.RESERVE_STOCK: (),
    Step.AUTHORIZE_PAYMENT: (Step.RELEASE_STOCK,),
    Step.COMMIT_STOCK: UNDO_BOTH,
    Step.CAPTURE_PAYMENT: UNDO_BOTH,
}

SETTLED: Final = frozenset({State.CONFIRMED, State.REJECTED, State.CANCELLED})
ENDED: Final = frozenset({State.REJECTED, State.CANCELLED})
CANCELLABLE: Final = frozenset({State.PENDING, State.CONFIRMED})

TIMED_OUT: Final = "TIMED_OUT"
COMPENSATION_FORCED: Final = "COMPENSATION_FORCED"


class OrderNotFound(errors.NotFound):
    """There is no order {order_id}."""


class OrderNotCancellable(errors.WrongState):
    """Order {order_id} is {state}; only a pending or confirmed order can be cancelled."""


class OrderNotCompensatable(errors.WrongState):
    """Order {order_id} is {state}; only an order under way can be given up."""


class OrderSettled(errors.WrongState):
    """Order {order_id} is {state}; there is nothing to resume."""


class BuyerNotFound(errors.NotFound):
    """There is no user {user_id}."""


class UserNotActive(errors.WrongState):
    """User {user_id} may not buy: the account is {state}."""


class ProductNotFound(errors.NotFound):
    """There is no product {product_id}."""


class PriceChanged(errors.WrongState):
    """The order costs {total}, not {expected_total} as expected."""


class CurrencyMismatch(errors.Invalid):
    """Product {product_id} is priced in {product_currency}, not in {currency}."""

    field = "currency"


class OrderTooLarge(errors.Invalid):
    """An order of {total} is more than this shop can count."""

    field = "lines"


@dataclass(frozen=True, slots=True)
class Line:
    """One product of an order, as it was named and priced when the order was accepted."""

    product_id: str
    sku: str
    name: str
    quantity: int
    unit_price: Money

    @property
    def total(self) -> Money:
        return self.unit_price * self.quantity


@dataclass(frozen=True, slots=True)
class Placed:
    """The order was accepted."""

    user_id: str
    lines: tuple[Line, ...]
    total: Money
    payment_method_id: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step was done, in `attempts` calls; `reference` is what the participant calls it."""

    step: Step
    attempts: int
    reference: str = ""


@dataclass(frozen=True, slots=True)
class StepRefused:
    """A step was refused for a reason that the step itself lists."""

    step: Step
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepGivenUp:
    """Patience with a step ended; it MAY have been done."""

    step: Step
    attempts: int
    last_outcome: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody called the order off."""

    reason: str


@dataclass(frozen=True, slots=True)
class CompensationForced:
    """An operator had the order give back everything."""

    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Stock and money are settled."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The order holds nothing any more and came to nothing."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The order holds nothing any more and was called off."""


@dataclass(frozen=True, slots=True)
class NeedsAttention:
    """The order has tried a step for so long that a person should look."""

    step: Step
    attempts: int


@dataclass(frozen=True, slots=True)
class LateMoneyReturned:
    """Money that turned up after the order was given up went back; `amount` is None if it was only held."""

    payment_id: str
    amount: Money | None


Fact = (
    Placed
    | StepDone
    | StepRefused
    | StepGivenUp
    | CancelRequested
    | CompensationForced
    | Confirmed
    | Rejected
    | Cancelled
    | NeedsAttention
    | LateMoneyReturned
)
Outcome = StepDone | StepRefused | StepGivenUp


@dataclass(frozen=True, slots=True)
class Event:
    """One fact, and when it happened."""

    fact: Fact
    at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """What someone buys, and how far that has come."""

    id: str
    user_id: str
    lines: tuple[Line, ...]
    total: Money
    payment_method_id: str
    create_time: datetime
    update_time: datetime
    state: State = State.PENDING
    version: int = 0
    to_do: tuple[Step, ...] = FORWARD
    rejection_reason: str = ""
    cancel_reason: str = ""
    needs_attention: bool = False
    reservation_id: str = ""
    payment_id: str = ""
    pending_events: tuple[Event, ...] = ()  # what happened since load; save() writes it with the state

    @property
    def saved_version(self) -> int:
        """The version the store has: the one an append expects to follow."""
        return self.version - len(self.pending_events)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way."""
        return self.state in SETTLED

    def cancel(self, *, reason: str, at: datetime) -> "Order":
        """Calls the order off, whatever is in flight; once it is called off, changes nothing."""
        if self.state in (State.CANCELLING, State.CANCELLED):
            return self
        if self.state not in CANCELLABLE:
            raise OrderNotCancellable(order_id=self.id, state=self.state)
        return self.record(CancelRequested(reason), at=at)

    def give_up(self, *, reason: str, at: datetime) -> "Order":
        """Starts giving back everything; while that is under way, changes nothing."""
        if self.state in (State.REJECTING, State.CANCELLING):
            return self
        if self.state is not State.PENDING:
            raise OrderNotCompensatable(order_id=self.id, state=self.state)
        return self.record(CompensationForced(reason), at=at)

    def apply(self, outcome: Outcome, *, at: datetime) -> "Order":
        """What a call to a participant came to, and the end of the order if that was the last."""
        assert outcome.step is next_step(self), f"{outcome.step} was not the next step of order {self.id}"
        order = self.record(outcome, at=at)
        return order if order.to_do or order.is_settled else order.record(_END[order.state], at=at)

    def raise_attention(self, step: Step, attempts: int, *, at: datetime) -> "Order":
        """Says that a person should look; once is enough."""
        return self if self.needs_attention else self.record(NeedsAttention(step, attempts), at=at)

    def note_late_money(self, payment_id: str, amount: Money | None, *, at: datetime) -> "Order":
        """Has the history say that late money went back. It resurrects nothing."""
        return self.record(LateMoneyReturned(payment_id, amount), at=at)

    def record(self, fact: Fact, *, at: datetime) -> "Order":
        event = Event(fact, at)
        return replace(_evolved(self, event), pending_events=(*self.pending_events, event))

    def saved(self) -> "Order":
        """The same order once the store has it."""
        return replace(self, pending_events=())


# What an order becomes when nothing is left to do.
_END: Final[dict[State, Fact]] = {
    State.PENDING: Confirmed(),
    State.REJECTING: Rejected(),
    State.CANCELLING: Cancelled(),
}


def next_step(order: Order) -> Step | None:
    """What to do for the order now; None if nothing is under way."""
    return order.to_do[0] if order.to_do else None


def total_of(lines: Iterable[Line], currency: str) -> Money:
    """What the lines cost together. Raises CurrencyMismatch or OrderTooLarge."""
    total = Money.zero(currency)
    for line in lines:
        if line.unit_price.currency != currency:
            raise CurrencyMismatch(
                product_id=line.product_id, product_currency=line.unit_price.currency, currency=currency
            )
        total += line.total
    if total.amount_minor > AMOUNT_MINOR_MAX:
        raise OrderTooLarge(total=total)
    return total


def place(order_id: str, placed: Placed, *, at: datetime) -> Order:
    """A new order, accepted."""
    event = Event(placed, at)
    return replace(_begun(order_id, event), pending_events=(event,))


def replay(order_id: str, events: Iterable[Event]) -> Order:
    """The order that these events, in order, made. Raises OrderNotFound if there are none."""
    order: Order | None = None
    for event in events:
        order = _evolved(order, event) if order else _begun(order_id, event)
    if order is None:
        raise OrderNotFound(order_id=order_id)
    return order


def _begun(order_id: str, event: Event) -> Order:
    assert isinstance(event.fact, Placed), f"order {order_id} begins with {event.fact}"
    return Order(
        id=order_id,
        user_id=event.fact.user_id,
        lines=event.fact.lines,
        total=event.fact.total,
        payment_method_id=event.fact.payment_method_id,
        create_time=event.at,
        update_time=event.at,
        version=1,
    )


def _evolved(order: Order, event: Event) -> Order:
    """The order after the event. Never refuses: what happened, happened."""
    after = replace(order, version=order.version + 1, update_time=event.at)
    match event.fact:
        case StepDone(step=step):
            return _stepped(after, event.fact, to_do=tuple(s for s in order.to_do if s is not step))
        case StepRefused(step=step, reason=reason):
            return _rejecting(after, reason, UNDO_AFTER_REFUSED[step])
        case StepGivenUp():
            return _rejecting(after, TIMED_OUT, UNDO_BOTH)
        case CompensationForced():
            return _rejecting(after, COMPENSATION_FORCED, UNDO_BOTH)
        case CancelRequested(reason=reason):
            return replace(after, state=State.CANCELLING, cancel_reason=reason, to_do=UNDO_BOTH)
        case Confirmed():
            return replace(after, state=State.CONFIRMED, needs_attention=False)
        case Rejected():
            return replace(after, state=State.REJECTED, needs_attention=False)
        case Cancelled():
            return replace(after, state=State.CANCELLED, needs_attention=False)
        case NeedsAttention():
            return replace(after, needs_attention=True)
        case LateMoneyReturned():
            return after
        case Placed():
            raise AssertionError(f"order {order.id} is placed twice")


def _stepped(order: Order, done: StepDone, *, to_do: tuple[Step, ...]) -> Order:
    match done.step:
        case Step.RESERVE_STOCK:
            return replace(order, to_do=to_do, reservation_id=done.reference)
        case Step.AUTHORIZE_PAYMENT:
            return replace(order, to_do=to_do, payment_id=done.reference)
        case _:
            return replace(order, to_do=to_do)


def _rejecting(order: Order, reason: str, to_do: tuple[Step, ...]) -> Order:
    return replace(order, state=State.REJECTING, rejection_reason=reason, to_do=to_do)
