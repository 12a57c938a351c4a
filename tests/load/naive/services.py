"""User, inventory and payment: what an order asks of them, a session and a commit for each step."""

import uuid
from typing import Any

from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.load.naive import money
from tests.load.naive.database import Sessions
from tests.load.naive.tables import Payment, Product, Reservation, ReservationLine, User

AUTHORIZED, CAPTURED = payment_pb2.Payment.STATE_AUTHORIZED, payment_pb2.Payment.STATE_CAPTURED
RESERVED, COMMITTED = inventory_pb2.Reservation.STATE_RESERVED, inventory_pb2.Reservation.STATE_COMMITTED


class Users(user_pb2_grpc.UserServiceServicer):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Any) -> user_pb2.User:
        async with self._sessions() as session:
            user = await session.get(User, request.user_id)
        if user is None:
            raise LookupError("there is no such user")
        state = user_pb2.User.STATE_ACTIVE if user.active else user_pb2.User.STATE_SUSPENDED
        return user_pb2.User(user_id=user.id, email=user.email, username=user.username, state=state)


class Catalog(inventory_pb2_grpc.CatalogServiceServicer):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def BatchGetProducts(
        self, request: inventory_pb2.BatchGetProductsRequest, context: Any
    ) -> inventory_pb2.BatchGetProductsResponse:
        async with self._sessions() as session:
            found = await session.scalars(select(Product).where(Product.id.in_(request.product_ids)))
            products = list(found)
        return inventory_pb2.BatchGetProductsResponse(
            products=[
                inventory_pb2.Product(
                    product_id=product.id,
                    sku=product.sku,
                    name=product.name,
                    price=money.proto(product.price_minor, product.currency),
                )
                for product in products
            ]
        )


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def ReserveStock(
        self, request: inventory_pb2.ReserveStockRequest, context: Any
    ) -> inventory_pb2.Reservation:
        wanted = {line.product_id: line.quantity for line in request.lines}
        async with self._sessions.begin() as session:
            for product in await _products(session, wanted):
                if product.on_hand - product.reserved < wanted[product.id]:
                    raise ValueError("out of stock")
                product.reserved += wanted[product.id]
            reservation = Reservation(id=str(uuid.uuid4()), order_id=request.order_id, state="RESERVED")
            reservation.lines = [
                ReservationLine(product_id=product_id, quantity=quantity)
                for product_id, quantity in wanted.items()
            ]
            session.add(reservation)
        return inventory_pb2.Reservation(
            reservation_id=reservation.id, order_id=request.order_id, state=RESERVED
        )

    async def CommitStock(
        self, request: inventory_pb2.CommitStockRequest, context: Any
    ) -> inventory_pb2.Reservation:
        async with self._sessions.begin() as session:
            found = await session.scalars(select(Reservation).where(Reservation.order_id == request.order_id))
            reservation = found.one()
            sold = {line.product_id: line.quantity for line in reservation.lines}
            for product in await _products(session, sold):
                product.reserved -= sold[product.id]
                product.on_hand -= sold[product.id]
            reservation.state = "COMMITTED"
        return inventory_pb2.Reservation(
            reservation_id=reservation.id, order_id=request.order_id, state=COMMITTED
        )


class Payments(payment_pb2_grpc.PaymentServiceServicer):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def AuthorizePayment(
        self, request: payment_pb2.AuthorizePaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        payment = Payment(
            id=str(uuid.uuid4()),
            order_id=request.order_id,
            user_id=request.user_id,
            payment_method_id=request.payment_method_id,
            amount_minor=money.minor(request.amount),
            currency=request.amount.currency_code,
            state="AUTHORIZED",
        )
        async with self._sessions.begin() as session:
            session.add(payment)
        return _payment(payment, AUTHORIZED)

    async def CapturePayment(
        self, request: payment_pb2.CapturePaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        async with self._sessions.begin() as session:
            found = await session.scalars(select(Payment).where(Payment.order_id == request.order_id))
            payment = found.one()
            payment.state = "CAPTURED"
        return _payment(payment, CAPTURED)


async def _products(session: AsyncSession, ids: dict[str, int]) -> list[Product]:
    """In one order, so that nobody waits for each other."""
    found = await session.scalars(select(Product).where(Product.id.in_(ids)).order_by(Product.id))
    return list(found)


def _payment(payment: Payment, state: payment_pb2.Payment.State.ValueType) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        payment_id=payment.id,
        order_id=payment.order_id,
        user_id=payment.user_id,
        payment_method_id=payment.payment_method_id,
        amount=money.proto(payment.amount_minor, payment.currency),
        state=state,
    )
