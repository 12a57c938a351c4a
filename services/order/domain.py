"""The life of an order: what may happen to it, and what to do for it next.

Pure. An order is what its events say (`replay`); commands return the order with the new events pending,
`save` writes both together. What to do next is a function of the order alone, so a saga that was killed
anywhere goes on anywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.kernel.money import AMOUNT_MINOR_MAX, Money
from services.order import refusals
from services.order.facts import (
    Cancelled,
    CancelRequested,
    Capture,
    CaptureRequested,
    CompensationForced,
    Confirmed,
    Delivered,
    Event,
    Fact,
    LateMoneyReturned,
    Line,
    NeedsAttention,
    Outcome,
    Placed,
    Refunded,
    RefundRequested,
    Rejected,
    Shipped,
    Step,
    StepDone,
    StepGivenUp,
    StepRefused,
)


class State(StrEnum):
    """Where an order stands."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    REJECTING = "REJECTING"
    REJECTED = "REJECTED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"


# Money moves last, when the goods are already ours to give.
FORWARD: Final = (Step.RESERVE_STOCK, Step.AUTHORIZE_PAYMENT, Step.COMMIT_STOCK, Step.CAPTURE_PAYMENT)
FIRST_TO_DO: Final = {Capture.CONFIRM: FORWARD, Capture.SHIPMENT: FORWARD[:-1]}
UNDO_BOTH: Final = (Step.VOID_PAYMENT, Step.RELEASE_STOCK)

# A definite refusal of a step proves that no later step ever ran: only what came before it is undone.
UNDO_AFTER_REFUSED: Final[dict[Step, tuple[Step, ...]]] = {
    Step.RESERVE_STOCK: (),
    Step.AUTHORIZE_PAYMENT: (Step.RELEASE_STOCK,),
    Step.COMMIT_STOCK: UNDO_BOTH,
    Step.CAPTURE_PAYMENT: UNDO_BOTH,
}

ENDED: Final = frozenset({State.REJECTED, State.CANCELLED})
STANDING: Final = frozenset(
    {State.CONFIRMED, State.SHIPPED, State.DELIVERED, State.PARTIALLY_REFUNDED, State.REFUNDED}
)
REFUNDABLE: Final = STANDING - {State.REFUNDED}

