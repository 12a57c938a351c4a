"""How an order is shown: the rows made from it, and the message made from those. Pure."""

from collections.abc import Iterable
from typing import Any

from bodega.order.v1 import order_pb2 as pb

from services.chassis import wire
from services.chassis.storage.session import Row
from services.kernel.clock import from_micros, to_micros
from services.kernel.money import Money
from services.order import convert, domain, facts


def order_row(order: domain.Order) -> dict[str, Any]:
    """The row that this order is shown by."""
    captured = order.captured_total
    return {
        "order_id": order.id,
        "user_id": order.user_id,
        "state": str(order.state),
        "total_minor": order.total.amount_minor,
        "currency": order.total.currency,
        "payment_method_id": order.payment_method_id,
        "rejection_reason": order.rejection_reason,
        "cancel_reason": order.cancel_reason,
        "needs_attention": order.needs_attention,
        "reservation_id": order.reservation_id,
        "payment_id": order.payment_id,
        "version": order.version,
        "create_time": to_micros(order.create_time),
        "update_time": to_micros(order.update_time),
        "under_way": not order.is_settled,
        "ship_time": to_micros(order.ship_time) if order.ship_time else None,
        "deliver_time": to_micros(order.deliver_time) if order.deliver_time else None,
        "tracking_reference": order.tracking_reference,
        "refunded_minor": order.refunded_total.amount_minor,
        "capture": str(order.capture),
        "captured_at_shipment_minor": captured.amount_minor if captured and order.to_capture else 0,
    }


def line_rows(order: domain.Order) -> list[dict[str, Any]]:
    """The rows that this order's lines are shown by."""
    return [
        {
            "order_id": order.id,
            "line": number,
            "product_id": line.product_id,
            "sku": line.sku,
            "name": line.name,
            "quantity": line.quantity,
            "unit_price_minor": line.unit_price.amount_minor,
            "refunded_quantity": order.refunded_quantity(line.product_id),
        }
        for number, line in enumerate(order.lines, start=1)
    ]


def shown(row: Row, lines: Iterable[Row]) -> pb.Order:
    """The order that its row and the rows of its lines show."""
    currency = row["currency"]
    order = pb.Order(
        order_id=row["order_id"],
        user_id=row["user_id"],
        state=convert.state_to_proto(domain.State(row["state"])),
        lines=[_line(line, currency) for line in lines],
        total=wire.money_to_proto(Money(row["total_minor"], currency)),
        payment_method_id=row["payment_method_id"],
        rejection_reason=row["rejection_reason"],
        cancel_reason=row["cancel_reason"],
        needs_attention=bool(row["needs_attention"]),
        reservation_id=row["reservation_id"],
        payment_id=row["payment_id"],
        version=row["version"],
        create_time=wire.timestamp(from_micros(row["create_time"])),
        update_time=wire.timestamp(from_micros(row["update_time"])),
        tracking_reference=row["tracking_reference"],
        capture=convert.capture_to_proto(facts.Capture(row["capture"])),
    )
    if row["ship_time"]:
        order.ship_time.CopyFrom(wire.timestamp(from_micros(row["ship_time"])))
    if row["deliver_time"]:
        order.deliver_time.CopyFrom(wire.timestamp(from_micros(row["deliver_time"])))
    if row["refunded_minor"]:
        order.refunded_total.CopyFrom(wire.money_to_proto(Money(row["refunded_minor"], currency)))
    if captured_minor := taken_minor(row):
        order.captured_total.CopyFrom(wire.money_to_proto(Money(captured_minor, currency)))
    return order


def taken_minor(row: Row) -> int:
    """What was taken for the order that a row shows, as `Order.captured_total` has it."""
    if row["state"] not in domain.STANDING:
        return 0
    paid_by_now = row["capture"] == facts.Capture.CONFIRM
    return int(row["total_minor"] if paid_by_now else row["captured_at_shipment_minor"])


def order_to_proto(order: domain.Order) -> pb.Order:
    """The message that an order will be shown as once it is saved."""
    return shown(order_row(order), line_rows(order))


def _line(line: Row, currency: str) -> pb.OrderLine:
    return pb.OrderLine(
        product_id=line["product_id"],
        sku=line["sku"],
        name=line["name"],
        quantity=line["quantity"],
        unit_price=wire.money_to_proto(Money(line["unit_price_minor"], currency)),
        refunded_quantity=line["refunded_quantity"],
    )
