"""When a warehouse gets more of a product, and when it runs low."""

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StockLow:
    product_id: str
    warehouse_id: str
    available: int
    low_stock_below: int
    at: datetime


@dataclass(frozen=True, slots=True)
class StockReplenished:
    product_id: str
    warehouse_id: str
    available: int
    at: datetime


RestockEvent = StockLow | StockReplenished


@dataclass(frozen=True, slots=True)
class RestockPlan:
    """What is planned for one product in one warehouse.

    It remembers on which side of its mark stock was seen last, so that each crossing is told once, whoever
    caused it.
    """

    product_id: str
    warehouse_id: str
    updated_at: datetime
    expected_at: datetime | None = None
    """When more comes; None if nobody knows."""

    expected_quantity: int = 0
    low_stock_below: int = 0
    """With fewer pieces available than this, stock is low; 0: never."""

    is_low: bool = False
    crossed_at: datetime | None = None
    """When stock last became low or enough."""

    pending_events: tuple[RestockEvent, ...] = ()

    def change(
        self, *, expected_at: datetime | None, expected_quantity: int, low_stock_below: int, at: datetime
    ) -> "RestockPlan":
        return replace(
            self,
            expected_at=expected_at,
            expected_quantity=expected_quantity,
            low_stock_below=low_stock_below,
            updated_at=at,
        )

    def observe(self, available: int, *, at: datetime) -> "RestockPlan":
        """The plan once so many pieces are available; itself if that is on the same side of the mark."""
        is_low = available < self.low_stock_below
        if is_low == self.is_low:
            return self
        event: RestockEvent = (
            StockLow(self.product_id, self.warehouse_id, available, self.low_stock_below, at)
            if is_low
            else StockReplenished(self.product_id, self.warehouse_id, available, at)
        )
        return replace(self, is_low=is_low, crossed_at=at, pending_events=(*self.pending_events, event))
