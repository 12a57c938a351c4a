"""Streams of what happens to an order: every event once and in order, to however many watch.

Fed by commits, not by polling: a watcher is woken when its order has moved and takes what is new from a log
that all watchers of the order share. So a thousand of them cost one copy of a short history, and a slow one
holds nothing but its place in it.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager

from bodega.order.v1 import order_pb2 as pb

from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.chassis.storage.event_store import StoredEvent
from services.order import convert, domain, refusals
from services.order.store import Transaction, event_from_stored


class _Log:
    """What happened to one order, as its watchers are told."""

    def __init__(self) -> None:
        self.entries: list[pb.WatchOrderResponse] = []
        self.watchers = 0
        self._order: domain.Order | None = None

    def extend(self, order_id: str, timeline: Iterable[StoredEvent]) -> None:
        for stored in timeline:
            if stored.version <= len(self.entries):
                continue  # who looked at the same time was faster
            self._order = domain.replay(order_id, [event_from_stored(stored)], self._order)
            self.entries.append(
                pb.WatchOrderResponse(
                    version=stored.version,
                    state=convert.state_to_proto(self._order.state),
                    # Staff and buyers share the log, so all see what buyers may.
                    event=convert.event_to_proto(stored, buyer=self._order.user_id),
                )
            )


class OrderWatch:
    """Answers WatchOrder."""

    def __init__(self, store: Store[Transaction], feed: Feed) -> None:
        self._store = store
        self._feed = feed
        self._logs: dict[str, _Log] = {}

    async def events(
        self, order_id: str, *, after_version: int
    ) -> AsyncGenerator[pb.WatchOrderResponse, None]:
        """What happened behind a version, then what happens, until a drain.

        Raises refusals.OrderNotFound or TooManyWatchers.
        """
        with self._feed.watching(order_id) as watch, self._log(order_id) as log:
            position = after_version
            while not self._feed.closed:
                await watch.shared(lambda: self._extend(order_id, log))
                for entry in log.entries[position:]:
                    yield entry
                    position = entry.version
                await watch.news()

    async def _extend(self, order_id: str, log: _Log) -> None:
        known = len(log.entries)
        # A read may be in a thread, and go on there when its watcher has left: the log is extended out here.
        log.extend(order_id, await self._store.read(lambda tx: tx.orders.timeline(order_id, after=known)))
        if not log.entries:
            raise refusals.OrderNotFound(order_id=order_id)

    @contextmanager
    def _log(self, order_id: str) -> Iterator[_Log]:
        log = self._logs.setdefault(order_id, _Log())
        log.watchers += 1
        try:
            yield log
        finally:
            log.watchers -= 1
            if not log.watchers:
                del self._logs[order_id]
