"""A migrated inventory on a real SQLite file, with time and ids that obey."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bodega.inventory.v1 import inventory_pb2 as pb
from bodega.inventory.v1.inventory_pb2_grpc import (
    CatalogServiceStub,
    InventoryServiceStub,
    add_CatalogServiceServicer_to_server,
    add_InventoryServiceServicer_to_server,
)

from services.chassis import audit as chassis_audit
from services.chassis.feed import Feed
from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock, SequentialIds, serving
from services.inventory import audit
from services.inventory.servicer import CatalogServicer, InventoryServicer
from services.inventory.store import Transaction
from services.inventory.watch import StockWatch
from tests.databases import Databases
from tests.inventory.shop import Shop

MIGRATIONS = Path(__file__).parents[2] / "services" / "inventory" / "migrations"


@pytest.fixture
def url(databases: Databases) -> str:
    made = databases.new("inventory")
    migrate(made, MIGRATIONS)
    return made


@pytest.fixture
def clock() -> FakeClock:
    """Stands at the real time, for audits look at what is young."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def ids() -> SequentialIds:
    return SequentialIds()


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
async def store(
    url: str, clock: FakeClock, ids: SequentialIds, feed: Feed
) -> AsyncIterator[Store[Transaction]]:
    made = Store(
        url,
        open_transaction=lambda session: Transaction(session, ids, feed),
        clock=clock,
        secret=b"for tests",
    )
    async with made:
        yield made


@pytest.fixture
async def shop(
    store: Store[Transaction], clock: FakeClock, ids: SequentialIds, feed: Feed
) -> AsyncIterator[Shop]:
    pages = Pages(b"for tests", clock=clock)
    catalog = CatalogServicer(store, clock=clock, ids=ids, pages=pages)
    inventory = InventoryServicer(store, clock=clock, ids=ids, pages=pages, watch=StockWatch(store, feed))
    async with serving(
        (add_CatalogServiceServicer_to_server, catalog),
        (add_InventoryServiceServicer_to_server, inventory),
        files=[pb.DESCRIPTOR],
    ) as channel:
        yield Shop(CatalogServiceStub(channel), InventoryServiceStub(channel), clock, store)


@pytest.fixture
def check_invariants(url: str) -> Callable[[], dict[str, dict[str, int]]]:
    """Runs every audit of inventory, and gives back the figures."""

    def check() -> dict[str, dict[str, int]]:
        with chassis_audit.reading(url) as connection:
            findings = [check.find(connection) for check in audit.CHECKS]
        assert [finding for finding in findings if not finding.holds] == []
        return {finding.name: finding.figures for finding in findings}

    return check
