"""Everything that arrives at a server has a bound. (Pages: test_paging; heads, JSON: tests/gateway.)"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis import app, client
from services.chassis.client import MESSAGE_BYTES_MAX
from services.chassis.config import ServiceSettings
from services.chassis.server.access import Everyone
from tests.chassis import playground
from tests.chassis.playground import FILE, SERVICE, Ping, Pong

WAIT_S = 15.0

# RFC 9113, 3.4 and 6.5
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD: Final = struct.Struct(">HBBBL")  # length in 16 + 8 bits, type, flags, stream
SETTING: Final = struct.Struct(">HL")
DATA: Final = 0
HEADERS: Final = 1
SETTINGS: Final = 4
END_STREAM: Final = 1
END_HEADERS: Final = 4
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_HEADER_LIST_SIZE: Final = 6


@asynccontextmanager
async def served(*, drain_grace_s: float = 15.0, **handlers: Any) -> AsyncIterator[app.App]:
    settings = ServiceSettings(service="playground", guests_plaintext=True, drain_grace_s=drain_grace_s)
    server = app.App(settings, access=Everyone())
    server.serve(playground.add_to_server, handlers, FILE)
    async with server.running():
        yield server


def bare(address: str) -> grpc.aio.Channel:
    """A caller without any bounds of its own."""
    unbounded = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    return grpc.aio.insecure_channel(address, options=unbounded)


def method(channel: Any, name: str = "Read") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{name}", Ping.SerializeToString, Pong.FromString)


async def echo(request: Any, _context: Any) -> Any:
    return Pong(name=request.name)


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code()


async def test_a_request_is_four_mebibytes_at_most() -> None:
    async with served(Read=echo) as server, bare(server.grpc_address) as channel:
        too_much = Ping(secret="a" * MESSAGE_BYTES_MAX)
        assert await code_of(method(channel)(too_much)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await method(channel)(Ping(name="small"))).name == "small"


async def test_so_is_a_reply() -> None:
    async def grows(_request: Any, _context: Any) -> Any:
        return Pong(name="a" * MESSAGE_BYTES_MAX)

    async with served(Read=grows) as server, bare(server.grpc_address) as channel:
        assert await code_of(method(channel)(Ping())) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_is_eight_kibibytes_at_most() -> None:
    async with served(Read=echo) as server, bare(server.grpc_address) as channel:
        fits = (("x-much", "a" * (app.METADATA_BYTES_MAX - 1024)),)
        assert (await method(channel)(Ping(name="fits"), metadata=fits)).name == "fits"
        for key, value in (("x-much", "a" * app.METADATA_BYTES_MAX), ("x-bin", b"\xff" * 9000)):
            call = method(channel)(Ping(), metadata=((key, value),))
            assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        many = tuple((f"x-{n}", "a") for n in range(250))  # each counts for 32 bytes more
        assert await code_of(method(channel)(Ping(), metadata=many)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_is_told_how_much_it_may_carry() -> None:
    async with served(Read=echo) as server, asyncio.timeout(WAIT_S):
        host, _, port = server.grpc_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + FRAME_HEAD.pack(0, 0, SETTINGS, 0, 0))
        high, low, kind, _, _ = FRAME_HEAD.unpack(await reader.readexactly(FRAME_HEAD.size))
        assert kind == SETTINGS
        told = dict(SETTING.iter_unpack(await reader.readexactly((high << 8) + low)))
        writer.close()
        await writer.wait_closed()
    assert told[MAX_CONCURRENT_STREAMS] == app.STREAMS_MAX
    assert told[MAX_HEADER_LIST_SIZE] == app.METADATA_BYTES_MAX


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    return FRAME_HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def literal(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


async def kind_of_frame(reader: asyncio.StreamReader) -> int:
    high, low, kind, _, _ = FRAME_HEAD.unpack(await reader.readexactly(FRAME_HEAD.size))
    await reader.readexactly((high << 8) + low)
    return int(kind)


@asynccontextmanager
async def watcher_without_room(address: str) -> AsyncIterator[None]:
    """Watches the health of all, and lets nobody send it anything."""
    head = {
        ":method": "POST",
        ":scheme": "http",
        ":authority": "playground",
        ":path": "/grpc.health.v1.Health/Watch",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    # Literal fields, never indexed by anyone: RFC 7541, 6.2.2.
    fields = b"".join(b"\0" + literal(name) + literal(value) for name, value in head.items())
    writer.write(
        PREFACE
        + frame(SETTINGS, SETTING.pack(INITIAL_WINDOW_SIZE, 0))
        + frame(HEADERS, fields, flags=END_HEADERS, stream=1)
        + frame(DATA, bytes(5), flags=END_STREAM, stream=1)  # an empty message, uncompressed
    )
    try:
        while await kind_of_frame(reader) != HEADERS:
            pass  # with them the answer has begun
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_watcher_that_takes_nothing_keeps_our_health_from_nobody() -> None:
    is_well = True

    async def database() -> bool:
        return is_well

    async with asyncio.timeout(WAIT_S), AsyncExitStack() as stays, served(drain_grace_s=0.1) as server:
        server.check("database", database)
        await stays.enter_async_context(watcher_without_room(server.grpc_address))
        async with bare(server.grpc_address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            seen = [(await watch.read()).status]
            is_well = False
            seen.append((await watch.read()).status)
            watch.cancel()
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


def ages(monkeypatch: pytest.MonkeyPatch, *, age_ms: int, grace_ms: int = 10_000) -> None:
    """Makes connections age in milliseconds."""
    options = {
        **dict(app.OPTIONS),
        "grpc.max_connection_age_ms": age_ms,
        "grpc.max_connection_age_grace_ms": grace_ms,
    }
    monkeypatch.setattr(app, "OPTIONS", tuple(options.items()))


async def test_a_connection_grows_old_and_no_call_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    ages(monkeypatch, age_ms=400)
    peers = set()

    async def who(request: Any, context: Any) -> Any:
        peers.add(context.peer())
        return Pong(name=request.name)

    async with (
        served(Fire=who) as server,
        client.connect(server.grpc_address, FILE) as channel,
        asyncio.timeout(WAIT_S),
    ):
        fire = method(channel, "Fire")  # which nobody tries again
        while len(peers) < 3:
            await asyncio.gather(*(fire(Ping()) for _ in range(8)))


async def test_a_stream_outlives_its_connections_age_by_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    ages(monkeypatch, age_ms=50, grace_ms=200)

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield Pong()
        await asyncio.Event().wait()

    async with (
        served(Watch=watch) as server,
        client.connect(server.grpc_address, FILE) as channel,
        asyncio.timeout(WAIT_S),
    ):
        stream = playground.Stub(channel).Watch(Ping())
        await stream.read()
        assert await code_of(stream.read()) is grpc.StatusCode.UNAVAILABLE, "whoever reads resumes"
        again = playground.Stub(channel).Watch(Ping())
        await again.read()
        again.cancel()
    assert app.CONNECTION_GRACE_S >= 3600, "ours end before that by themselves"


async def test_a_connection_that_carries_all_it_may_carries_more_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {**dict(app.OPTIONS), "grpc.max_concurrent_streams": 2}
    monkeypatch.setattr(app, "OPTIONS", tuple(few.items()))

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield Pong()
        await asyncio.Event().wait()

    async with served(Read=echo, Watch=watch) as server, bare(server.grpc_address) as channel:
        made: Any = channel.unary_stream(f"/{SERVICE}/Watch", Ping.SerializeToString, Pong.FromString)
        streams = [made(Ping()) for _ in range(2)]
        for stream in streams:
            await stream.read()
        assert await code_of(method(channel)(Ping(), timeout=0.1)) is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = method(channel)(Ping(name="room"), timeout=WAIT_S)
        streams[0].cancel()
        assert (await waiting).name == "room"
        streams[1].cancel()
