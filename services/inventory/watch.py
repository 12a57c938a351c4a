"""Streams of how much there is of a product, fed by commits.

Whoever is woken sends the newest levels and nothing in between: a client that reads slowly skips what has
been overtaken, so that nothing piles up behind it. All who watch a product share one reading of it.
"""

from collections.abc import AsyncGenerator

from bodega.inventory.v1 import inventory_pb2 as pb

from services.chassis.feed import Feed
from services.chassis.storage.database import Store
from services.inventory import convert
from services.inventory.store import Transaction


class StockWatch:
    """Answers WatchStock."""

    def __init__(self, store: Store[Transaction], feed: Feed) -> None:
        self._store = store
        self._feed = feed

    async def levels(
        self, product_id: str, *, after_version: int
    ) -> AsyncGenerator[pb.WatchStockResponse, None]:
        """The newest levels, unless the client has them already; then those after each change, until a drain.

        Raises ProductNotFound or TooManyWatchers.
        """

        def look(tx: Transaction) -> pb.WatchStockResponse:
            tx.products.get(product_id)
            return convert.levels_to_proto(tx.stock.version(product_id), tx.stock.levels([product_id]))

        seen = after_version or None
        with self._feed.watching(product_id) as watch:
            while not self._feed.closed:
                newest = await watch.shared(lambda: self._store.read(look))
                # Any other version: one from before a restored backup must not leave its client waiting.
                if newest.version != seen:
                    yield newest
                    seen = newest.version
                await watch.news()
