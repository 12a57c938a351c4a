"""Lives of the payment service, one after the other on the same two files, each ended when a test likes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bodega.payment.v1 import payment_pb2 as pb
from google.type.money_pb2 import Money

from services.chassis.testing import FakeClock
from services.payment.sandbox_books import Books as SandboxBooks
from tests.payment.house import House, new_id


class Lives:
    """One life of the service after the other, on the same two files."""

    def __init__(self, url: str, provider_url: str, clock: FakeClock) -> None:
        self._files = (url, provider_url)
        self.clock = clock

    @asynccontextmanager
    async def one(self, *, answer_within_s: float = 5.0) -> AsyncIterator["Till"]:
        async with House(*self._files, self.clock, serves=False, answer_within_s=answer_within_s) as house:
            yield Till(house)


class Till:
    """The servicer of one life, called without a network."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._rpcs = house.servicer

    async def method(self, card: str = "tok_approve") -> pb.PaymentMethod:
        return await self._rpcs.AddPaymentMethod(
            pb.AddPaymentMethodRequest(user_id=new_id(), provider_token=card, request_id=new_id()), _nobody()
        )

    async def wanted(self, card: str = "tok_approve") -> pb.AuthorizePaymentRequest:
        method = await self.method(card)
        wanted = pb.AuthorizePaymentRequest(
            order_id=new_id(),
            user_id=method.user_id,
            payment_method_id=method.payment_method_id,
            request_id=new_id(),
        )
        wanted.amount.currency_code, wanted.amount.units = "EUR", 7
        return wanted

    async def authorize(self, wanted: pb.AuthorizePaymentRequest) -> pb.Payment:
        return await self._rpcs.AuthorizePayment(wanted, _nobody())

    async def process(self, wanted: pb.AuthorizePaymentRequest) -> pb.Payment:
        request = pb.ProcessPaymentRequest(
            order_id=wanted.order_id,
            user_id=wanted.user_id,
            payment_method_id=wanted.payment_method_id,
            amount=wanted.amount,
            request_id=wanted.request_id,
        )
        return await self._rpcs.ProcessPayment(request, _nobody())

    async def capture(
        self, order_id: str, request_id: str = "capture", amount: Money | None = None
    ) -> pb.Payment:
        request = pb.CapturePaymentRequest(
            order_id=order_id, amount=amount, request_id=f"{order_id} {request_id}"
        )
        return await self._rpcs.CapturePayment(request, _nobody())

    async def void(self, order_id: str, request_id: str = "void") -> pb.Payment:
        request = pb.VoidPaymentRequest(order_id=order_id, request_id=f"{order_id} {request_id}")
        return await self._rpcs.VoidPayment(request, _nobody())

    async def refund(
        self, order_id: str, refund_id: str, request_id: str = "refund", amount: Money | None = None
    ) -> pb.Payment:
        request = pb.RefundPaymentRequest(
            order_id=order_id, refund_id=refund_id, amount=amount, request_id=f"{order_id} {request_id}"
        )
        return await self._rpcs.RefundPayment(request, _nobody())

    async def state(self, order_id: str) -> str:
        payment = await self.house.store.read(lambda tx: tx.payments.get_of_order(order_id))
        return str(payment.state)

    async def operations(self, order_id: str) -> list[str]:
        payment = await self.house.store.read(lambda tx: tx.payments.get_of_order(order_id))
        return [f"{one.kind} {one.outcome}" for one in payment.operations]


async def capture_elsewhere(house: House, payment_id: str) -> None:
    """By another hand than ours, e.g. in the provider's dashboard."""
    payment = await house.store.read(lambda tx: tx.payments.get(payment_id))
    await house.sandbox.capture(
        f"dashboard {payment_id}", authorization=payment.authorization, amount=payment.amount
    )


async def late_capture(house: House, authorization: str) -> None:
    """The provider honours a capture of a hold that it gave up, as some do."""

    def force(books: SandboxBooks) -> None:
        row = books._authorization(authorization)
        books._move(row, captured_minor=row["amount_minor"])

    await house.sandbox.books.write(force)


def _nobody() -> Any:
    """No handler here looks at its gRPC context."""
    return None
