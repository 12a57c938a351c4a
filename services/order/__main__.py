"""Starts the order service: `python -m services.order`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from bodega.inventory.v1 import inventory_pb2
from bodega.inventory.v1.inventory_pb2_grpc import CatalogServiceStub, InventoryServiceStub
from bodega.order.v1 import order_pb2
from bodega.order.v1.order_pb2_grpc import add_OrderServiceServicer_to_server
from bodega.payment.v1 import payment_pb2
from bodega.payment.v1.payment_pb2_grpc import PaymentServiceStub
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis.app import App
from services.chassis.events import inbox, outbox
from services.chassis.feed import Feed
from services.chassis.policy.backoff import Backoff
from services.chassis.service import main, opened
from services.chassis.storage import idempotency
from services.chassis.storage.schema import Schema
from services.order.config import OrderSettings
from services.order.consumers import REACTIONS
from services.order.details import Details
from services.order.flags import CAPTURE
from services.order.neighbours import Neighbours
from services.order.participants import Participants
from services.order.queries import Queries
from services.order.saga import Patience, Saga
from services.order.servicer import OrderServicer
from services.order.store import Transaction
from services.order.watch import OrderWatch


@asynccontextmanager
async def assembled(settings: OrderSettings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    feed = Feed()
    async with opened(
        settings,
        lambda session, ids: Transaction(session, ids, feed),
        flags=[CAPTURE],
        schema=Schema.beside(__file__),
    ) as service:
        server, store, clock = service.app, service.store, service.clock
        users = service.connect(settings.user_target, user_pb2.DESCRIPTOR)
        inventory = service.connect(settings.inventory_target, inventory_pb2.DESCRIPTOR)
        payment = service.connect(settings.payment_target, payment_pb2.DESCRIPTOR)
        # The saga repeats its calls itself, with backoff and patience.
        participants = Participants(
            InventoryServiceStub(inventory.without_retries()),
            PaymentServiceStub(payment.without_retries()),
            hold_s=settings.hold_s,
        )
        saga = Saga(
            store, participants, clock=clock, patience=_patience(settings), driver=settings.driver, feed=feed
        )
        servicer = OrderServicer(
            store,
            Neighbours(UserServiceStub(users), CatalogServiceStub(inventory)),
            saga,
            queries=Queries(store, service.pages),
            details=Details(
                UserServiceStub(users),
                InventoryServiceStub(inventory),
                PaymentServiceStub(payment),
                clock=clock,
            ),
            watch=OrderWatch(store, feed),
            flags=service.flags,
            clock=clock,
            ids=service.ids,
        )
        server.serve(add_OrderServiceServicer_to_server, servicer, order_pb2.DESCRIPTOR)
        server.on_drain(feed.close)
        server.metrics.gauge("order_watchers", "Streams of orders being served.", lambda: feed.watchers)
        server.background("saga", saga.run)
        service.share(feed)
        service.publish()
        service.consume(REACTIONS)
        service.forget(idempotency.RETENTION, outbox.RETENTION, inbox.RETENTION)
        yield server


def _patience(settings: OrderSettings) -> Patience:
    backoff = Backoff(settings.backoff_base_s, settings.backoff_max_s)
    return Patience(timedelta(seconds=settings.step_patience_s), backoff)


if __name__ == "__main__":
    main(OrderSettings, "order", assembled)
