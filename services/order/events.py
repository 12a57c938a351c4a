"""What the world is told of what happens to an order. Pure."""

from google.protobuf.message import Message

from services.order import convert, domain, facts


def published(order: domain.Order, fact: facts.Fact) -> Message | None:
    """The event to publish for a fact; None for what is the order's own business."""
    match fact:
        case facts.Placed():
            return convert.placed_to_proto(order.id, fact)
        case facts.Confirmed():
            return convert.confirmed_to_proto(order)
        case facts.Rejected():
            return convert.rejected_to_proto(order)
        case facts.Cancelled():
            return convert.cancelled_to_proto(order)
        case facts.NeedsAttention():
            return convert.needs_attention_to_proto(order, fact)
        case facts.Shipped():
            return convert.shipped_to_proto(order, fact)
        case facts.Delivered():
            return convert.delivered_to_proto(order)
        case facts.Refunded():
            return convert.refunded_to_proto(order, fact)
        case _:
            return None
