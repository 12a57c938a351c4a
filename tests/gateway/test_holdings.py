"""How much one address may hold: who sends a byte now and then keeps nobody else out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway import app
from gateway.app import Gateway, Settings
from gateway.errors import Refusal
from gateway.holdings import Bounds, Holdings
from gateway.limits import Plan
from gateway.site import AT_ONCE
from services.chassis.networks import networks
from services.chassis.testing import FakeClock, until
from tests.gateway.world import Backend, World

over_http = pytest.mark.asyncio(loop_scope="module")

WAIT_S = 10.0
HERE = "127.0.0.0/8"
HEAD = b"POST /v1/shelves HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
WHOLE = HEAD + b"Connection: close\r\n\r\n{}"
LATE = HEAD + b"\r\n"  # the body is on its way


# -- counting --------------------------------------------------------------------------------------


def refused(holdings: Holdings, address: str) -> bool:
    try:
        holdings.enter(address)
    except Refusal:
        return True
    return False


def test_an_address_holds_so_much_and_more_when_it_has_let_go() -> None:
    holdings = Holdings("bodies", 2, ())
    told: list[str] = []
    holdings.on_refusal = told.append
    first = holdings.enter("203.0.113.9")
    assert [refused(holdings, "203.0.113.9") for _ in range(3)] == [False, True, True]
    assert told == ["bodies", "bodies"]
    assert not refused(holdings, "203.0.113.10")
    holdings.leave(first)
    assert not refused(holdings, "203.0.113.9")


def test_a_home_is_one_and_who_is_exempt_or_unknown_is_not_counted() -> None:
    holdings = Holdings("bodies", 1, networks(["10.0.0.0/8"]))
    assert [refused(holdings, f"2001:db8:1:2::{n}") for n in (1, 2)] == [False, True]
    assert not any(refused(holdings, address) for address in ["10.1.1.1"] * 5 + [""] * 5)
    holdings.leave("")


def test_nothing_is_kept_of_who_has_left() -> None:
    holdings = Holdings("bodies", 1, ())
    for number in range(100):
        with holdings.holding(f"203.0.113.{number}"):
            pass
    assert not holdings._held


# -- over HTTP -------------------------------------------------------------------------------------


@dataclass
class Line:
    """One connection, whose client sends what it likes when it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, str]:
        """The status, and the reason of a refusal."""
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body = await self.reader.readexactly(int(lines[b"content-length"]))
        content: dict[str, Any] = json.loads(body)
        details = content.get("error", {}).get("details", ())
        return int(head.split(b" ", 2)[1]), next((d["reason"] for d in details if "reason" in d), "")

    async def ended(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read() == b""


class Door:
    """An edge, and clients who come by connections of their own."""

    def __init__(self, gateway: Gateway, port: int, operations_port: int, stack: AsyncExitStack) -> None:
        self.gateway = gateway
        self._port = port
        self._operations_port = operations_port
        self._stack = stack

    async def line(self, data: bytes = b"") -> Line:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._stack.callback(writer.close)
        writer.write(data)
        return Line(reader, writer)

    async def figures(self) -> str:
        async with httpx.AsyncClient(timeout=WAIT_S) as http:
            return (await http.get(f"http://127.0.0.1:{self._operations_port}/metrics")).text

    async def at_once(self, requests: int) -> None:
        await until(lambda: self.gateway.site.limiter.in_flight == requests)


@asynccontextmanager
async def door(
    world: World,
    backend: Backend,
    bounds: Bounds,
    *,
    exempt: tuple[str, ...] = (),
    proxies: tuple[str, ...] = (),
) -> AsyncIterator[Door]:
    backend.forget()
    settings = Settings(
        rates=Plan(exempt=exempt), per_address=bounds, proxies=proxies, operations_port=0, drain_max_s=2
    )
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], settings)
    async with app.running(gateway) as running, AsyncExitStack() as stack:
        assert running.operations_port is not None
        yield Door(gateway, running.port, running.operations_port, stack)


@over_http
async def test_one_address_sends_so_many_bodies_slowly_and_whole_ones_all_the_same(
    world: World, backend: Backend
) -> None:
    async with door(world, backend, Bounds(bodies=1)) as edge:
        slow = await edge.line(LATE)
        await edge.at_once(1)
        too_many = await edge.line(LATE)
        assert await too_many.answer() == (429, "TOO_MANY_OWN_BODIES")
        assert await too_many.ended()
        assert (await (await edge.line(WHOLE)).answer())[0] == 200
        assert 'http_server_rate_limited_total{limit="bodies"} 1.0' in await edge.figures()
        slow.writer.write(b"{}")
        assert (await slow.answer())[0] == 200
        another = await edge.line(LATE)
        await edge.at_once(1)
        another.writer.write(b"{}")
        assert (await another.answer())[0] == 200


@over_http
async def test_who_leaves_in_the_middle_of_a_body_holds_none(world: World, backend: Backend) -> None:
    async with door(world, backend, Bounds(bodies=1)) as edge:
        for _ in range(3):
            slow = await edge.line(LATE)
            await edge.at_once(1)
            slow.writer.close()
            await edge.at_once(0)


@over_http
async def test_bodies_that_a_proxy_passes_on_are_its_clients(world: World, backend: Backend) -> None:
    def late(client: str) -> bytes:
        return HEAD + f"X-Forwarded-For: {client}\r\n\r\n".encode()

    bounds = Bounds(connections=1, bodies=1)
    async with door(world, backend, bounds, proxies=(HERE,)) as edge:
        for number in (1, 2, 3):
            await edge.line(late(f"203.0.113.{number}"))
            await edge.at_once(number)
        assert await (await edge.line(late("203.0.113.1"))).answer() == (429, "TOO_MANY_OWN_BODIES")


@over_http
async def test_one_address_has_so_many_connections_and_the_next_is_told_before_it_asks(
    world: World, backend: Backend
) -> None:
    async with door(world, backend, Bounds(connections=2)) as edge:
        first = await edge.line(b"GET /v1/echo HTT")  # who never gets to the end of it
        await edge.line()
        refused = await edge.line()
        assert await refused.answer() == (429, "TOO_MANY_OWN_CONNECTIONS")
        assert await refused.ended()
        assert 'http_server_rate_limited_total{limit="connections"} 1.0' in await edge.figures()
        first.writer.close()
        async with asyncio.timeout(WAIT_S):
            while (await (await edge.line(WHOLE)).answer())[0] != 200:
                pass


@over_http
async def test_who_is_exempt_has_as_many_as_there_is_room_for(world: World, backend: Backend) -> None:
    async with door(world, backend, Bounds(connections=1, bodies=1), exempt=(HERE,)) as edge:
        for number in (1, 2, 3):
            await edge.line(LATE)
            await edge.at_once(number)


def test_the_bounds_leave_room_for_everyone_else() -> None:
    assert Bounds().bodies * 4 <= AT_ONCE.least
    assert Bounds().connections * 10 <= app._CONNECTIONS_MAX


@over_http
async def test_a_body_that_was_long_on_its_way_teaches_nothing_about_the_edge(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("gateway.exchange.time", SimpleNamespace(perf_counter=clock.monotonic))
    async with door(world, backend, Bounds()) as edge:
        (pace,) = (route.pace for route in edge.gateway.site.routes if route.method.name == "CreateShelf")
        slow = await edge.line(LATE)
        await edge.at_once(1)
        clock.advance(20)
        slow.writer.write(b"{}")
        assert (await slow.answer())[0] == 200
        await edge.at_once(0)
    assert (pace.calls, pace.seconds) == (1, 0)
