"""The order service: asks everyone in turn inside the request, and hopes that nobody dies meanwhile."""

import uuid
from dataclasses import dataclass
from typing import Any

import grpc
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc

from tests.load.naive import money
from tests.load.naive.database import Sessions
from tests.load.naive.tables import Order, OrderLine

CALL_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A channel to each."""

    user: grpc.aio.Channel
    inventory: grpc.aio.Channel
    payment: grpc.aio.Channel


class Orders(order_pb2_grpc.OrderServiceServicer):
    def __init__(self, sessions: Sessions, neighbours: Neighbours) -> None:
        self._sessions = sessions
        self._users = user_pb2_grpc.UserServiceStub(neighbours.user)
        self._catalog = inventory_pb2_grpc.CatalogServiceStub(neighbours.inventory)
        self._inventory = inventory_pb2_grpc.InventoryServiceStub(neighbours.inventory)
        self._payments = payment_pb2_grpc.PaymentServiceStub(neighbours.payment)

    async def CreateOrder(self, request: order_pb2.CreateOrderRequest, context: Any) -> order_pb2.Order:
        order = await self._accepted(request)
        order.reservation_id = await self._reserved(order)
        order.payment_id = await self._paid_for(order)
        async with self._sessions.begin() as session:
            saved = await session.get_one(Order, order.id)
            saved.reservation_id, saved.payment_id = order.reservation_id, order.payment_id
            saved.state = "CONFIRMED"
        return _proto(saved)

    async def _accepted(self, request: order_pb2.CreateOrderRequest) -> Order:
        user = await self._users.GetUser(user_pb2.GetUserRequest(user_id=request.user_id), timeout=CALL_MAX_S)
        if user.state != user_pb2.User.STATE_ACTIVE:
            raise ValueError("this user may not buy")
        wanted = {line.product_id: line.quantity for line in request.lines}
        found = await self._catalog.BatchGetProducts(
            inventory_pb2.BatchGetProductsRequest(product_ids=list(wanted)), timeout=CALL_MAX_S
        )
        lines = [
            OrderLine(
                product_id=product.product_id,
                sku=product.sku,
                name=product.name,
                quantity=wanted[product.product_id],
                price_minor=money.minor(product.price),
            )
            for product in found.products
        ]
        order = Order(
            id=str(uuid.uuid4()),
            user_id=request.user_id,
            payment_method_id=request.payment_method_id,
            state="PENDING",
            total_minor=sum(line.price_minor * line.quantity for line in lines),
            currency=request.currency,
            lines=lines,
        )
        async with self._sessions.begin() as session:
            session.add(order)
        return order

    async def _reserved(self, order: Order) -> str:
        reservation = await self._inventory.ReserveStock(
            inventory_pb2.ReserveStockRequest(
                order_id=order.id,
                lines=[
                    inventory_pb2.ReserveLine(product_id=line.product_id, quantity=line.quantity)
                    for line in order.lines
                ],
                request_id=str(uuid.uuid4()),
            ),
            timeout=CALL_MAX_S,
        )
        return reservation.reservation_id

    async def _paid_for(self, order: Order) -> str:
        payment = await self._payments.AuthorizePayment(
            payment_pb2.AuthorizePaymentRequest(
                order_id=order.id,
                user_id=order.user_id,
                payment_method_id=order.payment_method_id,
                amount=money.proto(order.total_minor, order.currency),
                request_id=str(uuid.uuid4()),
            ),
            timeout=CALL_MAX_S,
        )
        sold = inventory_pb2.CommitStockRequest(order_id=order.id, request_id=str(uuid.uuid4()))
        await self._inventory.CommitStock(sold, timeout=CALL_MAX_S)
        taken = payment_pb2.CapturePaymentRequest(order_id=order.id, request_id=str(uuid.uuid4()))
        await self._payments.CapturePayment(taken, timeout=CALL_MAX_S)
        return payment.payment_id


def _proto(order: Order) -> order_pb2.Order:
    made = order_pb2.Order(
        order_id=order.id,
        user_id=order.user_id,
        state=order_pb2.Order.STATE_CONFIRMED,
        lines=[
            order_pb2.OrderLine(
                product_id=line.product_id,
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=money.proto(line.price_minor, order.currency),
            )
            for line in order.lines
        ],
        total=money.proto(order.total_minor, order.currency),
        payment_method_id=order.payment_method_id,
        reservation_id=order.reservation_id,
        payment_id=order.payment_id,
        version=2,
    )
    made.create_time.FromDatetime(order.created_at)
    made.update_time.FromDatetime(order.updated_at)
    return made
