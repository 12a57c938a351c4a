"""The loop of our programs takes in what grpc has to tell."""

import asyncio
import threading
import time
from concurrent import futures
from typing import Any, Final

import grpc
import pytest

pytest.importorskip("uvloop")

from services.chassis import event_loop

CALLS: Final = 700  # more than twice what fits into the pair of sockets
WAIT_S: Final = 20.0
TURN_S: Final = 0.001
TURNS_MAX: Final = CALLS // 4


class Echo(grpc.GenericRpcHandler):
    """Knows when it has answered all."""

    def __init__(self) -> None:
        self.left = CALLS
        self.answered = threading.Event()

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(self._one_less)
        return request

    def _one_less(self) -> None:
        self.left -= 1
        if not self.left:
            self.answered.set()


def test_what_came_while_the_loop_was_busy_is_taken_in_within_few_turns() -> None:
    echo = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[echo])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def turns_until_all_is_told() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/edge/Echo")
            calls = [asyncio.ensure_future(_made(call)) for _ in range(CALLS)]
            while echo.left == CALLS:  # noqa: ASYNC110 (once one is answered, all are on their way)
                await asyncio.sleep(0)
            assert echo.answered.wait(WAIT_S), echo.left  # a loop that is busy, and hears of nothing
            turns = 0
            while not all(one.done() for one in calls):
                turns += 1
                time.sleep(TURN_S)  # noqa: ASYNC251 (a turn with work in it)
                await asyncio.sleep(0)
            return turns

    try:
        assert event_loop.run(turns_until_all_is_told()) < TURNS_MAX
    finally:
        server.stop(None).wait()


async def _made(call: Any) -> bytes:
    answer: bytes = await call(b"x")
    return answer
