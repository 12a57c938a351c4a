"""An order with what its neighbours know of it, gathered side by side.

Each part is asked for with its share of the deadline. A neighbour that does not answer costs its own part and
nothing else: it is shown as it was seen last, or as unavailable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Final, TypeVar

import grpc
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.order.v1 import order_pb2 as pb
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.chassis import context as request_context
from services.chassis import wire
from services.kernel.clock import Clock
from services.kernel.recent import Recent

SHARE: Final = 0.7  # of what is left of the deadline, for all parts together; the rest is for answering
SHARE_MAX_S: Final = 1.5  # nobody looks at a page for longer
AT_ONCE_MAX: Final = 16  # calls side by side for one order: a hundred lines shall not flood inventory
REMEMBERED_MAX: Final = 10_000  # parts kept for when their service does not answer

P = TypeVar("P", pb.BuyerPart, pb.StockPart, pb.PaymentPart)


class Details:
    """Gathers the parts, and remembers how each was seen last."""

    def __init__(
        self,
        users: user_pb2_grpc.UserServiceStub,
        inventory: inventory_pb2_grpc.InventoryServiceStub,
        payment: payment_pb2_grpc.PaymentServiceStub,
        *,
        clock: Clock,
    ) -> None:
        self._users = users
        self._inventory = inventory
        self._payment = payment
        self._clock = clock
        self._last_seen: Recent[str, pb.BuyerPart | pb.StockPart | pb.PaymentPart] = Recent(REMEMBERED_MAX)

    async def gathered(self, order: pb.Order) -> pb.OrderDetails:
        """The order with all its parts. Never fails because of a neighbour."""
        budget_s = _budget_s()
        room = asyncio.Semaphore(AT_ONCE_MAX)

        async def stock(product_id: str) -> pb.StockPart:
            async with room:
                return await self._part(
                    f"stock {product_id}",
                    lambda: self._stock(product_id, budget_s),
                    pb.StockPart(product_id=product_id),
                )

        async with asyncio.TaskGroup() as parts:
            buyer = parts.create_task(
                self._part(f"buyer {order.user_id}", lambda: self._buyer(order, budget_s), pb.BuyerPart())
            )
            payment = parts.create_task(
                self._part(
                    f"payment {order.payment_id}",
                    lambda: self._money(order, budget_s),
                    pb.PaymentPart(payment_id=order.payment_id),
                )
            )
            stocks = [parts.create_task(stock(line.product_id)) for line in order.lines]
        return pb.OrderDetails(
            order=order,
            buyer=buyer.result(),
            stock=[part.result() for part in stocks],
            payment=payment.result(),
        )

    async def _part(self, name: str, ask: Callable[[], Awaitable[P]], missing: P) -> P:
        try:
            part = await ask()
        except grpc.aio.AioRpcError:
            return self._as_last_seen(name, missing)
        part.freshness = pb.FRESHNESS_FRESH
        part.read_time.CopyFrom(wire.timestamp(self._clock.now()))
        self._last_seen[name] = part
        return part

    def _as_last_seen(self, name: str, missing: P) -> P:
        seen = self._last_seen.get(name)
        if seen is None:
            missing.freshness = pb.FRESHNESS_UNAVAILABLE
            return missing
        stale = type(missing)()
        stale.CopyFrom(seen)  # type: ignore[arg-type]  # parts of one name are of one type
        stale.freshness = pb.FRESHNESS_STALE
        age = self._clock.now() - seen.read_time.ToDatetime(UTC)
        request_context.note_stale(age.total_seconds())
        return stale

    async def _buyer(self, order: pb.Order, budget_s: float) -> pb.BuyerPart:
        user = await self._users.GetUser(user_pb2.GetUserRequest(user_id=order.user_id), timeout=budget_s)
        return pb.BuyerPart(username=user.username, active=user.state == user_pb2.User.STATE_ACTIVE)

    async def _stock(self, product_id: str, budget_s: float) -> pb.StockPart:
        reading = await self._inventory.CheckAvailability(
            inventory_pb2.CheckAvailabilityRequest(product_id=product_id), timeout=budget_s
        )
        return pb.StockPart(product_id=product_id, available_quantity=reading.available_quantity)

    async def _money(self, order: pb.Order, budget_s: float) -> pb.PaymentPart:
        if not order.payment_id:
            return pb.PaymentPart()
        payment = await self._payment.GetPayment(
            payment_pb2.GetPaymentRequest(payment_id=order.payment_id), timeout=budget_s
        )
        return pb.PaymentPart(
            payment_id=payment.payment_id,
            payment_state=payment_pb2.Payment.State.Name(payment.state).removeprefix("STATE_"),
            captured_amount=payment.captured_amount,
            refunded_amount=payment.refunded_amount,
        )


def _budget_s() -> float:
    current = request_context.current()
    if current is None or current.deadline is None:
        return SHARE_MAX_S
    return min(SHARE_MAX_S, max(0.0, SHARE * (current.deadline - time.monotonic())))
