"""The order step that both stores write: which event, of which order, at which version.

A step is what an order in the middle of its way writes: the event, the row it is shown by, and what the
world is told. Both sides write the same bytes into the same columns of the same tables.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bodega.order.v1 import order_events_pb2, order_pb2
from google.type import money_pb2

from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from tests.load import messages
from tests.load.programs.commands import Json

STEPS_OF_AN_ORDER = 6


@dataclass(slots=True)
class Step:
    """One transaction's work."""

    order_id: str
    version: int
    event_id: str
    request_id: str
    at: datetime


class Steps:
    """The steps of one order after the other."""

    def __init__(self) -> None:
        self._ids = TimeOrderedIds(SystemClock())

    def __iter__(self) -> Iterator[Step]:
        while True:
            order_id = self._ids.new()
            for version in range(1, STEPS_OF_AN_ORDER + 1):
                yield Step(order_id, version, self._ids.new(), self._ids.new(), datetime.now(UTC))


def event(step: Step) -> order_pb2.OrderEvent:
    """What is stored."""
    made = order_pb2.OrderEvent(
        version=step.version,
        step_done=order_pb2.StepDone(step=order_pb2.STEP_RESERVE_STOCK, attempts=1, reference=step.event_id),
    )
    made.time.FromDatetime(step.at)
    return made


def told(step: Step) -> order_events_pb2.OrderConfirmed:
    """What the world is told."""
    return order_events_pb2.OrderConfirmed(
        order_id=step.order_id,
        user_id=messages.USER_ID,
        total=money_pb2.Money(currency_code="USD", units=37),
    )


def row(step: Step, at: int) -> Json:
    """What the order is shown by."""
    return {
        "order_id": step.order_id,
        "user_id": messages.USER_ID,
        "state": "PENDING",
        "total_minor": 3700,
        "currency": "USD",
        "payment_method_id": messages.PAYMENT_METHOD_ID,
        "rejection_reason": "",
        "cancel_reason": "",
        "needs_attention": False,
        "reservation_id": step.event_id,
        "payment_id": "",
        "version": step.version,
        "create_time": at,
        "update_time": at,
    }


async def taken(do: Callable[[Step], Awaitable[None]], count: int, in_flight: int) -> Json:
    """Takes so many steps, so many at a time: each worker those of its own orders."""
    left = iter(range(count))

    async def worker() -> None:
        steps = iter(Steps())
        for _ in left:
            await do(next(steps))

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(worker())
    return {"elapsed_s": time.perf_counter() - begun}
