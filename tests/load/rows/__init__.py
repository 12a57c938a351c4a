"""The rows of the table, in its order; each measures by itself, in a folder of its own."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from tests.load.figures import Figure, Pace
from tests.load.rows import edge, memory, onions, orders, relay, store

Row = Callable[[Path, Pace], AsyncIterator[Figure]]

ROWS: Final[dict[str, Row]] = {
    "server": onions.server,
    "access": onions.access,
    "client": onions.client,
    "store": store.store,
    "relay": relay.relay,
    "edge": edge.edge,
    "orders": orders.orders,
    "memory": memory.memory,
}
