"""What the edge refuses because it has enough to do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from bodega.policy.v1 import policy_pb2
from google.protobuf import descriptor_pb2

from gateway import app, shedding
from gateway.app import Settings
from gateway.isolation import SHARE
from gateway.limits import Plan
from services.chassis import telemetry
from services.chassis.policy.limiter import Range
from services.chassis.testing import until
from tests.gateway.test_edge import error, reason
from tests.gateway.world import Backend, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE: Range = Range(first=1, least=1, most=1)


async def test_what_there_is_no_room_for_is_503_and_told_when_to_come_back(
    world: World, backend: Backend
) -> None:
    backend.forget()
    go = asyncio.Event()

    async def waits(_context: Any, seen: Any) -> bytes:
        await go.wait()
        return bytes(seen.request)

    backend.answers["Echo"] = waits
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(at_once=ONE, operations_port=0))
    with telemetry.captured() as lines:
        async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
            url = f"http://127.0.0.1:{running.port}"
            first = asyncio.create_task(http.get(f"{url}/v1/echo"))
            await until(lambda: gateway.site.limiter.in_flight == 1)
            refused = [await http.get(f"{url}/v1/echo") for _ in range(8)]
            assert (await http.get(f"{url}/health/ready")).status_code == 200, "health is always answered"
            go.set()
            assert (await first).status_code == 200
            await until(lambda: gateway.site.limiter.in_flight == 0)
            assert (await http.get(f"{url}/v1/echo")).status_code == 200
            figures = (await http.get(f"http://127.0.0.1:{running.operations_port}/metrics")).text
    assert {answer.status_code for answer in refused} == {503}
    assert {reason(answer) for answer in refused} == {"OVERLOADED"}
    assert {answer.headers["retry-after"] for answer in refused} <= {"1", "2"}
    retries = [
        next(d for d in error(answer)["details"] if d["@type"].endswith("RetryInfo")) for answer in refused
    ]
    assert len({retry["retryDelay"] for retry in retries}) == 8, "each another time"
    assert 'http_server_shed_total{priority="normal"} 8.0' in figures
    assert len(backend.calls) == 2
    events = [line["event"] for line in lines if line["event"] in ("request", "overloaded")]
    assert events.count("overloaded") == 1, "a storm is one line a second"
    assert events.count("request") == 3


async def test_a_client_that_leaves_makes_room(world: World, backend: Backend) -> None:
    backend.forget()

    async def hangs(_context: Any, _seen: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    backend.answers["Echo"] = hangs
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(at_once=ONE))
    async with app.running(gateway) as running:
        async with httpx.AsyncClient(timeout=10) as http:
            leaving = asyncio.create_task(http.get(f"http://127.0.0.1:{running.port}/v1/echo"))
            await until(lambda: gateway.site.limiter.in_flight == 1)
            leaving.cancel()
            await asyncio.wait([leaving])
        await until(lambda: gateway.site.limiter.in_flight == 0)


async def test_who_waits_for_an_order_is_counted_and_teaches_nothing(world: World, backend: Backend) -> None:
    backend.forget()
    files = descriptor_pb2.FileDescriptorSet.FromString(world.files.SerializeToString())
    for method in (method for file in files.file for service in file.service for method in service.method):
        if method.name == "GetShelf":
            method.options.Extensions[policy_pb2.method].waits = True
    gateway = app.build(files, [f"127.0.0.1:{backend.port}"])
    taught = {(route.method.name, route.rule.template.text): route.pace for route in gateway.site.routes}
    in_flight = []

    async def counts(_context: Any, _seen: Any) -> bytes:
        in_flight.append(gateway.site.limiter.in_flight)
        return b""

    backend.answers = {"GetShelf": counts, "Echo": counts}
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
        for path in ("/v1/shelves/1", "/v1/echo"):
            assert (await http.get(f"http://127.0.0.1:{running.port}{path}")).status_code == 200
        await until(lambda: gateway.site.limiter.in_flight == 0)
    assert in_flight == [1, 1]
    assert taught["GetShelf", "/v1/shelves/{shelf_id}"].calls == 0
    assert taught["Echo", "/v1/echo"].calls == 1


GET: Final = b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n"
WATCH: Final = b"GET /v1/shelves/7:watch HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def a_full_edge(
    world: World, backend: Backend, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, int, Callable[[], Awaitable[None]]]]:
    """One that works on the one request that it has room for, until it is let go."""
    backend.forget()
    go = asyncio.Event()

    async def waits(_context: Any, seen: Any) -> bytes:
        await go.wait()
        return bytes(seen.request)

    backend.answers["Echo"] = waits
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(**({"at_once": ONE} | settings)))
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
        http.base_url = f"http://127.0.0.1:{running.port}"
        first = asyncio.create_task(http.get("/v1/echo"))
        await until(lambda: gateway.site.limiter.in_flight == 1)

        async def let_go() -> None:
            go.set()
            await until(lambda: gateway.site.limiter.in_flight == 0)

        yield http, running.port, let_go
        go.set()
        assert (await first).status_code == 200


async def test_who_is_turned_away_at_once_reads_what_all_others_read(world: World, backend: Backend) -> None:
    async with a_full_edge(world, backend) as (http, _, _):
        at_once = await http.get("/v1/echo")
        in_full = await http.get("/v1/echo", headers={"connection": "close"})
    ids = {"x-request-id", "x-correlation-id", "traceparent"}
    more = {"connection", "cache-control"}
    assert set(in_full.headers) - more == (set(at_once.headers) - more) | ids
    assert at_once.headers["cache-control"] == "no-store"
    words = [
        {name: said for name, said in error(answer).items() if name != "details"}
        for answer in (at_once, in_full)
    ]
    assert words[0] == words[1]


async def test_a_body_that_nobody_waits_for_is_heard_out(world: World, backend: Backend) -> None:
    async with a_full_edge(world, backend) as (_, port, let_go):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{}")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 503 ")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b"OVERLOADED" in await reader.readexactly(length)
        await let_go()
        writer.write(b"       " + GET + b"Connection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_nobody_is_answered_before_their_turn(world: World, backend: Backend) -> None:
    async with a_full_edge(world, backend) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
            + GET
            + b"\r\n"
            + GET
            + b"Connection: close\r\n\r\n"
        )
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"503", b"503"]


async def test_who_asks_too_often_reads_so_also_when_there_is_no_room(world: World, backend: Backend) -> None:
    async with a_full_edge(world, backend, rates=Plan(address="4/hour")) as (http, _, _):
        statuses = [(await http.get("/v1/echo")).status_code for _ in range(5)]
    assert statuses == [503] * 3 + [429] * 2, "one is being worked on"


async def test_pages_may_read_that_there_is_no_room(world: World, backend: Backend) -> None:
    page = "https://shop.example"
    async with a_full_edge(world, backend, origins=(page,)) as (http, _, _):
        answer = await http.get("/v1/echo", headers={"origin": page})
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == page


async def test_who_is_turned_away_beyond_a_rate_is_not_heard_until_their_turn(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "AT_ONCE_PER_S", 5)
    monkeypatch.setattr(shedding, "AT_ONCE", 2)
    async with a_full_edge(world, backend) as (http, _, _):
        loop = asyncio.get_running_loop()
        took_s = []
        for _ in range(4):
            began = loop.time()
            assert (await http.get("/v1/echo")).status_code == 503
            took_s.append(loop.time() - began)
    assert took_s[3] >= 0.15, "the third was one too many; it was answered, and what came next had to wait"


async def test_of_those_who_come_together_only_so_many_are_let_by_as_there_is_room_for(
    world: World, backend: Backend
) -> None:
    limit, asking = 8, 20
    turned_away = asking - (round(limit * SHARE) - 1)
    async with AsyncExitStack() as stack:
        at_once = Range(first=limit, least=limit, most=limit)
        _, port, let_go = await stack.enter_async_context(a_full_edge(world, backend, at_once=at_once))
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(asking)]
        for _, writer in streams:
            stack.callback(writer.close)
            writer.write(GET + b"\r\n")  # at once, into the socket: the edge reads all of them in one turn
        heads = [asyncio.create_task(reader.readuntil(b"\r\n\r\n")) for reader, _ in streams]
        await until(lambda: sum(head.done() for head in heads) >= turned_away)
        told = [head.result() for head in heads if head.done()]
        assert [b"x-request-id" in head for head in told] == [False] * turned_away, "no task was made"
        await let_go()
        await asyncio.wait(heads)


async def test_streams_that_come_together_find_room_together(world: World, backend: Backend) -> None:
    backend.forget()
    limit, asking = 8, 20
    at_once = Settings(at_once=Range(first=limit, least=limit, most=limit))
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], at_once)
    async with app.running(gateway) as running, AsyncExitStack() as stack:
        streams = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(asking)]
        for _, writer in streams:
            stack.callback(writer.close)
            writer.write(WATCH)  # at once, into the socket: the edge reads all of them in one turn
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in streams))
    assert {head.partition(b"\r\n")[0] for head in heads} == {b"HTTP/1.1 200 OK"}
