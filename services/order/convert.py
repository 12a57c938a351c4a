"""Between protos and the domain. Pure."""

from collections.abc import Iterable
from typing import Final

from bodega.inventory.v1 import inventory_pb2
from bodega.order.v1 import order_events_pb2 as events_pb
from bodega.order.v1 import order_pb2 as pb

from services.chassis import wire
from services.chassis.identity.workload import OPERATOR
from services.chassis.storage.event_store import StoredEvent
from services.order import domain, facts, refusals

_STATES: Final = {state: pb.Order.State.Value(f"STATE_{state}") for state in domain.State}
_STATES_BACK: Final = {number: state for state, number in _STATES.items()}
_STEPS: Final = {step: pb.Step.Value(f"STEP_{step}") for step in facts.Step}
_STEPS_BACK: Final = {number: step for step, number in _STEPS.items()}
_CAPTURES: Final = {
    capture: events_pb.Capture.Value(f"CAPTURE_ON_{capture.name}") for capture in facts.Capture
}
_CAPTURES_BACK: Final = {
    events_pb.CAPTURE_UNSPECIFIED: facts.Capture.CONFIRM,  # before there was a choice
    **{number: capture for capture, number in _CAPTURES.items()},
}


def state_to_proto(state: domain.State) -> pb.Order.State.ValueType:
    return _STATES[state]


def state_from_proto(number: pb.Order.State.ValueType) -> domain.State | None:
    """None for unspecified: any state."""
    return _STATES_BACK.get(number)


def capture_to_proto(capture: facts.Capture) -> events_pb.Capture.ValueType:
    return _CAPTURES[capture]


def lines_wanted(
    wanted: Iterable[pb.CreateOrderLine], products: Iterable[inventory_pb2.Product]
) -> tuple[facts.Line, ...]:
    """The lines of an order at the catalogue's prices, one a product, in the order first named.

    Raises refusals.ProductNotFound for the first product that the catalogue does not have.
    """
    quantities = quantities_wanted(wanted)
    by_id = {product.product_id: product for product in products}
    for product_id in quantities:
        if product_id not in by_id:
            raise refusals.ProductNotFound(product_id=product_id)
    return tuple(_line(by_id[product_id], quantity) for product_id, quantity in quantities.items())


def quantities_wanted(wanted: Iterable[pb.CreateOrderLine | pb.RefundLine]) -> dict[str, int]:
    """Pieces by product, lines of one product summed, in the order first named."""
    quantities: dict[str, int] = {}
    for line in wanted:
        product_id = wire.uuid_key(line.product_id)
        quantities[product_id] = quantities.get(product_id, 0) + line.quantity
    return quantities


def _line(product: inventory_pb2.Product, quantity: int) -> facts.Line:
    return facts.Line(
        product.product_id, product.sku, product.name, quantity, wire.money_from_proto(product.price)
    )


def placed_to_proto(order_id: str, placed: facts.Placed) -> events_pb.OrderPlaced:
    return events_pb.OrderPlaced(
        order_id=order_id,
        user_id=placed.user_id,
        lines=[
            events_pb.OrderPlacedLine(
                product_id=line.product_id,
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=wire.money_to_proto(line.unit_price),
            )
            for line in placed.lines
        ],
        total=wire.money_to_proto(placed.total),
        payment_method_id=placed.payment_method_id,
        capture=_CAPTURES[placed.capture],
    )


def _placed_from_proto(message: events_pb.OrderPlaced) -> facts.Placed:
    return facts.Placed(
        user_id=message.user_id,
        lines=tuple(
            facts.Line(
                line.product_id, line.sku, line.name, line.quantity, wire.money_from_proto(line.unit_price)
            )
            for line in message.lines
        ),
        total=wire.money_from_proto(message.total),
        payment_method_id=message.payment_method_id,
        capture=_capture_from_proto(message.capture),
    )


def _capture_from_proto(number: events_pb.Capture.ValueType) -> facts.Capture:
    if number not in _CAPTURES_BACK:
        raise UnknownFact(f"a stored event has the capture {number}, which this release does not know")
    return _CAPTURES_BACK[number]


