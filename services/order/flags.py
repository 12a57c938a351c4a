"""What may be changed of orders while everything runs."""

from typing import Final

from services.chassis.flags import Flag
from services.order.facts import Capture

CAPTURE: Final = Flag(
    "order.capture",
    {str(capture): capture for capture in Capture},
    Capture.CONFIRM,
    "When the money of an order is taken: before it is confirmed, or held and taken before it is shipped.",
)
"""Asked once for each order, when it is accepted; by its buyer, with `order_id`."""
