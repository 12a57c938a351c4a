"""One program of the naive shop. Of its services, only what an order asks for is implemented.

python -m tests.load.naive edge|order|user|inventory|payment DATABASE_FILE [NAME=HOST:PORT…]
"""

import json
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import grpc
from bodega.inventory.v1 import inventory_pb2_grpc
from bodega.order.v1 import order_pb2_grpc
from bodega.payment.v1 import payment_pb2_grpc
from bodega.user.v1 import user_pb2_grpc

from tests.load import messages
from tests.load.naive import edge, interceptors, services, tracing
from tests.load.naive.database import Sessions, open_database
from tests.load.naive.orders import Neighbours, Orders
from tests.load.naive.tables import Product, User
from tests.load.programs import commands

STOCK = 1_000_000_000

Targets = dict[str, str]
Add = Callable[[grpc.aio.Server, Sessions, Targets], Awaitable[None]]


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.now(UTC).isoformat(),
            "level": record.levelname,
            "event": record.getMessage(),
        }
        return json.dumps({**line, **getattr(record, "fields", {})})


async def add_user(server: grpc.aio.Server, sessions: Sessions, _targets: Targets) -> None:
    async with sessions.begin() as session:
        session.add(User(id=messages.USER_ID, email="ada@example.com", username="ada", active=True))
    user_pb2_grpc.add_UserServiceServicer_to_server(services.Users(sessions), server)  # type: ignore[abstract]


async def add_inventory(server: grpc.aio.Server, sessions: Sessions, _targets: Targets) -> None:
    async with sessions.begin() as session:
        for number in (1, 2):
            session.add(
                Product(
                    id=messages.product_id(number),
                    sku=f"COFFEE-{number}",
                    name="Coffee, 1 kg",
                    price_minor=1850,
                    currency="USD",
                    on_hand=STOCK,
                )
            )
    inventory_pb2_grpc.add_CatalogServiceServicer_to_server(services.Catalog(sessions), server)  # type: ignore[abstract]
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(services.Inventory(sessions), server)  # type: ignore[abstract]


async def add_payment(server: grpc.aio.Server, sessions: Sessions, _targets: Targets) -> None:
    payment_pb2_grpc.add_PaymentServiceServicer_to_server(services.Payments(sessions), server)  # type: ignore[abstract]


async def add_order(server: grpc.aio.Server, sessions: Sessions, targets: Targets) -> None:
    provider = tracing.provider()
    neighbours = Neighbours(
        **{
            name: grpc.aio.insecure_channel(target, interceptors=tracing.client_interceptors(provider))
            for name, target in targets.items()
        }
    )
    orders = Orders(sessions, neighbours)  # type: ignore[abstract]
    order_pb2_grpc.add_OrderServiceServicer_to_server(orders, server)


SERVICES: dict[str, Add] = {
    "user": add_user,
    "inventory": add_inventory,
    "payment": add_payment,
    "order": add_order,
}


async def serve(name: str, database: str, targets: Targets) -> None:
    sessions = await open_database(database)
    stack: list[Any] = [tracing.server_interceptor(tracing.provider()), *interceptors.stack()]
    server = grpc.aio.server(interceptors=stack)
    await SERVICES[name](server, sessions, targets)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await commands.obey(port=port)
    await server.stop(None)


def main(name: str, database: str, targets: Targets) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if name == "edge":
        commands.run_yardstick(edge.serve(targets["order"], access_log=True))
    else:
        commands.run_yardstick(serve(name, database, targets))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dict(given.split("=", 1) for given in sys.argv[3:]))
