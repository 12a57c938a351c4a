"""Watching orders where reads are done in threads, side by side."""

import asyncio
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.order import domain
from services.order.store import Transaction
from services.order.watch import OrderWatch
from tests.order.conftest import placed

ID = "0190dddd-0000-7000-8000-000000000001"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S = 10


async def test_who_looks_at_the_same_time_as_others_sees_every_version_once(
    store: Store[Transaction],
) -> None:
    await store.write(lambda tx: tx.orders.save(domain.place(ID, placed(), at=NOW)))
    stored = await store.read(lambda tx: tx.orders.timeline(ID))
    both = threading.Barrier(2, timeout=WAIT_S)

    def timeline(_order_id: str, *, after: int = 0) -> Any:
        both.wait()
        return stored[after:]

    async def read(fn: Any) -> Any:
        return await asyncio.to_thread(fn, SimpleNamespace(orders=SimpleNamespace(timeline=timeline)))

    in_threads: Any = SimpleNamespace(read=read)
    watching = OrderWatch(in_threads, Feed())
    with watching._log(ID) as log:
        await asyncio.gather(watching._extend(ID, log), watching._extend(ID, log))
        assert [entry.version for entry in log.entries] == [1]
