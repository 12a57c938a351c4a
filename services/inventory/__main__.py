"""Starts the inventory service: `python -m services.inventory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bodega.inventory.v1 import inventory_pb2
from bodega.inventory.v1.inventory_pb2_grpc import (
    add_CatalogServiceServicer_to_server,
    add_InventoryServiceServicer_to_server,
)

from services.chassis import app
from services.chassis.events import outbox
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.feed import Feed
from services.chassis.observed import observe
from services.chassis.paging import Pages
from services.chassis.storage import idempotency
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.inventory.config import Settings
from services.inventory.servicer import CatalogServicer, InventoryServicer
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from services.inventory.store import Transaction
from services.inventory.sweeper import Sweeper
from services.inventory.watch import StockWatch
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds

SERVICE: Final = "inventory"


def main() -> None:
    app.main(run(app.begin(Settings, SERVICE)))


async def run(settings: Settings) -> None:
    """Serves until it is told to stop. The database must have been migrated."""
    async with assembled(settings) as server:
        await server.run()


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[app.App]:
    """The whole service, not yet serving."""
    clock = SystemClock()
    ids = TimeOrderedIds(clock)
    feed = Feed()
    secret = settings.request_digest_secret.get_secret_value().encode()
    store = Store(
        settings.database_url,
        open_transaction=lambda session: Transaction(session, ids, feed),
        clock=clock,
        secret=secret,
    )
    async with store, JetStream.connect(settings.nats_url, name=SERVICE) as jetstream:
        server = app.App(settings, clock=clock)
        pages = Pages(secret, clock=clock)
        catalog = CatalogServicer(store, clock=clock, ids=ids, pages=pages)
        stock = InventoryServicer(store, clock=clock, ids=ids, pages=pages, watch=StockWatch(store, feed))
        server.serve(add_CatalogServiceServicer_to_server, catalog, inventory_pb2.DESCRIPTOR)
        server.serve(add_InventoryServiceServicer_to_server, stock, inventory_pb2.DESCRIPTOR)
        server.on_drain(feed.close)
        server.metrics.gauge("stock_watchers", "Streams of stock being served.", lambda: feed.watchers)
        # A write, so that the writer answers for itself; of a table, so that an empty database does not.
        server.check("database", lambda: store.write(lambda tx: tx.warehouses.check(DEFAULT_WAREHOUSE_ID)))
        server.check("events", jetstream.ready, required=False)
        relay = Relay(store, jetstream, service=SERVICE, clock=clock)
        observe(server.metrics, store, relay=relay)
        server.background("relay", relay.run)
        server.background("sweeper", Sweeper(store, clock=clock).run)
        server.background("janitor", Janitor(store, idempotency.RETENTION, outbox.RETENTION, clock=clock).run)
        yield server


if __name__ == "__main__":
    main()
