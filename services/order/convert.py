"""Between protos and the domain. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from bodega.inventory.v1 import inventory_pb2
from bodega.order.v1 import order_events_pb2 as events_pb
from bodega.order.v1 import order_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage

from services.kernel.money import Money
from services.order import domain

_STATES: Final = {state: pb.Order.State.Value(f"STATE_{state}") for state in domain.State}
_STATES_BACK: Final = {number: state for state, number in _STATES.items()}
_STEPS: Final = {step: pb.Step.Value(f"STEP_{step}") for step in domain.Step}
_STEPS_BACK: Final = {number: step for step, number in _STEPS.items()}


def money_to_proto(money: Money) -> MoneyMessage:
    units, nanos = money.units_and_nanos
    return MoneyMessage(currency_code=money.currency, units=units, nanos=nanos)


def money_from_proto(message: MoneyMessage) -> Money:
    return Money.of(message.units, message.nanos, message.currency_code)


def timestamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def state_to_proto(state: domain.State) -> pb.Order.State.ValueType:
    return _STATES[state]


def state_from_proto(number: pb.Order.State.ValueType) -> domain.State | None:
    """None for unspecified: any state."""
    return _STATES_BACK.get(number)


def order_to_proto(order: domain.Order) -> pb.Order:
    return pb.Order(
        order_id=order.id,
        user_id=order.user_id,
        state=_STATES[order.state],
        lines=[line_to_proto(line) for line in order.lines],
        total=money_to_proto(order.total),
        payment_method_id=order.payment_method_id,
        rejection_reason=order.rejection_reason,
        cancel_reason=order.cancel_reason,
        needs_attention=order.needs_attention,
        reservation_id=order.reservation_id,
        payment_id=order.payment_id,
        version=order.version,
        create_time=timestamp(order.create_time),
        update_time=timestamp(order.update_time),
    )


def line_to_proto(line: domain.Line) -> pb.OrderLine:
    return pb.OrderLine(
        product_id=line.product_id,
        sku=line.sku,
        name=line.name,
        quantity=line.quantity,
        unit_price=money_to_proto(line.unit_price),
    )


def lines_wanted(
    wanted: Iterable[pb.CreateOrderLine], products: Iterable[inventory_pb2.Product]
) -> tuple[domain.Line, ...]:
    """The lines of an order at the catalogue's prices, one a product, in the order first named.

    Raises domain.ProductNotFound for the first product that the catalogue does not have.
    """
    quantities: dict[str, int] = {}
    for line in wanted:
        quantities[line.product_id] = quantities.get(line.product_id, 0) + line.quantity
    by_id = {product.product_id: product for product in products}
    for product_id in quantities:
        if product_id not in by_id:
            raise domain.ProductNotFound(product_id=product_id)
    return tuple(_line(by_id[product_id], quantity) for product_id, quantity in quantities.items())


def _line(product: inventory_pb2.Product, quantity: int) -> domain.Line:
    return domain.Line(
        product.product_id, product.sku, product.name, quantity, money_from_proto(product.price)
    )


def placed_to_proto(order_id: str, placed: domain.Placed) -> events_pb.OrderPlaced:
    return events_pb.OrderPlaced(
        order_id=order_id,
        user_id=placed.user_id,
        lines=[
            events_pb.OrderPlacedLine(
                product_id=line.product_id,
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=money_to_proto(line.unit_price),
            )
            for line in placed.lines
        ],
        total=money_to_proto(placed.total),
        payment_method_id=placed.payment_method_id,
    )


def _placed_from_proto(message: events_pb.OrderPlaced) -> domain.Placed:
    return domain.Placed(
        user_id=message.user_id,
        lines=tuple(
            domain.Line(
                line.product_id, line.sku, line.name, line.quantity, money_from_proto(line.unit_price)
            )
            for line in message.lines
        ),
        total=money_from_proto(message.total),
        payment_method_id=message.payment_method_id,
    )


def fact_to_proto(order: domain.Order, fact: domain.Fact) -> pb.OrderEvent:
    """An event as it is stored: the fact alone. When, where and by whom stand beside it in the store."""
    match fact:
        case domain.Placed():
            return pb.OrderEvent(placed=placed_to_proto(order.id, fact))
        case domain.StepDone(step, attempts, reference):
            return pb.OrderEvent(
                step_done=pb.StepDone(step=_STEPS[step], attempts=attempts, reference=reference)
            )
        case domain.StepRefused(step, attempts, reason):
            return pb.OrderEvent(
                step_refused=pb.StepRefused(step=_STEPS[step], attempts=attempts, reason=reason)
            )
        case domain.StepGivenUp(step, attempts, last_outcome):
            return pb.OrderEvent(
                step_given_up=pb.StepGivenUp(step=_STEPS[step], attempts=attempts, last_outcome=last_outcome)
            )
        case domain.CancelRequested(reason):
            return pb.OrderEvent(cancel_requested=pb.CancelRequested(reason=reason))
        case domain.CompensationForced(reason):
            return pb.OrderEvent(compensation_forced=pb.CompensationForced(reason=reason))
        case domain.Confirmed():
            return pb.OrderEvent(confirmed=confirmed_to_proto(order))
        case domain.Rejected():
            return pb.OrderEvent(rejected=rejected_to_proto(order))
        case domain.Cancelled():
            return pb.OrderEvent(cancelled=cancelled_to_proto(order))
        case domain.NeedsAttention():
            return pb.OrderEvent(needs_attention=needs_attention_to_proto(order, fact))
        case domain.LateMoneyReturned(payment_id, amount):
            returned = pb.LateMoneyReturned(payment_id=payment_id)
            if amount is not None:
                returned.amount.CopyFrom(money_to_proto(amount))
            return pb.OrderEvent(late_money_returned=returned)


def fact_from_proto(stored: pb.OrderEvent) -> domain.Fact:
    match stored.WhichOneof("fact"):
        case "placed":
            return _placed_from_proto(stored.placed)
        case "step_done":
            done = stored.step_done
            return domain.StepDone(_STEPS_BACK[done.step], done.attempts, done.reference)
        case "step_refused":
            refused = stored.step_refused
            return domain.StepRefused(_STEPS_BACK[refused.step], refused.attempts, refused.reason)
        case "step_given_up":
            given_up = stored.step_given_up
            return domain.StepGivenUp(_STEPS_BACK[given_up.step], given_up.attempts, given_up.last_outcome)
        case "cancel_requested":
            return domain.CancelRequested(stored.cancel_requested.reason)
        case "compensation_forced":
            return domain.CompensationForced(stored.compensation_forced.reason)
        case "confirmed":
            return domain.Confirmed()
        case "rejected":
            return domain.Rejected()
        case "cancelled":
            return domain.Cancelled()
        case "needs_attention":
            attention = stored.needs_attention
            return domain.NeedsAttention(domain.Step(attention.step), attention.attempts)
        case "late_money_returned":
            returned = stored.late_money_returned
            amount = money_from_proto(returned.amount) if returned.HasField("amount") else None
            return domain.LateMoneyReturned(returned.payment_id, amount)
        case unknown:
            # Written by a newer release: going on without it could decide wrongly.
            raise UnknownFact(f"a stored event holds {unknown or 'a fact this release does not know'}")


class UnknownFact(Exception):
    """The history holds what this release cannot read; deploy the release that wrote it."""


def confirmed_to_proto(order: domain.Order) -> events_pb.OrderConfirmed:
    return events_pb.OrderConfirmed(
        order_id=order.id, user_id=order.user_id, total=money_to_proto(order.total)
    )


def rejected_to_proto(order: domain.Order) -> events_pb.OrderRejected:
    return events_pb.OrderRejected(order_id=order.id, user_id=order.user_id, reason=order.rejection_reason)


def cancelled_to_proto(order: domain.Order) -> events_pb.OrderCancelled:
    return events_pb.OrderCancelled(order_id=order.id, user_id=order.user_id, reason=order.cancel_reason)


def needs_attention_to_proto(
    order: domain.Order, fact: domain.NeedsAttention
) -> events_pb.OrderNeedsAttention:
    return events_pb.OrderNeedsAttention(
        order_id=order.id, user_id=order.user_id, step=fact.step, attempts=fact.attempts
    )
