"""What happened here, as the messages the others read. Pure."""

from collections.abc import Iterable

from bodega.inventory.v1 import inventory_events_pb2 as pb
from google.protobuf.message import Message

from services.chassis import wire
from services.inventory import catalog, reservation, restock, stock

Event = catalog.CatalogEvent | stock.StockAdjusted | restock.RestockEvent | reservation.HoldEvent


def to_message(event: Event) -> tuple[str, Message]:
    """The id of the aggregate it is keyed by, and the message."""
    match event:
        case catalog.ProductCreated(product_id, sku, price):
            return product_id, pb.ProductCreated(
                product_id=product_id, sku=sku, price=wire.money_to_proto(price)
            )
        case catalog.ProductUpdated(product_id, changed_fields):
            return product_id, pb.ProductUpdated(product_id=product_id, changed_fields=changed_fields)
        case catalog.PriceChanged(product_id, old_price, new_price):
            return product_id, pb.PriceChanged(
                product_id=product_id,
                old_price=wire.money_to_proto(old_price),
                new_price=wire.money_to_proto(new_price),
            )
        case stock.StockAdjusted(product_id, warehouse_id, delta, on_hand, reason=reason):
            return product_id, pb.StockAdjusted(
                product_id=product_id, warehouse_id=warehouse_id, delta=delta, on_hand=on_hand, reason=reason
            )
        case restock.StockLow(product_id, warehouse_id, available, low_stock_below):
            return product_id, pb.StockLow(
                product_id=product_id,
                warehouse_id=warehouse_id,
                available=available,
                low_stock_below=low_stock_below,
            )
        case restock.StockReplenished(product_id, warehouse_id, available):
            return product_id, pb.StockReplenished(
                product_id=product_id, warehouse_id=warehouse_id, available=available
            )
        case reservation.StockReserved(order_id, reservation_id, lines, expires_at):
            return order_id, pb.StockReserved(
                order_id=order_id,
                reservation_id=reservation_id,
                lines=_lines(lines),
                expire_time=wire.timestamp(expires_at),
            )
        case reservation.StockReleased(order_id, reservation_id, lines):
            return order_id, pb.StockReleased(
                order_id=order_id, reservation_id=reservation_id, lines=_lines(lines)
            )
        case reservation.StockCommitted(order_id, reservation_id, lines):
            return order_id, pb.StockCommitted(
                order_id=order_id, reservation_id=reservation_id, lines=_lines(lines)
            )
        case reservation.ReservationExpired(order_id, reservation_id, lines):
            return order_id, pb.ReservationExpired(
                order_id=order_id, reservation_id=reservation_id, lines=_lines(lines)
            )
        case reservation.StockReturned(order_id, return_id, lines):
            return order_id, pb.StockReturned(order_id=order_id, return_id=return_id, lines=_lines(lines))


def _lines(lines: Iterable[stock.Line]) -> list[pb.StockLine]:
    return [
        pb.StockLine(product_id=line.product_id, warehouse_id=line.warehouse_id, quantity=line.quantity)
        for line in lines
    ]
