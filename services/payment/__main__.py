"""Starts the payment service: `python -m services.payment`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bodega.payment.v1 import payment_pb2
from bodega.payment.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server

from services.chassis import app
from services.chassis.events import inbox, outbox
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.observed import observe
from services.chassis.paging import Pages
from services.chassis.storage import idempotency
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.payment import webhook
from services.payment.config import PaymentSettings
from services.payment.operations import Operations
from services.payment.queries import Queries
from services.payment.reconciler import Reconciler
from services.payment.sandbox import Sandbox
from services.payment.sandbox_courier import Courier
from services.payment.servicer import PaymentServicer
from services.payment.store import SERVICE, Transaction
from services.payment.webhooks import Webhooks


def main() -> None:
    app.main(run(app.begin(PaymentSettings, SERVICE)))


async def run(settings: PaymentSettings) -> None:
    """Serves until it is told to stop. The database must have been migrated."""
    async with assembled(settings) as server:
        await server.run()


@asynccontextmanager
async def assembled(settings: PaymentSettings) -> AsyncIterator[app.App]:
    """The whole service, not yet serving."""
    clock = SystemClock()
    ids = TimeOrderedIds(clock)
    secret = settings.request_digest_secret.get_secret_value().encode()
    store = Store(
        settings.database_url,
        open_transaction=lambda session: Transaction(session, ids),
        clock=clock,
        secret=secret,
    )
    sandbox = Sandbox(settings.provider_database_url, clock=clock, ids=ids, slow_s=settings.sandbox_slow_s)
    operations = Operations(
        store,
        sandbox,
        clock=clock,
        driver=settings.driver,
        answer_within_s=settings.provider_answers_within_s,
    )
    jetstream_connected = JetStream.connect(settings.nats_url, name=SERVICE)
    async with store, sandbox, jetstream_connected as jetstream, operations:
        reconciler = Reconciler(store, operations, sandbox, clock=clock)
        await reconciler.take_over(settings.driver)
        queries = Queries(store, Pages(secret, clock=clock))
        webhook_key = webhook.key(settings.webhook_secret.get_secret_value())
        webhooks = Webhooks(store, operations, sandbox, key=webhook_key, clock=clock)
        courier = Courier(sandbox, partial(webhooks.take, sandbox.name), key=webhook_key, clock=clock)
        servicer = PaymentServicer(store, sandbox, operations, queries, webhooks, clock=clock, ids=ids)
        server = app.App(settings, clock=clock)
        server.serve(add_PaymentServiceServicer_to_server, servicer, payment_pb2.DESCRIPTOR)
        server.check("database", lambda: store.read(lambda tx: tx.payments.check()))
        server.check("provider", sandbox.ready, required=False)
        server.check("events", jetstream.ready, required=False)
        relay = Relay(store, jetstream, service=SERVICE, clock=clock)
        observe(server.metrics, store, relay=relay)
        server.background("relay", relay.run)
        server.background("reconciler", reconciler.run)
        server.background("sandbox courier", courier.run)
        kept = (idempotency.RETENTION, outbox.RETENTION, inbox.RETENTION)
        server.background("janitor", Janitor(store, *kept, clock=clock).run)
        yield server


if __name__ == "__main__":
    main()
