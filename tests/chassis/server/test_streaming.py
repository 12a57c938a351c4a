"""Streams end when they are old, idle, or not read; what can be resumed ends well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.chassis import context, status, telemetry
from services.chassis.context import STREAM_ENDED
from services.chassis.contract import STREAM_DEADLINE_MAX_S
from services.chassis.server import streaming
from services.chassis.testing import serving, until
from services.kernel.clock import SystemClock
from tests.chassis import playground
from tests.chassis.playground import SERVICE, Ping, Pong

WAIT_S = 10.0


@asynccontextmanager
async def playing(**handlers: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with serving((playground.add_to_server, handlers), files=[playground.FILE]) as channel:
        yield channel.raw


def watch(channel: grpc.aio.Channel, name: str, *, timeout_s: float | None = None) -> Any:
    call: Any = channel.unary_stream(f"/{SERVICE}/{name}", Ping.SerializeToString, Pong.FromString)
    return call(Ping(), timeout=timeout_s)


async def ended_with(call: Any) -> tuple[str, str | None, str | None]:
    """Code, reason, and why a stream that can be resumed was ended."""
    async with asyncio.timeout(WAIT_S):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code().name, status.reason(error), None
        return (await call.code()).name, None, dict(await call.trailing_metadata()).get(STREAM_ENDED)


class Silent:
    """Says one thing and nothing more."""

    def __init__(self) -> None:
        self.is_over = False

    async def answer(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            yield Pong(name="first")
            await asyncio.Event().wait()
        finally:
            self.is_over = True


async def chatter(_request: Any, _context: Any) -> AsyncIterator[Any]:
    while True:
        yield Pong(name="again")


@pytest.mark.parametrize("handler", [Silent().answer, chatter])
async def test_an_old_stream_ends_well_before_its_deadline_where_it_can_be_resumed(handler: Any) -> None:
    async with playing(Follow=handler) as channel:
        assert await ended_with(watch(channel, "Follow", timeout_s=1.0)) == ("OK", None, "age")


async def test_an_old_stream_that_cannot_be_resumed_is_not_called_whole() -> None:
    async with playing(Glance=(silent := Silent()).answer) as channel:
        assert await ended_with(watch(channel, "Glance")) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", None)
    assert silent.is_over


@pytest.mark.parametrize(
    ("name", "end"), [("Follow", ("OK", None, "idle")), ("Watch", ("UNAVAILABLE", "STREAM_IDLE", None))]
)
async def test_a_stream_in_which_nothing_happens_ends(
    monkeypatch: pytest.MonkeyPatch, name: str, end: tuple[str, str | None, str | None]
) -> None:
    monkeypatch.setattr(streaming, "IDLE_MAX_S", 0.05)
    async with playing(**{name: (silent := Silent()).answer}) as channel:
        assert await ended_with(watch(channel, name)) == end
    assert silent.is_over


async def test_a_stream_is_idle_from_its_last_message_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IDLE_MAX_S", 1.0)

    async def seldom(_request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(5):
            await asyncio.sleep(0.3)
            yield Pong(name=str(number))

    async with playing(Follow=seldom) as channel:
        assert [reply.name async for reply in watch(channel, "Follow")] == ["0", "1", "2", "3", "4"]


async def test_a_stream_whose_contract_names_no_deadline_has_an_age_all_the_same() -> None:
    ages = []

    async def once(_request: Any, _context: Any) -> AsyncIterator[Any]:
        request = context.current()
        assert request is not None
        assert request.deadline is not None
        ages.append(request.deadline - SystemClock().monotonic())
        yield Pong()

    async with playing(Watch=once) as channel:
        await ended_with(watch(channel, "Watch"))
    assert STREAM_DEADLINE_MAX_S - WAIT_S < ages[0] <= STREAM_DEADLINE_MAX_S


async def test_a_client_that_reads_nothing_is_let_go_and_told_if_it_reads_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "STALL_MAX_S", 0.1)
    is_over = False

    async def endless(_request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal is_over
        try:
            while True:
                yield Pong(name="x" * 100_000)
        finally:
            is_over = True

    with telemetry.captured() as lines:
        async with playing(Follow=endless) as channel:
            call = watch(channel, "Follow")
            await call.read()
            await until(lambda: is_over)
            await until(lambda: [line for line in lines if line["event"] == "call"])
            assert await ended_with(call) == ("RESOURCE_EXHAUSTED", "WATCHER_TOO_SLOW", None)
    assert [line["code"] for line in lines if line["event"] == "call"] == ["RESOURCE_EXHAUSTED"]


async def test_what_times_out_in_a_handler_is_the_handlers_own() -> None:
    async def impatient(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield Pong()
        raise TimeoutError

    with telemetry.captured():
        async with playing(Follow=impatient) as channel:
            assert (await ended_with(watch(channel, "Follow")))[0] == "INTERNAL"
