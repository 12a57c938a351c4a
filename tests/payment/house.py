"""A payment service assembled for tests, with a line to its provider that fails when it is told to."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from bodega.payment.v1 import payment_events_pb2, payment_pb2
from bodega.payment.v1.payment_pb2_grpc import PaymentServiceStub, add_PaymentServiceServicer_to_server
from google.protobuf.message import Message
from google.type.money_pb2 import Money

from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock, serving
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.kernel.money import Money as Amount
from services.payment.domain import Answer
from services.payment.operations import Operations
from services.payment.provider import ProviderSilent
from services.payment.queries import Queries
from services.payment.reconciler import Reconciler
from services.payment.sandbox import Sandbox
from services.payment.sandbox_courier import Courier
from services.payment.servicer import PaymentServicer
from services.payment.store import Transaction
from services.payment.tables import outbox_rows
from services.payment.webhooks import Webhooks

MIGRATIONS = Path(__file__).parents[2] / "services" / "payment" / "migrations"
DRIVER = "payment-0"
WEBHOOK_KEY = b"signs for tests"
ANSWER_WITHIN_S = 5.0  # longer than anything here takes
AMOUNT = Money(currency_code="USD", units=12, nanos=340_000_000)


def new_id() -> str:
    return str(uuid.uuid4())


class Killed(BaseException):
    """The process is no more: no `except Exception` of it runs."""


class Fault(StrEnum):
    """What becomes of one question to the provider."""

    NONE = "none"
    UNREACHED = "unreached"
    LOST_REPLY = "lost reply"
    KILLED_BEFORE = "killed before it is reached"
    KILLED_AFTER = "killed before it is heard"


class Line:
    """The way to the sandbox: a Provider that fails as scripted, and can be stopped before an answer."""

    name = "sandbox"

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.faults: deque[Fault] = deque()
        self.keys: list[str] = []
        """Of every operation that was asked for."""

        self.answers_wait = False
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.describe, self.standing = sandbox.describe, sandbox.standing
        self.changes, self.ready, self.about = sandbox.changes, sandbox.ready, sandbox.about

    async def authorize(self, key: str, *, payment_id: str, token: str, amount: Amount) -> Answer:
        return await self._through(
            key, lambda: self.sandbox.authorize(key, payment_id=payment_id, token=token, amount=amount)
        )

    async def capture(self, key: str, *, authorization: str, amount: Amount) -> Answer:
        return await self._through(
            key, lambda: self.sandbox.capture(key, authorization=authorization, amount=amount)
        )

    async def void(self, key: str, *, authorization: str) -> Answer:
        return await self._through(key, lambda: self.sandbox.void(key, authorization=authorization))

    async def refund(self, key: str, *, authorization: str, amount: Amount) -> Answer:
        return await self._through(
            key, lambda: self.sandbox.refund(key, authorization=authorization, amount=amount)
        )

    async def _through(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        self.keys.append(key)
        fault = self.faults.popleft() if self.faults else Fault.NONE
        if fault is Fault.UNREACHED:
            raise ConnectionRefusedError
        if fault is Fault.KILLED_BEFORE:
            raise Killed
        answer = await ask()
        if self.answers_wait:
            self.asked.set()
            await self.answers.wait()
        if fault is Fault.LOST_REPLY:
            raise ProviderSilent
        if fault is Fault.KILLED_AFTER:
            raise Killed
        return answer


class House:
    """One life of the service on its two files; open another on the same files and it goes on."""

    def __init__(
        self,
        url: str,
        provider_url: str,
        clock: FakeClock,
        *,
        serves: bool = True,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.clock = clock
        self._serves = serves
        self._open = AsyncExitStack()
        ids = TimeOrderedIds(SystemClock())
        self.store = Store(
            url, open_transaction=lambda session: Transaction(session, ids), clock=clock, secret=b"for tests"
        )
        self.sandbox = Sandbox(provider_url, clock=clock, ids=ids, slow_s=0.01)
        self.line = Line(self.sandbox)
        self.operations = Operations(
            self.store,
            self.line,
            clock=clock,
            driver=DRIVER,
            answer_within_s=answer_within_s,
            random=lambda: 0.0,
        )
        self.reconciler = Reconciler(self.store, self.operations, self.line, clock=clock)
        queries = Queries(self.store, Pages(b"for tests", clock=clock))
        self.webhooks = Webhooks(self.store, self.operations, self.line, key=WEBHOOK_KEY, clock=clock)
        self.courier = Courier(
            self.sandbox,
            partial(self.webhooks.take, "sandbox"),
            key=WEBHOOK_KEY,
            clock=clock,
            random=lambda: 0.0,
        )
        self.servicer = PaymentServicer(
            self.store, self.line, self.operations, queries, self.webhooks, clock=clock, ids=ids
        )
        self.stub: PaymentServiceStub

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self.store)
        await self._open.enter_async_context(self.sandbox)
        await self._open.enter_async_context(self.operations)
        await self.reconciler.take_over(DRIVER)
        if self._serves:
            added = (add_PaymentServiceServicer_to_server, self.servicer)
            channel = await self._open.enter_async_context(serving(added, files=[payment_pb2.DESCRIPTOR]))
            self.stub = PaymentServiceStub(channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def method(self, card: str = "tok_approve", user_id: str = "") -> payment_pb2.PaymentMethod:
        return await self.stub.AddPaymentMethod(
            payment_pb2.AddPaymentMethodRequest(
                user_id=user_id or new_id(), provider_token=card, request_id=new_id()
            )
        )

    async def authorization(
        self, card: str = "tok_approve", order_id: str = ""
    ) -> payment_pb2.AuthorizePaymentRequest:
        """A request that nothing is wrong with."""
        method = await self.method(card)
        return payment_pb2.AuthorizePaymentRequest(
            order_id=order_id or new_id(),
            user_id=method.user_id,
            payment_method_id=method.payment_method_id,
            amount=AMOUNT,
            request_id=new_id(),
        )

    async def processing(self, card: str = "tok_approve") -> payment_pb2.ProcessPaymentRequest:
        """A request that nothing is wrong with."""
        wanted = await self.authorization(card)
        return payment_pb2.ProcessPaymentRequest(
            order_id=wanted.order_id,
            user_id=wanted.user_id,
            payment_method_id=wanted.payment_method_id,
            amount=wanted.amount,
            request_id=wanted.request_id,
        )

    async def capture(
        self, order_id: str, request_id: str = "", amount: Money | None = None
    ) -> payment_pb2.Payment:
        return await self.stub.CapturePayment(
            payment_pb2.CapturePaymentRequest(
                order_id=order_id, amount=amount, request_id=request_id or new_id()
            )
        )

    async def void(self, order_id: str, request_id: str = "") -> payment_pb2.Payment:
        return await self.stub.VoidPayment(
            payment_pb2.VoidPaymentRequest(order_id=order_id, request_id=request_id or new_id())
        )

    async def refund(
        self, order_id: str, refund_id: str = "", amount: Money | None = None
    ) -> payment_pb2.Payment:
        return await self.stub.RefundPayment(
            payment_pb2.RefundPaymentRequest(
                order_id=order_id, refund_id=refund_id or new_id(), amount=amount, request_id=new_id()
            )
        )

    async def transactions(self, payment_id: str) -> list[tuple[str, str]]:
        """Kind and outcome of every operation, oldest first."""
        found = await self.stub.ListTransactions(payment_pb2.ListTransactionsRequest(payment_id=payment_id))
        kind, outcome = payment_pb2.Transaction.Kind, payment_pb2.Transaction.Outcome
        return [
            (kind.Name(one.kind).removeprefix("KIND_"), outcome.Name(one.outcome).removeprefix("OUTCOME_"))
            for one in found.transactions
        ]

    async def told(self, subject: str) -> list[Message]:
        """The events about an order or a payment method, oldest first."""
        rows = await self.store.fetch(
            sa.select(outbox_rows).where(outbox_rows.c.aggregate_id == subject).order_by(outbox_rows.c.seq)
        )
        return [
            getattr(payment_events_pb2, row["type"].rpartition(".")[2]).FromString(row["body"])
            for row in rows
        ]

    async def settle(self) -> None:
        """What the reconciler does in the next minutes."""
        for _ in range(3):
            self.clock.advance(60)
            await self.reconciler.finish_due()
            await self.reconciler.compare_books()
