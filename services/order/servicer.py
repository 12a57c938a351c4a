"""The RPCs of orders, in proto order."""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import grpc
from bodega.order.v1 import order_pb2 as pb
from bodega.order.v1 import order_pb2_grpc

from services.chassis import context as request_context
from services.chassis import failpoints, wire
from services.chassis.flags import Flags
from services.chassis.identity.ownership import must_own
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import Call, call
from services.kernel.clock import Clock
from services.kernel.ids import Ids
from services.kernel.money import Money
from services.order import convert, domain, facts, projection, refusals
from services.order.details import Details
from services.order.flags import CAPTURE
from services.order.neighbours import Neighbours, may_buy
from services.order.queries import Queries
from services.order.saga import Saga
from services.order.store import Transaction
from services.order.watch import OrderWatch

Context = grpc.aio.ServicerContext[Any, Any]

SETTLE_MARGIN_S: Final = 0.5  # kept back from the deadline, so that the answer still arrives
SETTLE_DEFAULT_S: Final = 9.5  # where no deadline is known

ACCEPTED: Final = failpoints.site("order.accept.after")


class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """Accepts orders, shows them, calls them off."""

    def __init__(
        self,
        store: Store[Transaction],
        neighbours: Neighbours,
        saga: Saga,
        *,
        queries: Queries,
        details: Details,
        watch: OrderWatch,
        flags: Flags,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._queries = queries
        self._details = details
        self._watch = watch
        self._flags = flags
        self._neighbours = neighbours
        self._saga = saga
        self._clock = clock
        self._ids = ids

    async def CreateOrder(self, request: pb.CreateOrderRequest, context: Context) -> pb.Order:
        """Remembers only the order's id, so that a repeat answers with the order as it is then."""
        this = call(request)
        known = await self._store.recall(this, pb.Order)
        order_id = (known or await self._accept(this, request)).order_id
        if request.wait_until_settled:
            await self._saga.settled(order_id, timeout_s=_time_to_settle_s())
        return await self._shown(order_id)

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.Order:
        return await self._shown(wire.uuid_key(request.order_id))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        return await self._queries.orders(request)

    async def ListOrderEvents(
        self, request: pb.ListOrderEventsRequest, context: Context
    ) -> pb.ListOrderEventsResponse:
        buyer = await self._check_owner(wire.uuid_key(request.order_id))
        return await self._queries.history(request, buyer=buyer if _asks(buyer) else "")

    async def GetOrderDetails(self, request: pb.GetOrderDetailsRequest, context: Context) -> pb.OrderDetails:
        return await self._details.gathered(await self._shown(wire.uuid_key(request.order_id)))

    async def WatchOrder(
        self, request: pb.WatchOrderRequest, context: Context
    ) -> AsyncGenerator[pb.WatchOrderResponse, None]:
        order_id = wire.uuid_key(request.order_id)
        await self._check_owner(order_id)
        async for entry in self._watch.events(order_id, after_version=request.after_version):
            yield entry

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.Order:
        now = self._clock.now()
        return await self._move(
            call(request),
            wire.uuid_key(request.order_id),
            lambda order: order.cancel(reason=request.reason, at=now),
        )

    async def UpdateOrderStatus(self, request: pb.UpdateOrderStatusRequest, context: Context) -> pb.Order:
        this, order_id = call(request), wire.uuid_key(request.order_id)
        if request.state == pb.Order.STATE_SHIPPED:
            return await self._ship(this, order_id, request.tracking_reference)
        now = self._clock.now()
        return await self._move(this, order_id, lambda order: order.deliver(at=now))

    async def RefundOrder(self, request: pb.RefundOrderRequest, context: Context) -> pb.Order:
        now, refund_id = self._clock.now(), self._ids.new()

        def move(order: domain.Order) -> domain.Order:
            return order.refund(
                refund_id,
                convert.quantities_wanted(request.lines),
                return_stock=request.return_stock,
                reason=request.reason,
                at=now,
            )

        return await self._move(call(request), wire.uuid_key(request.order_id), move)

    async def ListStuckOrders(
        self, request: pb.ListStuckOrdersRequest, context: Context
    ) -> pb.ListStuckOrdersResponse:
        return await self._queries.stuck(request)

    async def ResumeOrder(self, request: pb.ResumeOrderRequest, context: Context) -> pb.Order:
        return await self._move(call(request), wire.uuid_key(request.order_id), _resumable)

    async def ForceCompensateOrder(
        self, request: pb.ForceCompensateOrderRequest, context: Context
    ) -> pb.Order:
        now = self._clock.now()
        return await self._move(
            call(request),
            wire.uuid_key(request.order_id),
            lambda order: order.give_up(reason=request.reason, at=now),
        )

    async def _accept(self, this: Call, request: pb.CreateOrderRequest) -> pb.Order:
        """Gathers what the decision needs, decides, and from that commit on the order survives anything."""
        user_id = wire.uuid_key(request.user_id)
        user, products = await self._neighbours.buyer_and_products(user_id, request.lines)
        order_id = self._ids.new()
        capture = self._flags.value(CAPTURE, user_id, order_id=order_id)
        now = self._clock.now()

        def place(tx: Transaction) -> pb.Order:
            may_buy(user_id, user)
            lines = convert.lines_wanted(request.lines, products)
            total = domain.total_of(lines, request.currency)
            if request.HasField("expected_total"):
                _expected(total, request)
            placed = facts.Placed(user_id, lines, total, wire.uuid_key(request.payment_method_id), capture)
            order = self._saga.accept(tx, domain.place(order_id, placed, at=now))
            # Not here, after the commit: a buyer who leaves during it has ordered all the same.
            tx.after_commit(lambda: self._saga.take(order))
            return pb.Order(order_id=order_id)

        reply = await self._store.once(this, place)
        failpoints.reach(ACCEPTED)
        return reply

    async def _ship(self, this: Call, order_id: str, tracking_reference: str) -> pb.Order:
        """Has money that is only held taken first, in commits of its own; without it the parcel stays."""
        if known := await self._store.recall(this, pb.Order):
            return known
        order = await self._store.read(lambda tx: tx.orders.get(order_id))
        if order.is_only_held:
            order = await self._store.write(lambda tx: self._take_payment(tx, order_id))
            self._saga.wake()
        if order.is_being_paid:
            await self._saga.settled(order_id, timeout_s=_time_to_settle_s())
        now = self._clock.now()
        return await self._move(
            this, order_id, lambda found: found.ship(tracking_reference=tracking_reference, at=now)
        )

    def _take_payment(self, tx: Transaction, order_id: str) -> domain.Order:
        now = self._clock.now()
        order = tx.orders.save(tx.orders.get(order_id).take_payment(at=now))
        if order.is_being_paid:
            tx.drives.wake(order_id, now=now)
        return order

    async def _move(
        self, this: Call, order_id: str, move: Callable[[domain.Order], domain.Order]
    ) -> pb.Order:
        """Moves an order and has the saga go on with it at once."""
        now = self._clock.now()

        def moved(tx: Transaction) -> pb.Order:
            found = tx.orders.get(order_id)
            _check_owner(order_id, found.user_id)
            order = tx.orders.save(move(found))
            if not order.is_settled:
                tx.drives.wake(order_id, now=now)
            return projection.order_to_proto(order)

        reply = await self._store.once(this, moved)
        self._saga.wake()
        return reply

    async def _shown(self, order_id: str) -> pb.Order:
        order = await self._store.read(lambda tx: tx.orders.shown(order_id))
        _check_owner(order_id, order.user_id)
        return order

    async def _check_owner(self, order_id: str) -> str:
        """The id of the buyer, if the caller may know."""
        buyer = await self._store.read(lambda tx: tx.orders.buyer(order_id))
        _check_owner(order_id, buyer)
        return buyer


def _check_owner(order_id: str, user_id: str) -> None:
    must_own(user_id, refusals.OrderNotFound(order_id=order_id))


def _asks(user_id: str) -> bool:
    """Whether it is this user who calls."""
    current = request_context.current()
    return current is not None and current.caller.user_id == user_id


def _resumable(order: domain.Order) -> domain.Order:
    if order.is_settled:
        raise refusals.OrderSettled(order_id=order.id, state=order.state)
    return order


def _expected(total: Money, request: pb.CreateOrderRequest) -> None:
    expected = wire.money_from_proto(request.expected_total)
    if expected != total:
        raise refusals.PriceChanged(total=total, expected_total=expected)


def _time_to_settle_s() -> float:
    current = request_context.current()
    if current is None or current.deadline is None:
        return SETTLE_DEFAULT_S
    return max(0.0, current.deadline - time.monotonic() - SETTLE_MARGIN_S)
