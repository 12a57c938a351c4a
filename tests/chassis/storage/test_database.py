"""Transactions on a real SQLite file."""

import asyncio
from collections.abc import Callable

import sqlalchemy as sa

from tests.chassis.storage.notebook import Notes, Transaction, notes


async def test_what_was_written_can_be_read(store: Notes) -> None:
    await store.write(lambda tx: tx.add("a", "first"))

    assert await store.read(lambda tx: tx.text("a")) == "first"
    assert [row["id"] for row in await store.fetch(sa.select(notes.c.id))] == ["a"]


async def test_many_at_once_all_commit(store: Notes) -> None:
    def add(number: int) -> Callable[[Transaction], None]:
        def fn(tx: Transaction) -> None:
            tx.add(str(number))

        return fn

    await asyncio.gather(*(store.write(add(n)) for n in range(500)))
    assert await store.read(lambda tx: tx.count()) == 500