def fact_to_proto(order: domain.Order, fact: facts.Fact) -> pb.OrderEvent:
    """An event as it is stored: the fact alone. When, where and by whom stand beside it in the store."""
    match fact:
        case facts.Placed():
            return pb.OrderEvent(placed=placed_to_proto(order.id, fact))
        case facts.StepDone(step, attempts, reference):
            return pb.OrderEvent(
                step_done=pb.StepDone(step=_STEPS[step], attempts=attempts, reference=reference)
            )
        case facts.StepRefused(step, attempts, reason):
            return pb.OrderEvent(
                step_refused=pb.StepRefused(step=_STEPS[step], attempts=attempts, reason=reason)
            )
        case facts.StepGivenUp(step, attempts, last_outcome):
            return pb.OrderEvent(
                step_given_up=pb.StepGivenUp(step=_STEPS[step], attempts=attempts, last_outcome=last_outcome)
            )
        case facts.CancelRequested(reason):
            return pb.OrderEvent(cancel_requested=pb.CancelRequested(reason=reason))
        case facts.CompensationForced(reason):
            return pb.OrderEvent(compensation_forced=pb.CompensationForced(reason=reason))
        case facts.Confirmed():
            return pb.OrderEvent(confirmed=confirmed_to_proto(order))
        case facts.Rejected():
            return pb.OrderEvent(rejected=rejected_to_proto(order))
        case facts.Cancelled():
            return pb.OrderEvent(cancelled=cancelled_to_proto(order))
        case facts.NeedsAttention():
            return pb.OrderEvent(needs_attention=needs_attention_to_proto(order, fact))
        case facts.LateMoneyReturned(payment_id, amount):
            return pb.OrderEvent(
                late_money_returned=pb.LateMoneyReturned(
                    payment_id=payment_id, amount=wire.money_to_proto(amount)
                )
            )
        case facts.CaptureRequested(amount):
            return pb.OrderEvent(capture_requested=pb.CaptureRequested(amount=wire.money_to_proto(amount)))
        case facts.Shipped():
            return pb.OrderEvent(shipped=shipped_to_proto(order, fact))
        case facts.Delivered():
            return pb.OrderEvent(delivered=delivered_to_proto(order))
        case facts.RefundRequested():
            return pb.OrderEvent(refund_requested=_refund_requested_to_proto(fact))
        case facts.Refunded():
            return pb.OrderEvent(refunded=refunded_to_proto(order, fact))


def event_to_proto(stored: StoredEvent, *, buyer: str = "") -> pb.OrderEvent:
    """An event as the timeline shows it: the stored fact, with when, where and by whom.

    With `buyer`, whose id that is, as they are shown it: no other person by name.
    """
    event = pb.OrderEvent.FromString(stored.body)
    event.version = stored.version
    event.time.CopyFrom(wire.timestamp(stored.at))
    event.trace_id = stored.trace_id
    event.actor = _in_words(stored.actor, buyer)
    event.on_behalf_of = _in_words(stored.on_behalf_of, buyer)
    if event.actor == stored.actor:
        event.request_id = stored.request_id
    return event


def _in_words(name: str, buyer: str) -> str:
    if not name or not buyer or name == f"user:{buyer}":
        return name
    return "support" if name.startswith("user:") or name == f"workload:{OPERATOR}" else "system"


