"""A server that answers every order request with the same order: bare grpc.aio, or behind the onion.

python -m tests.load.programs.echo bare|onion|open    (open: the onion, letting in everyone)
"""

import sys
from typing import Any

import grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc

from services.chassis import app, telemetry
from services.chassis.config import ServiceSettings
from services.chassis.identity.workload import workload_of
from services.chassis.server.access import Access, Everyone
from services.chassis.server.gate import Gate
from tests.load import identity, messages
from tests.load.programs import commands


class Echo(order_pb2_grpc.OrderServiceServicer):
    def __init__(self) -> None:
        self._reply = messages.reply()

    async def CreateOrder(self, request: order_pb2.CreateOrderRequest, context: Any) -> order_pb2.Order:
        return self._reply


def echo() -> Echo:
    return Echo()  # type: ignore[abstract]  # of all RPCs, one is called


async def bare() -> None:
    server = grpc.aio.server(options=app.OPTIONS)
    order_pb2_grpc.add_OrderServiceServicer_to_server(echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await commands.obey(port=port)
    await server.stop(None)


async def onion() -> None:
    """As a service runs: telemetry, a log line a call, metrics, deadline, access, validation, health."""
    await _behind(Access(await identity.tokens(), workload_of))


async def let_in() -> None:
    await _behind(Everyone())


async def _behind(access: Gate) -> None:
    telemetry.configure_logging("echo", "info")
    served = app.App(ServiceSettings(service="echo", guests_plaintext=True), access=access)
    served.serve(order_pb2_grpc.add_OrderServiceServicer_to_server, echo(), order_pb2.DESCRIPTOR)
    async with served.running():
        await commands.obey(port=int(served.grpc_address.rpartition(":")[2]))


if __name__ == "__main__":
    match sys.argv[1]:
        case "bare":
            commands.run_yardstick(bare())
        case "onion":
            commands.run(onion())
        case "open":
            commands.run(let_in())
