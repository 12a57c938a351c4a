"""What the world is told of what happens to an order. Pure."""

from google.protobuf.message import Message

from services.order import convert, domain


def published(order: domain.Order, fact: domain.Fact) -> Message | None:
    """The event to publish for a fact; None for what is the order's own business."""
    match fact:
        case domain.Placed():
            return convert.placed_to_proto(order.id, fact)
        case domain.Confirmed():
            return convert.confirmed_to_proto(order)
        case domain.Rejected():
            return convert.rejected_to_proto(order)
        case domain.Cancelled():
            return convert.cancelled_to_proto(order)
        case domain.NeedsAttention():
            return convert.needs_attention_to_proto(order, fact)
        case _:
            return None
