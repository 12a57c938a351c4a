"""The proxy does what it is told, to connections that stand and to those to come, and counts."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.chassis.testing import until
from tests.faults.proxy import CHUNK_BYTES, CHUNKS_MAX, HOST, Proxy, trouble

WAIT_S = 10.0
SOON_S = 0.05  # nothing came for that long: it is held back, not late
BULK = b"x" * (2 * CHUNK_BYTES * CHUNKS_MAX)  # more than the proxy would ever hold


class Caller:
    """Someone who is connected."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes) -> bytes:
        """What the echo says to it."""
        self.writer.write(text)
        return await self.heard(len(text))

    async def heard(self, count: int) -> bytes:
        heard = bytearray()
        async with asyncio.timeout(WAIT_S):
            while len(heard) < count and (more := await self.reader.read(count - len(heard))):
                heard += more
        return bytes(heard)

    async def rest(self) -> bytes:
        """All that comes until the other side ends."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SOON_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Caller(reader, writer)
    finally:
        await gone(writer)


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def echo(first: bytes = b"") -> AsyncIterator[str]:
    """A server that says its piece and then repeats what it hears; its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(first)
            while heard := await reader.read(CHUNK_BYTES):
                writer.write(heard)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            await gone(writer)

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def way() -> AsyncIterator[Proxy]:
    async with echo() as target, Proxy(target) as proxy:
        yield proxy


async def test_what_is_sent_arrives_whole_both_ways(way: Proxy) -> None:
    async with calling(way.port) as caller:
        sending = asyncio.create_task(caller.ask(BULK))
        assert await sending == BULK
        caller.writer.write_eof()
        assert await caller.rest() == b""
    assert (way.connections, way.there.bytes, way.back.bytes) == (1, len(BULK), len(BULK))
    await until(lambda: way.standing == 0, WAIT_S)


async def test_each_direction_has_its_own_delay(way: Proxy) -> None:
    async with calling(way.port) as caller:
        took = {}
        for there_s, back_s in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.1), (0.2, 0.1)):
            way.delay(there_s=there_s, back_s=back_s)
            began = time.monotonic()
            assert await caller.ask(b"ping") == b"ping"
            took[there_s, back_s] = time.monotonic() - began
        way.forward()
        assert await caller.ask(b"ping") == b"ping"
    assert all(took[there_s, back_s] >= there_s + back_s for there_s, back_s in took)


async def test_a_delay_is_a_distance_and_not_a_queue(way: Proxy) -> None:
    """Ten things sent one after the other are late by one delay, not by ten."""
    way.delay(there_s=0.2)
    async with calling(way.port) as caller:
        began = time.monotonic()
        for _ in range(10):
            caller.writer.write(b"ping")
            await caller.writer.drain()
            await asyncio.sleep(0.005)  # apart, or they would be one
        assert await caller.heard(40) == b"ping" * 10
        assert 0.2 <= time.monotonic() - began < 10 * 0.2


async def test_what_is_held_by_a_hang_flows_on_afterwards(way: Proxy) -> None:
    async with calling(way.port) as caller:
        assert await caller.ask(b"one") == b"one"
        async with trouble(way, way.hang):
            caller.writer.write(b"two")
            assert await caller.hears_nothing()
            async with calling(way.port) as newcomer:  # is accepted, and that is all
                newcomer.writer.write(b"new")
                assert await newcomer.hears_nothing()
                way.forward()
                assert await newcomer.heard(3) == b"new"
        assert await caller.heard(3) == b"two"


async def test_a_hang_holds_no_more_than_its_due(way: Proxy) -> None:
    async with calling(way.port) as caller:
        assert await caller.ask(b"one") == b"one"
        way.hang()
        much = 7 * BULK  # the kernel's pipes hold some of it, too
        caller.writer.write(much)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await caller.writer.drain()
        way.forward()
        assert await caller.heard(len(much)) == much


@pytest.mark.parametrize("begin", [Proxy.drop, Proxy.refuse])
async def test_what_is_dropped_ends_without_a_word(way: Proxy, begin: Callable[[Proxy], None]) -> None:
    async with calling(way.port) as caller:
        assert await caller.ask(b"one") == b"one"
        begin(way)
        assert await caller.rest() == b""


async def test_newcomers_are_dropped_too(way: Proxy) -> None:
    way.drop()
    async with calling(way.port) as caller:
        assert await caller.rest() == b""


async def test_a_reset_is_an_error_at_once(way: Proxy) -> None:
    async with calling(way.port) as caller:
        assert await caller.ask(b"one") == b"one"
        way.reset()
        with pytest.raises(ConnectionResetError):
            await caller.rest()
    with pytest.raises(ConnectionResetError):
        async with calling(way.port) as newcomer:
            await newcomer.rest()


async def test_where_nobody_listens_nobody_connects(way: Proxy) -> None:
    async with trouble(way, way.refuse):
        with pytest.raises(ConnectionRefusedError):
            async with calling(way.port):
                pass
    async with calling(way.port) as caller:
        assert await caller.ask(b"back") == b"back"


async def test_bandwidth_is_limited(way: Proxy) -> None:
    way.limit(20_000)
    async with calling(way.port) as caller:
        began = time.monotonic()
        assert await caller.ask(b"x" * 4_000) == b"x" * 4_000
        assert time.monotonic() - began >= 4_000 / 20_000
        way.forward()
        assert await caller.ask(BULK) == BULK


async def test_callers_are_led_to_another_target(way: Proxy) -> None:
    async with echo(first=b"other") as other, calling(way.port) as caller:
        assert await caller.ask(b"one") == b"one"
        way.lead_to(lambda: other)
        assert await caller.rest() == b""
        async with calling(way.port) as again:
            assert await again.ask(b"hello") == b"other"
            assert await again.heard(5) == b"hello"


async def test_a_target_that_is_not_there_is_a_broken_connection() -> None:
    async with echo() as gone:
        pass
    async with Proxy(gone) as way, calling(way.port) as caller:
        with pytest.raises(ConnectionResetError):
            await caller.rest()


async def test_nothing_stays_behind() -> None:
    before = asyncio.all_tasks()
    async with echo() as target:
        async with Proxy(target) as way, calling(way.port) as caller:
            assert await caller.ask(b"one") == b"one"
            way.hang()
        assert way.standing == 0
    await until(lambda: asyncio.all_tasks() <= before, WAIT_S)