TIMED_OUT: Final = "TIMED_OUT"
COMPENSATION_FORCED: Final = "COMPENSATION_FORCED"


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
    capture: Capture
    to_do: tuple[Step, ...]
    state: State = State.PENDING
    version: int = 0
    rejection_reason: str = ""
    cancel_reason: str = ""
    needs_attention: bool = False
    reservation_id: str = ""
    payment_id: str = ""
    to_capture: Money | None = None  # what CaptureRequested says
    is_captured: bool = False
    ship_time: datetime | None = None
    deliver_time: datetime | None = None
    tracking_reference: str = ""
    refunds: tuple[RefundRequested, ...] = ()
    refunds_done: int = 0  # they are seen through one after the other
    pending_events: tuple[Event, ...] = ()  # what happened since load; save() writes it with the state

    @property
    def saved_version(self) -> int:
        """The version the store has: the one an append expects to follow."""
        return self.version - len(self.pending_events)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way."""
        return not self.to_do

    @property
    def can_be_cancelled(self) -> bool:
        return self.state is State.PENDING or (self.state in STANDING and self.ship_time is None)

    @property
    def can_be_given_up(self) -> bool:
        """Whether patience with its next step may end; what stands or is being undone is seen through."""
        return self.state is State.PENDING

    @property
    def is_only_held(self) -> bool:
        """Whether its money was not even asked to be taken, so that refunds make it less."""
        return self.capture is Capture.SHIPMENT and self.to_capture is None

    @property
    def is_being_paid(self) -> bool:
        """Whether it stands and its money is on the way, so that it can be shipped before long."""
        return self.state in STANDING and self.to_capture is not None and not self.is_captured

    @property
    def captured_total(self) -> Money:
        """What was taken for it, what went back not subtracted; nothing for one that ended."""
        if not self.is_captured or self.state not in STANDING:
            return Money.zero(self.total.currency)
        return self.to_capture or self.total

    @property
    def refund_under_way(self) -> RefundRequested | None:
        """The refund that is being seen through."""
        return self.refunds[self.refunds_done] if self.refunds_done < len(self.refunds) else None

    @property
    def refunded_total(self) -> Money:
        """What was given back so far by refunds that are done."""
        return sum(
            (refund.amount for refund in self.refunds[: self.refunds_done]), Money.zero(self.total.currency)
        )

    @property
    def left_to_pay(self) -> Money:
        """What it costs without all that was refunded, or is about to be."""
        return self.total - sum((refund.amount for refund in self.refunds), Money.zero(self.total.currency))

    def refunded_quantity(self, product_id: str) -> int:
        """How many pieces were refunded, or are about to be."""
        return sum(dict(refund.quantities).get(product_id, 0) for refund in self.refunds)

    def cancel(self, *, reason: str, at: datetime) -> "Order":
        """Calls the order off, whatever is in flight; once it is called off, changes nothing."""
        if self.state in (State.CANCELLING, State.CANCELLED):
            return self
        if not self.can_be_cancelled:
            raise refusals.OrderNotCancellable(order_id=self.id, state=self.state)
        return self.record(CancelRequested(reason), at=at)

    def take_payment(self, *, at: datetime) -> "Order":
        """Has money taken that is only held; changes nothing where there is none, or that was asked for."""
        if self.state not in STANDING or not self.is_only_held:
            return self
        return self.record(CaptureRequested(self.left_to_pay), at=at)

    def ship(self, *, tracking_reference: str, at: datetime) -> "Order":
        """Says that the parcel may leave; saying it again changes nothing."""
        if self.state not in STANDING:
            raise refusals.OrderNotShippable(order_id=self.id, state=self.state)
        if not self.is_captured:
            raise refusals.ShipmentNotPaid(order_id=self.id)
        return self if self.ship_time else self.record(Shipped(tracking_reference), at=at)

    def deliver(self, *, at: datetime) -> "Order":
        """Says that the parcel has arrived; saying it again changes nothing."""
        if self.state not in STANDING or not self.ship_time:
            raise refusals.OrderNotDeliverable(order_id=self.id, state=self.state)
        return self if self.deliver_time else self.record(Delivered(), at=at)

    def refund(
        self, refund_id: str, quantities: Mapping[str, int], *, return_stock: bool, reason: str, at: datetime
    ) -> "Order":
        """Has the price of these pieces (none: of all that are left) given back; then driven like any step.

        Goods that were not shipped go back on sale in any case. Refunding all that is left of an order that
        was not shipped calls it off. What is only held is not given back: so much less is taken.
        """
        left = {
            line.product_id: line.quantity - self.refunded_quantity(line.product_id) for line in self.lines
        }
        wanted = dict(quantities) or {product_id: count for product_id, count in left.items() if count}
        if self.state not in REFUNDABLE or not wanted:
            raise refusals.OrderNotRefundable(order_id=self.id, state=self.state)
        for product_id, asked in wanted.items():
            if asked > left.get(product_id, 0):
                raise refusals.RefundExceedsOrder(
                    product_id=product_id, left=left.get(product_id, 0), asked=asked
                )
        amount = sum(
            (line.unit_price * wanted.get(line.product_id, 0) for line in self.lines),
            Money.zero(self.total.currency),
        )
        is_all = all(wanted.get(product_id, 0) == count for product_id, count in left.items())
        if is_all and not self.ship_time:
            return self.cancel(reason=reason, at=at)
        goods_return = return_stock or not self.ship_time
        pieces = tuple(sorted(wanted.items()))
        return self.record(
            RefundRequested(refund_id, pieces, amount, goods_return, reason, self.is_only_held), at=at
        )

    def give_up(self, *, reason: str, at: datetime) -> "Order":
        """Starts giving back everything; while that is under way, changes nothing."""
        if self.state in (State.REJECTING, State.CANCELLING):
            return self
        if self.state is not State.PENDING:
            raise refusals.OrderNotCompensatable(order_id=self.id, state=self.state)
        return self.record(CompensationForced(reason), at=at)

    def apply(self, outcome: Outcome, *, at: datetime) -> "Order":
        """What a call to a participant came to, and the end of the order if that was the last."""
        assert outcome.step is next_step(self), f"{outcome.step} was not the next step of order {self.id}"
        assert self.can_be_given_up or not isinstance(outcome, StepGivenUp)
        order = self.record(outcome, at=at)
        if self.state in STANDING:
            return _with_refund_ended(order, outcome, at)
        return order if order.to_do or order.state in ENDED else order.record(_END[order.state], at=at)

    def raise_attention(self, step: Step, attempts: int, *, at: datetime) -> "Order":
        """Says that a person should look; once is enough."""
        return self if self.needs_attention else self.record(NeedsAttention(step, attempts), at=at)

    def note_late_money(self, payment_id: str, amount: Money, *, at: datetime) -> "Order":
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
            raise refusals.CurrencyMismatch(
                product_id=line.product_id, product_currency=line.unit_price.currency, currency=currency
            )
        total += line.total
    if total.amount_minor > AMOUNT_MINOR_MAX:
        raise refusals.OrderTooLarge(total=total)
    return total


def place(order_id: str, placed: Placed, *, at: datetime) -> Order:
    """A new order, accepted."""
    event = Event(placed, at)
    return replace(_begun(order_id, event), pending_events=(event,))


def replay(order_id: str, events: Iterable[Event], order: Order | None = None) -> Order:
    """The order that these events, in order, made, or made of an earlier one.

    Raises OrderNotFound if there is neither.
    """
    for event in events:
        order = _evolved(order, event) if order else _begun(order_id, event)
    if order is None:
        raise refusals.OrderNotFound(order_id=order_id)
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
        capture=event.fact.capture,
        to_do=FIRST_TO_DO[event.fact.capture],
        version=1,
    )


def _evolved(order: Order, event: Event) -> Order:
    """The order after the event. Never refuses: what happened, happened."""
    after = replace(order, version=order.version + 1, update_time=event.at)
    match event.fact:
        case StepDone(step=step):
            assert order.to_do[:1] == (step,), f"{step} was not the next step of order {order.id}"
            return _stepped(after, event.fact, to_do=order.to_do[1:])
        case StepRefused():
            return _refused(after, event.fact)
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
        case CaptureRequested() | Shipped() | Delivered() | RefundRequested() | Refunded():
            return _evolved_standing(after, event.fact)


def _evolved_standing(
    order: Order, fact: CaptureRequested | Shipped | Delivered | RefundRequested | Refunded
) -> Order:
    """What happens to an order once it is confirmed; `update_time` is when."""
    match fact:
        case CaptureRequested(amount=amount):
            return replace(order, to_capture=amount, to_do=(*order.to_do, Step.CAPTURE_PAYMENT))
        case Shipped(tracking_reference=reference):
            return _standing(replace(order, ship_time=order.update_time, tracking_reference=reference))
        case Delivered():
            return _standing(replace(order, deliver_time=order.update_time))
        case RefundRequested():
            return replace(order, refunds=(*order.refunds, fact), to_do=order.to_do + fact.steps)
        case Refunded():
            return _standing(replace(order, refunds_done=order.refunds_done + 1, needs_attention=False))


def _stepped(order: Order, done: StepDone, *, to_do: tuple[Step, ...]) -> Order:
    match done.step:
        # An undo may be the first to hear of what an unanswered call had made.
        case Step.RESERVE_STOCK | Step.RELEASE_STOCK:
            return replace(order, to_do=to_do, reservation_id=order.reservation_id or done.reference)
        case Step.AUTHORIZE_PAYMENT | Step.VOID_PAYMENT:
            return replace(order, to_do=to_do, payment_id=order.payment_id or done.reference)
        case Step.CAPTURE_PAYMENT:
            return replace(order, to_do=to_do, is_captured=True, needs_attention=False)
        case _:
            return replace(order, to_do=to_do)


def _with_refund_ended(order: Order, outcome: Outcome, at: datetime) -> Order:
    """The same order; if a refund's last step was just taken, with that refund done."""
    refund = order.refund_under_way
    if refund is None or outcome.step is not refund.steps[-1]:
        return order
    full = order.refunded_total + refund.amount == order.total
    return order.record(Refunded(refund.refund_id, refund.amount, full), at=at)


def _standing(order: Order) -> Order:
    """The same order in the state that its refunds and its parcel have brought it to."""
    refunded = order.refunded_total
    if refunded == order.total:
        state = State.REFUNDED
    elif refunded:
        state = State.PARTIALLY_REFUNDED
    elif order.deliver_time:
        state = State.DELIVERED
    else:
        state = State.SHIPPED if order.ship_time else State.CONFIRMED
    return replace(order, state=state)


def _refused(order: Order, refused: StepRefused) -> Order:
    """Given up; what the buyer was told is theirs is called off instead. Not for goods that are back."""
    if refused.step is Step.RETURN_STOCK:
        return replace(order, to_do=order.to_do[1:])
    undo = UNDO_AFTER_REFUSED[refused.step]
    if order.state in STANDING:
        return replace(order, state=State.CANCELLING, cancel_reason=refused.reason, to_do=undo)
    return _rejecting(order, refused.reason, undo)


def _rejecting(order: Order, reason: str, to_do: tuple[Step, ...]) -> Order:
    return replace(order, state=State.REJECTING, rejection_reason=reason, to_do=to_do)
