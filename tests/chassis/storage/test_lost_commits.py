"""The line is cut between COMMIT and its answer: it may have happened, and the caller's repeat is safe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import sqlalchemy as sa
from bodega.order.v1 import order_pb2

from services.chassis.storage import writers
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StorageUnavailable
from services.chassis.storage.idempotency import Call, call
from services.kernel.clock import SystemClock
from tests.chassis.events.waiting import eventually
from tests.chassis.storage.notebook import Notes, Transaction
from tests.chassis.storage.test_idempotency import request
from tests.databases import connected, only_postgresql
from tests.faults.proxy import Proxy

pytestmark = only_postgresql
NEVER_S = 3600.0


@asynccontextmanager
async def behind(way: Proxy, url: str) -> AsyncIterator[Notes]:
    address = sa.make_url(url).set(port=way.port).render_as_string(hide_password=False)
    async with Store(address, open_transaction=Transaction, clock=SystemClock(), secret=b"secret") as store:
        yield store


def noting(tx: Transaction) -> order_pb2.Order:
    """Takes a note, and answers with the how-manieth it is."""
    number = tx.count() + 1
    tx.add(str(number))
    return order_pb2.Order(order_id=f"note-{number}")


@pytest.mark.parametrize("it_happened", [True, False])
async def test_a_repeat_finds_out_whether_a_commit_without_an_answer_has_happened(
    url: str, monkeypatch: pytest.MonkeyPatch, *, it_happened: bool
) -> None:
    made = sa.make_url(url)
    async with Proxy(f"{made.host}:{made.port}") as way, behind(way, url) as store:
        loop, committing, commit = asyncio.get_running_loop(), asyncio.Event(), writers._commit

        async def lose() -> None:
            """The answer is on its way for ever, or COMMIT itself is."""
            way.delay(back_s=NEVER_S) if it_happened else way.delay(there_s=NEVER_S)
            committing.set()

        def losing(*args: Any) -> None:
            asyncio.run_coroutine_threadsafe(lose(), loop).result()
            commit(*args)

        monkeypatch.setattr(writers, "_commit", losing)
        first = asyncio.create_task(store.once(the_call(), noting))
        await committing.wait()
        monkeypatch.undo()
        if it_happened:
            await eventually(lambda: _are_there(url, 1))
        way.reset()
        with pytest.raises(StorageUnavailable):
            await first
        way.forward()

        assert await store.once(the_call(), noting) == order_pb2.Order(order_id="note-1")
        assert await store.read(lambda tx: tx.count()) == 1


def the_call() -> Call:
    return call(request())


async def _are_there(url: str, count: int) -> bool:
    with closing(connected(url)) as server:
        return bool(server.execute("SELECT count(*) FROM notes").fetchone() == (count,))
