"""A neighbour that does as it is told, called over a channel whose time is the test's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.chassis import client
from services.chassis.testing import FakeClock, serving
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.playground import FILE, METHODS, Pong, Stub

WAIT_S = 5.0


class ShopClosed(errors.Unavailable):
    """The shop is closed."""

    retry_after_s = 0.0


class Nowhere(errors.NotFound):
    """There is no {name}."""


class Neighbour:
    """Answers every method with the name it was given, after a while, or with an error; counts its calls."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.fails_with: Exception | None = None
        self.takes_s = 0.0
        self.hangs = False
        self.calls = 0
        self.waiting = 0
        self.gate = asyncio.Event()

    async def answer(self, request: Any, _context: Any) -> Any:
        self.calls += 1
        if self.hangs:
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        self._clock.advance(self.takes_s)
        if self.fails_with:
            raise self.fails_with
        return Pong(name=request.name)


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def called(neighbour: Neighbour, clock: FakeClock, **options: Any) -> AsyncIterator[client.Channel]:
    """A channel to the neighbour, by the test's clock; waits between attempts take no time."""
    handlers = {name: neighbour.answer for name in METHODS if not METHODS[name].is_stream}
    async with (
        serving((playground.add_to_server, handlers), files=[FILE]) as served,
        client.connect(
            served.target, FILE, clock=clock, sleep=_no_wait, random=lambda: 0.5, **options
        ) as channel,
    ):
        yield channel


def stub(channel: client.Channel) -> Stub:
    return Stub(channel)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value
