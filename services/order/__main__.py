"""The order service as a program: `python -m services.order`."""

from contextlib import AsyncExitStack
from datetime import timedelta

from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.chassis import app
from services.chassis.client import connect
from services.chassis.events import inbox, outbox
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.feed import Feed
from services.chassis.observed import observe
from services.chassis.paging import Pages
from services.chassis.policy.backoff import Backoff
from services.chassis.storage import idempotency
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds
from services.order.config import OrderSettings
from services.order.details import Details
from services.order.neighbours import Neighbours
from services.order.participants import Participants
from services.order.queries import Queries
from services.order.saga import Patience, Saga
from services.order.servicer import OrderServicer
from services.order.store import Transaction
from services.order.watch import OrderWatch


async def run(settings: OrderSettings) -> None:
    """Builds the service and serves until told to stop."""
    clock = SystemClock()
    ids = TimeOrderedIds(clock)
    feed = Feed()
    secret = settings.request_digest_secret.get_secret_value().encode()
    server = app.App(settings, clock=clock)
    async with AsyncExitStack() as open_things:
        store = await open_things.enter_async_context(
            Store(
                settings.database_url,
                open_transaction=lambda session: Transaction(session, ids, feed),
                clock=clock,
                secret=secret,
            )
        )
        jetstream = await open_things.enter_async_context(JetStream.connect(settings.nats_url, name="order"))
        users = await open_things.enter_async_context(
            connect(settings.user_target, user_pb2.DESCRIPTOR, metrics=server.metrics)
        )
        inventory = await open_things.enter_async_context(
            connect(settings.inventory_target, inventory_pb2.DESCRIPTOR, metrics=server.metrics)
        )
        payment = await open_things.enter_async_context(
            connect(settings.payment_target, payment_pb2.DESCRIPTOR, metrics=server.metrics)
        )
        saga = Saga(
            store,
            Participants(
                # The saga repeats its calls itself, with backoff and patience.
                inventory_pb2_grpc.InventoryServiceStub(inventory.without_retries()),
                payment_pb2_grpc.PaymentServiceStub(payment.without_retries()),
                hold_s=settings.hold_s,
            ),
            clock=clock,
            patience=Patience(
                timedelta(seconds=settings.step_patience_s),
                Backoff(settings.backoff_base_s, settings.backoff_max_s),
            ),
            driver=settings.driver,
            feed=feed,
        )
        servicer = OrderServicer(
            store,
            Neighbours(
                user_pb2_grpc.UserServiceStub(users), inventory_pb2_grpc.CatalogServiceStub(inventory)
            ),
            saga,
            queries=Queries(store, Pages(secret, clock=clock)),
            details=Details(
                user_pb2_grpc.UserServiceStub(users),
                inventory_pb2_grpc.InventoryServiceStub(inventory),
                payment_pb2_grpc.PaymentServiceStub(payment),
                clock=clock,
            ),
            watch=OrderWatch(store, feed),
            clock=clock,
            ids=ids,
        )
        server.serve(order_pb2_grpc.add_OrderServiceServicer_to_server, servicer, order_pb2.DESCRIPTOR)
        server.check("database", store.ready)
        server.on_drain(feed.close)
        server.metrics.gauge("order_watchers", "Streams of orders being served.", lambda: feed.watchers)
        server.background("saga", saga.run)
        relay = Relay(store, jetstream, service="order", clock=clock)
        observe(server.metrics, store, relay=relay)
        server.background("relay", relay.run)
        server.background(
            "janitor",
            Janitor(store, outbox.RETENTION, inbox.RETENTION, idempotency.RETENTION, clock=clock).run,
        )
        await server.run()


if __name__ == "__main__":
    app.main(run(app.begin(OrderSettings, "order")))
