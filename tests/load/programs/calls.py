"""Makes gRPC calls, so many at a time: as load, and as what is measured for the client onion.

python -m tests.load.programs.calls HOST:PORT bare|onion
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import grpc
from bodega.order.v1 import order_pb2, order_pb2_grpc

from services.chassis import client
from services.chassis.context import RequestContext, TraceContext, set_current
from tests.load import identity, messages
from tests.load.programs import commands
from tests.load.programs.commands import Json

DEADLINE_S = 600.0  # of the request that all calls are made for

Call = Callable[[], Awaitable[object]]


async def bare(target: str) -> None:
    async with grpc.aio.insecure_channel(target, options=client.options(target)) as channel:
        await _obey(order_pb2_grpc.OrderServiceStub(channel))


async def onion(target: str) -> None:
    """As a handler calls a neighbour: inside a request with a trace and a deadline."""
    set_current(RequestContext(TraceContext.fresh(), deadline=time.monotonic() + DEADLINE_S))
    async with client.connect(target, order_pb2.DESCRIPTOR) as channel:
        await _obey(order_pb2_grpc.OrderServiceStub(channel))


async def _obey(stub: order_pb2_grpc.OrderServiceStub) -> None:
    request = messages.request()
    reply = await stub.CreateOrder(request, metadata=(identity.authorization(),))
    assert reply == messages.reply(), "not the order that every echo answers with"

    async def handle(command: Json) -> Json:
        as_load = {"metadata": (messages.TRACEPARENT, identity.authorization()), "timeout": 10.0}
        options: Json = as_load if command.get("as_load") else {}
        elapsed_s = await timed(
            command["requests"], command["in_flight"], lambda: stub.CreateOrder(request, **options)
        )
        return {"elapsed_s": elapsed_s}

    await commands.obey(handle)


async def timed(requests: int, in_flight: int, call: Call) -> float:
    """Seconds that this many calls take. Raises what a call raises."""
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await call()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(worker())
    return time.perf_counter() - begun


if __name__ == "__main__":
    if sys.argv[2] == "bare":
        commands.run_yardstick(bare(sys.argv[1]))
    else:
        commands.run(onion(sys.argv[1]))