def fact_from_proto(stored: pb.OrderEvent) -> facts.Fact:
    match stored.WhichOneof("fact"):
        case "placed":
            return _placed_from_proto(stored.placed)
        case "step_done":
            done = stored.step_done
            return facts.StepDone(_STEPS_BACK[done.step], done.attempts, done.reference)
        case "step_refused":
            refused = stored.step_refused
            return facts.StepRefused(_STEPS_BACK[refused.step], refused.attempts, refused.reason)
        case "step_given_up":
            given_up = stored.step_given_up
            return facts.StepGivenUp(_STEPS_BACK[given_up.step], given_up.attempts, given_up.last_outcome)
        case "cancel_requested":
            return facts.CancelRequested(stored.cancel_requested.reason)
        case "compensation_forced":
            return facts.CompensationForced(stored.compensation_forced.reason)
        case "confirmed":
            return facts.Confirmed()
        case "rejected":
            return facts.Rejected()
        case "cancelled":
            return facts.Cancelled()
        case "needs_attention":
            attention = stored.needs_attention
            return facts.NeedsAttention(facts.Step(attention.step), attention.attempts)
        case "late_money_returned":
            returned = stored.late_money_returned
            return facts.LateMoneyReturned(returned.payment_id, wire.money_from_proto(returned.amount))
        case "capture_requested":
            return facts.CaptureRequested(wire.money_from_proto(stored.capture_requested.amount))
        case "shipped":
            return facts.Shipped(stored.shipped.tracking_reference)
        case "delivered":
            return facts.Delivered()
        case "refund_requested":
            return _refund_requested_from_proto(stored.refund_requested)
        case "refunded":
            refunded = stored.refunded
            return facts.Refunded(refunded.refund_id, wire.money_from_proto(refunded.amount), refunded.full)
        case unknown:
            # Written by a newer release: going on without it could decide wrongly.
            raise UnknownFact(f"a stored event holds {unknown or 'a fact this release does not know'}")


class UnknownFact(Exception):
    """The history holds what this release cannot read; deploy the release that wrote it."""


def confirmed_to_proto(order: domain.Order) -> events_pb.OrderConfirmed:
    return events_pb.OrderConfirmed(
        order_id=order.id,
        user_id=order.user_id,
        total=wire.money_to_proto(order.total),
        capture=_CAPTURES[order.capture],
    )


def rejected_to_proto(order: domain.Order) -> events_pb.OrderRejected:
    return events_pb.OrderRejected(order_id=order.id, user_id=order.user_id, reason=order.rejection_reason)


def cancelled_to_proto(order: domain.Order) -> events_pb.OrderCancelled:
    return events_pb.OrderCancelled(
        order_id=order.id,
        user_id=order.user_id,
        reason=order.cancel_reason,
        held=bool(order.payment_id) and order.is_only_held,
    )


def needs_attention_to_proto(
    order: domain.Order, fact: facts.NeedsAttention
) -> events_pb.OrderNeedsAttention:
    return events_pb.OrderNeedsAttention(
        order_id=order.id, user_id=order.user_id, step=fact.step, attempts=fact.attempts
    )


def shipped_to_proto(order: domain.Order, fact: facts.Shipped) -> events_pb.OrderShipped:
    return events_pb.OrderShipped(
        order_id=order.id, user_id=order.user_id, tracking_reference=fact.tracking_reference
    )


def delivered_to_proto(order: domain.Order) -> events_pb.OrderDelivered:
    return events_pb.OrderDelivered(order_id=order.id, user_id=order.user_id)


def refunded_to_proto(order: domain.Order, fact: facts.Refunded) -> events_pb.OrderRefunded:
    return events_pb.OrderRefunded(
        order_id=order.id,
        user_id=order.user_id,
        refund_id=fact.refund_id,
        amount=wire.money_to_proto(fact.amount),
        full=fact.full,
        held=any(done.before_capture for done in order.refunds if done.refund_id == fact.refund_id),
    )


def _refund_requested_to_proto(fact: facts.RefundRequested) -> pb.RefundRequested:
    return pb.RefundRequested(
        refund_id=fact.refund_id,
        lines=[pb.RefundLine(product_id=id_, quantity=quantity) for id_, quantity in fact.quantities],
        amount=wire.money_to_proto(fact.amount),
        return_stock=fact.return_stock,
        reason=fact.reason,
        before_capture=fact.before_capture,
    )


def _refund_requested_from_proto(message: pb.RefundRequested) -> facts.RefundRequested:
    return facts.RefundRequested(
        refund_id=message.refund_id,
        quantities=tuple((line.product_id, line.quantity) for line in message.lines),
        amount=wire.money_from_proto(message.amount),
        return_stock=message.return_stock,
        reason=message.reason,
        before_capture=message.before_capture,
    )
