"""Starts the payment service: `python -m services.payment`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bodega.payment.v1 import payment_pb2
from bodega.payment.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server

from services.chassis.app import App
from services.chassis.events import inbox, outbox
from services.chassis.service import main, opened
from services.chassis.storage import idempotency
from services.chassis.storage.schema import Schema
from services.payment import webhook
from services.payment.config import PaymentSettings
from services.payment.consumers import reactions
from services.payment.operations import Operations
from services.payment.queries import Queries
from services.payment.reconciler import Reconciler
from services.payment.sandbox import Sandbox
from services.payment.sandbox_courier import Courier
from services.payment.servicer import PaymentServicer
from services.payment.store import SERVICE, Transaction
from services.payment.webhooks import Webhooks


@asynccontextmanager
async def assembled(settings: PaymentSettings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    async with opened(settings, Transaction, schema=Schema.beside(__file__)) as service:
        server, store, clock, ids = service.app, service.store, service.clock, service.ids
        sandbox = Sandbox(
            settings.provider_database_url, clock=clock, ids=ids, slow_s=settings.sandbox_slow_s
        )
        operations = Operations(
            store,
            sandbox,
            clock=clock,
            driver=settings.driver,
            answer_within_s=settings.provider_answers_within_s,
        )
        async with sandbox, operations:
            reconciler = Reconciler(store, operations, sandbox, clock=clock)
            await reconciler.take_over(settings.driver)
            webhook_key = webhook.key(settings.webhook_secret.get_secret_value())
            webhooks = Webhooks(store, operations, sandbox, key=webhook_key, clock=clock)
            courier = Courier(sandbox, partial(webhooks.take, sandbox.name), key=webhook_key, clock=clock)
            queries = Queries(store, service.pages)
            servicer = PaymentServicer(store, sandbox, operations, queries, webhooks, clock=clock, ids=ids)
            server.serve(add_PaymentServiceServicer_to_server, servicer, payment_pb2.DESCRIPTOR)
            server.check("provider", sandbox.ready, required=False)
            server.background("reconciler", reconciler.run)
            service.alone("sandbox courier", courier.run)
            service.publish()
            service.consume(reactions(operations, clock=clock))
            service.forget(idempotency.RETENTION, outbox.RETENTION, inbox.RETENTION)
            yield server


if __name__ == "__main__":
    main(PaymentSettings, SERVICE, assembled)
