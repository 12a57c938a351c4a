"""The RPCs of payment, in proto order.

Those that move money recall what they answered before, then work in two commits around the provider, and
decide and remember their answer in the last one.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from bodega.payment.v1 import payment_pb2 as pb
from bodega.payment.v1 import payment_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from services.chassis import wire
from services.chassis.identity.ownership import must_own
from services.chassis.storage.database import Store
from services.chassis.storage.idempotency import Call, call
from services.kernel.clock import Clock
from services.kernel.errors import DomainError
from services.kernel.ids import Ids
from services.payment import convert, decisions
from services.payment.domain import Kind, Payment
from services.payment.methods import PaymentMethod, PaymentMethodNotFound
from services.payment.operations import Ask, Operations
from services.payment.provider import Provider
from services.payment.queries import Queries
from services.payment.refusals import PaymentClosed, PaymentInProgress, PaymentNotFound
from services.payment.store import Transaction
from services.payment.webhook import Signed
from services.payment.webhooks import Webhooks

Context = grpc.aio.ServicerContext[Any, Any]

Begin = Callable[[Transaction], Ask | None]
"""Begins or takes up an operation; None if there is nothing to ask the provider."""

Decide = Callable[[Transaction, Payment | None], DomainError | None]
"""Returns a final refusal, None if the payment is the answer. Raises "not now", and refusals of nothing."""


class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    """Who pays how, and the money of every order."""

    def __init__(
        self,
        store: Store[Transaction],
        provider: Provider,
        operations: Operations,
        queries: Queries,
        webhooks: Webhooks,
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._provider = provider
        self._operations = operations
        self._queries = queries
        self._webhooks = webhooks
        self._clock = clock
        self._ids = ids

    async def AddPaymentMethod(
        self, request: pb.AddPaymentMethodRequest, context: Context
    ) -> pb.PaymentMethod:
        this = call(request)
        known = await self._store.recall(this, pb.PaymentMethod)
        if known is not None:
            return known
        token = request.provider_token
        added = PaymentMethod(
            id=self._ids.new(),
            user_id=wire.uuid_key(request.user_id),
            provider=self._provider.name,
            card=await self._operations.describe(token),
            created_at=self._clock.now(),
            is_default=request.make_default,
        )
        return await self._store.once(this, lambda tx: convert.method_to_proto(tx.methods.add(added, token)))

    async def ListPaymentMethods(
        self, request: pb.ListPaymentMethodsRequest, context: Context
    ) -> pb.ListPaymentMethodsResponse:
        return await self._queries.methods(request)

    async def RemovePaymentMethod(self, request: pb.RemovePaymentMethodRequest, context: Context) -> Empty:
        now = self._clock.now()

        def remove(tx: Transaction) -> Empty:
            method = _theirs(tx.methods.get(wire.uuid_key(request.payment_method_id)))
            if method.can_pay:
                tx.methods.remove(method.remove(at=now))
            return Empty()

        return await self._store.once(call(request), remove)

    async def SetDefaultPaymentMethod(
        self, request: pb.SetDefaultPaymentMethodRequest, context: Context
    ) -> pb.PaymentMethod:
        def make_default(tx: Transaction) -> pb.PaymentMethod:
            method = _theirs(tx.methods.get(wire.uuid_key(request.payment_method_id))).usable()
            return convert.method_to_proto(tx.methods.make_default(method))

        return await self._store.once(call(request), make_default)

    async def AuthorizePayment(self, request: pb.AuthorizePaymentRequest, context: Context) -> pb.Payment:
        wanted = convert.authorization_from_proto(request)
        payment_id = self._ids.new()

        def begin(tx: Transaction) -> Ask | None:
            payment = tx.payments.of_order(wanted.order_id)
            if payment is None:
                return self._open(tx, wanted, payment_id)
            return self._again(tx, payment, Kind.AUTHORIZE)

        def decide(tx: Transaction, payment: Payment | None) -> DomainError | None:
            return decisions.authorized(payment or _unopened(tx, wanted), wanted)

        return await self._in_one_step(call(request), wanted.order_id, begin, decide)

    async def ProcessPayment(self, request: pb.ProcessPaymentRequest, context: Context) -> pb.Payment:
        wanted = convert.authorization_from_proto(request)
        payment_id = self._ids.new()

        def begin(tx: Transaction) -> Ask | None:
            payment = tx.payments.of_order(wanted.order_id)
            if payment is None:
                # Its wish to be captured is written down with it: should we die, the reconciler goes on.
                return self._open(tx, wanted, payment_id, direct=True)
            if not payment.direct or not wanted.is_of(payment):
                return None
            return self._operations.take_up(tx, wanted.order_id, now=self._clock.now())

        async def process() -> None:
            if ask := await self._store.write(begin):
                await self._operations.carry_on(ask)

        def decide(tx: Transaction, payment: Payment | None) -> DomainError | None:
            return decisions.processed(payment or _unopened(tx, wanted), wanted)

        return await self._to_the_end(call(request), wanted.order_id, process, decide)

    async def CapturePayment(self, request: pb.CapturePaymentRequest, context: Context) -> pb.Payment:
        order_id, amount = wire.uuid_key(request.order_id), convert.amount_asked(request)

        def begin(tx: Transaction) -> Ask | None:
            now = self._clock.now()
            payment = tx.payments.of_order(order_id)
            if payment is None:
                return None
            if payment.can_take(amount):
                return self._operations.begin(tx, payment.capture(amount, at=now), now=now)
            return self._again(tx, payment, Kind.CAPTURE)

        def decide(tx: Transaction, payment: Payment | None) -> DomainError | None:
            return decisions.captured(payment or tx.payments.get_of_order(order_id), amount)

        return await self._in_one_step(call(request), order_id, begin, decide)

    async def VoidPayment(self, request: pb.VoidPaymentRequest, context: Context) -> pb.Payment:
        order_id = wire.uuid_key(request.order_id)

        async def close_and_finish() -> None:
            now = self._clock.now()
            # The wish first, in a commit of its own: from then on whoever comes carries it out.
            await self._store.write(lambda tx: self._operations.close(tx, order_id, now=now))
            await self._operations.finish(order_id)

        def decide(tx: Transaction, payment: Payment | None) -> DomainError | None:
            return decisions.voided(payment or tx.payments.get_of_order(order_id))

        return await self._to_the_end(call(request), order_id, close_and_finish, decide)

    async def RefundPayment(self, request: pb.RefundPaymentRequest, context: Context) -> pb.Payment:
        order_id, refund_id = wire.uuid_key(request.order_id), wire.uuid_key(request.refund_id)
        amount = convert.amount_asked(request)

        def begin(tx: Transaction) -> Ask | None:
            now = self._clock.now()
            payment = tx.payments.of_order(order_id)
            if payment is None:
                return None
            if payment.stands_for(refund_id, amount) and payment.can_refund(refund_id, amount):
                refunding = payment.refund(refund_id=refund_id, amount=amount, at=now)
                return self._operations.begin(tx, refunding, now=now)
            return self._again(tx, payment, Kind.REFUND)

        async def refund() -> None:
            if ask := await self._store.write(begin):
                await self._operations.carry_on(ask)

        def decide(tx: Transaction, payment: Payment | None) -> DomainError | None:
            return decisions.refunded(payment or tx.payments.get_of_order(order_id), refund_id, amount)

        return await self._to_the_end(call(request), order_id, refund, decide)

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.Payment:
        payment_id = wire.uuid_key(request.payment_id)
        payment = await self._store.read(lambda tx: tx.payments.get(payment_id))
        must_own(payment.user_id, PaymentNotFound(payment=payment_id))
        return convert.payment_to_proto(payment)

    async def ListPayments(
        self, request: pb.ListPaymentsRequest, context: Context
    ) -> pb.ListPaymentsResponse:
        return await self._queries.payments(request)

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: Context
    ) -> pb.ListTransactionsResponse:
        return await self._queries.transactions(request)

    async def HandleProviderWebhook(
        self, request: pb.HandleProviderWebhookRequest, context: Context
    ) -> Empty:
        signed = Signed.of(context.invocation_metadata() or ())
        await self._webhooks.take(request.provider, signed, request.event.data)
        return Empty()

    def _open(
        self, tx: Transaction, wanted: decisions.Authorization, payment_id: str, *, direct: bool = False
    ) -> Ask | None:
        now = self._clock.now()
        try:
            tx.methods.usable(wanted.payment_method_id, user_id=wanted.user_id)
        except PaymentMethodNotFound:
            return None  # told, and remembered, when the answer is decided
        begun = Payment.begun(
            order_id=wanted.order_id,
            payment_id=payment_id,
            user_id=wanted.user_id,
            payment_method_id=wanted.payment_method_id,
            amount=wanted.amount,
            at=now,
            direct=direct,
        )
        return self._operations.begin(tx, begun, now=now)

    def _again(self, tx: Transaction, payment: Payment, kind: Kind) -> Ask | None:
        """Takes up what was asked before and not answered. Raises PaymentInProgress if someone is at it."""
        pending = payment.pending
        if pending is None or pending.kind is not kind or payment.closed:
            return None
        return self._operations.take(tx, payment, now=self._clock.now())

    async def _in_one_step(self, this: Call, order_id: str, begin: Begin, decide: Decide) -> pb.Payment:
        """One question to the provider at most; its outcome and the answer to the caller are one commit."""
        known = await self._store.recall(this, pb.Payment)
        if known is not None:
            return known
        return await self._operations.outliving(self._step(this, order_id, begin, decide))

    async def _step(self, this: Call, order_id: str, begin: Begin, decide: Decide) -> pb.Payment:
        ask = await self._store.write(begin)
        answer = await self._operations.ask(ask) if ask else None
        now = self._clock.now()

        def conclude(tx: Transaction) -> pb.Payment | DomainError:
            if ask is not None and answer is not None:
                return _concluded(tx, self._operations.settle(tx, ask, answer, now=now), order_id, decide)
            return _concluded(tx, tx.payments.of_order(order_id), order_id, decide)

        try:
            return await self._store.once(this, conclude)
        except PaymentClosed:
            self._operations.work_waits.set()  # voided while we asked: what came of it goes back at once
            raise
        finally:
            if ask is not None:
                await self._operations.committed(ask)

    async def _to_the_end(
        self,
        this: Call,
        order_id: str,
        work: Callable[[], Awaitable[None]],
        decide: Decide,
    ) -> pb.Payment:
        """As many questions to the provider as it takes, each outcome in a commit of its own."""
        known = await self._store.recall(this, pb.Payment)
        if known is not None:
            return known

        async def to_the_end() -> pb.Payment:
            await work()
            return await self._store.once(
                this, lambda tx: _concluded(tx, tx.payments.of_order(order_id), order_id, decide)
            )

        return await self._operations.outliving(to_the_end())


def _theirs(method: PaymentMethod) -> PaymentMethod:
    must_own(method.user_id, PaymentMethodNotFound(payment_method_id=method.id))
    return method


def _unopened(tx: Transaction, wanted: decisions.Authorization) -> NoReturn:
    """Says why there is no payment: raises PaymentMethodNotFound or PaymentInProgress."""
    tx.methods.usable(wanted.payment_method_id, user_id=wanted.user_id)
    raise PaymentInProgress(order_id=wanted.order_id)  # the method came a moment ago


def _concluded(
    tx: Transaction, payment: Payment | None, order_id: str, decide: Decide
) -> pb.Payment | DomainError:
    refusal = decide(tx, payment)
    return refusal or convert.payment_to_proto(payment or tx.payments.get_of_order(order_id))
