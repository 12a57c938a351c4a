"""What the books of a shop say right now: its databases, the provider's, and the streams."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from services.chassis import audit
from services.cli import verify
from services.cli.audit import reading
from services.cli.data_folder import sqlite_url
from services.cli.refusal import Refused
from services.cli.shop import Shop
from services.kernel.clock import from_micros
from services.notification.domain import State
from services.notification.tables import notifications
from services.order.tables import order_drives
from services.order.tables import orders as order_rows
from services.payment.domain import Outcome
from services.payment.tables import operations

T = TypeVar("T")


async def violations(shop: Shop) -> list[str]:
    """A line for every invariant of `bodega verify` that does not hold at this moment."""
    return await asyncio.to_thread(_violations, shop)


def _violations(shop: Shop) -> list[str]:
    try:
        verdicts = reading.verify(verify.places(shop.folder), wait=lambda: None)
    except Refused as refused:  # the broker is still on its way
        return [str(refused)]
    violated = [f"{verdict.name}: {verdict.finding}" for verdict in verdicts if verdict.is_violated]
    return violated + [f"{verdict.name}: {verdict.skipped}" for verdict in verdicts if verdict.skipped]


async def told(shop: Shop, subject: str) -> list[str]:
    """Titles of the messages sent about an order, or to a user, sorted."""
    about = sa.or_(notifications.c.order_id == subject, notifications.c.user_id == subject)
    sent = sa.select(notifications.c.title).where(about, notifications.c.state == str(State.SENT))
    return await _asked(shop, "notification", lambda books: sorted(books.scalars(sent)))


async def done_at_provider(shop: Shop, order_id: str) -> list[str]:
    """Kinds of the operations that succeeded for an order, in their order."""
    done = sa.select(operations.c.kind).where(
        operations.c.order_id == order_id, operations.c.outcome == str(Outcome.SUCCEEDED)
    )
    return await _asked(
        shop, "payment", lambda books: list(books.scalars(done.order_by(operations.c.number)))
    )


async def orders(shop: Shop) -> set[str]:
    """Ids of all orders."""
    return await _asked(shop, "order", lambda books: set(books.scalars(sa.select(order_rows.c.order_id))))


@dataclass(frozen=True, slots=True)
class Life:
    """An order that is settled: when it was placed, and when it last moved."""

    placed: datetime
    moved: datetime

    @property
    def took_s(self) -> float:
        return (self.moved - self.placed).total_seconds()


async def lives(shop: Shop) -> list[Life] | None:
    """Of all orders; None while something is under way for one of them."""
    every = sa.select(order_rows.c.create_time, order_rows.c.update_time, order_rows.c.under_way)
    rows = await _asked(shop, "order", lambda books: books.execute(every).all())
    if any(row.under_way for row in rows):
        return None
    return [Life(from_micros(row.create_time), from_micros(row.update_time)) for row in rows]


async def attempts(shop: Shop, order_id: str) -> int:
    """Attempts at an order's next step that came to nothing."""
    tried = sa.select(order_drives.c.attempts).where(order_drives.c.order_id == order_id)
    return await _asked(shop, "order", lambda books: books.scalar(tried) or 0)


async def _asked(shop: Shop, service: str, question: Callable[[sa.Connection], T]) -> T:
    def ask() -> T:
        with audit.reading(sqlite_url(shop.folder.address(service))) as books:
            return question(books)

    return await asyncio.to_thread(ask)
