"""Starts the inventory service: `python -m services.inventory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bodega.inventory.v1 import inventory_pb2
from bodega.inventory.v1.inventory_pb2_grpc import (
    add_CatalogServiceServicer_to_server,
    add_InventoryServiceServicer_to_server,
)

from services.chassis.app import App
from services.chassis.events import outbox
from services.chassis.feed import Feed
from services.chassis.service import main, opened
from services.chassis.storage import idempotency
from services.chassis.storage.schema import Schema
from services.inventory.config import Settings
from services.inventory.servicer import CatalogServicer, InventoryServicer
from services.inventory.store import Transaction
from services.inventory.sweeper import Sweeper
from services.inventory.watch import StockWatch


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[App]:
    """The whole service, not yet serving."""
    feed = Feed()
    async with opened(
        settings, lambda session, ids: Transaction(session, ids, feed), schema=Schema.beside(__file__)
    ) as service:
        server, store, pages = service.app, service.store, service.pages
        clock, ids = service.clock, service.ids
        catalog = CatalogServicer(store, clock=clock, ids=ids, pages=pages)
        stock = InventoryServicer(store, clock=clock, ids=ids, pages=pages, watch=StockWatch(store, feed))
        server.serve(add_CatalogServiceServicer_to_server, catalog, inventory_pb2.DESCRIPTOR)
        server.serve(add_InventoryServiceServicer_to_server, stock, inventory_pb2.DESCRIPTOR)
        server.on_drain(feed.close)
        server.metrics.gauge("stock_watchers", "Streams of stock being served.", lambda: feed.watchers)
        service.alone("sweeper", Sweeper(store, clock=clock).run)
        service.share(feed)
        service.publish()
        service.forget(idempotency.RETENTION, outbox.RETENTION)
        yield server


if __name__ == "__main__":
    main(Settings, "inventory", assembled)
