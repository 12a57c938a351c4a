"""Messages to try things on, a channel that does as it is told, and how to wait for a state."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.chassis.storage.database import Store
from services.kernel.clock import SystemClock
from services.notification import __path__ as notification_path
from services.notification.domain import Channel, Fact, Message, Notification
from services.notification.store import Transaction

MIGRATIONS = Path(notification_path[0]) / "migrations"
WAIT_MAX_S = 20.0

Messages = Store[Transaction]


class Watched:
    """Lets tests wait for a state of the database instead of for a time."""

    def __init__(self, store: Messages) -> None:
        self._store = store
        self._committed = asyncio.Event()
        store.on_commit(self._committed.set)

    async def until(self, holds: Callable[[Transaction], bool]) -> None:
        async with asyncio.timeout(WAIT_MAX_S):
            while not await self._store.read(holds):
                await self._committed.wait()
                self._committed.clear()


class ScriptedChannel:
    """Fails as often as a user's script says, then takes the message; keeps what it was given."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.taken: list[Notification] = []
        self.tried: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.begun: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, notification: Notification) -> None:
        self.begun.put_nowait(notification.id)
        await self.open.wait()
        self.tried.append(notification.id)
        user_id = notification.message.user_id
        if self.failures.get(user_id, 0) > 0:
            self.failures[user_id] -= 1
            raise ConnectionRefusedError
        self.taken.append(notification)

    async def next_begun(self) -> str:
        """The message whose send has begun, sends in the order they begin."""
        async with asyncio.timeout(WAIT_MAX_S):
            return await self.begun.get()


def written(number: int, user_id: str = "u1", channel: Channel = Channel.CONSOLE) -> Notification:
    """A message about the fact of this number."""
    return Notification.write(
        f"n{number}",
        Message(user_id, "Title", f"Body {number}", order_id="o1"),
        Fact(f"e{number}", "bodega.order.v1.OrderConfirmed"),
        channel=channel,
        at=SystemClock().now(),
    )


async def add(store: Messages, *notifications: Notification) -> None:
    def added(tx: Transaction) -> None:
        for notification in notifications:
            tx.notifications.add(notification)

    await store.write(added)
