"""What the edge refuses because it has enough to do."""

import asyncio
from typing import Any

import httpx
import pytest
from bodega.policy.v1 import policy_pb2
from google.protobuf import descriptor_pb2

from gateway import app
from gateway.app import Settings
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
    taught = {route.rule.template.text: route.pace for route in gateway.site.routes}
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
    assert (taught["/v1/shelves/{shelf_id}"].calls, taught["/v1/echo"].calls) == (0, 1)
