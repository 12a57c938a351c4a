"""What becomes of a backend that fails or hangs, and of everyone who wants something else."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from bodega.order.v1 import order_pb2

from gateway import app, isolation
from gateway.app import Settings
from gateway.isolation import SHARE, Isolation, Ward
from gateway.site import Site
from services.chassis import contract, status, telemetry
from services.chassis.client.dropped import DROPPED
from services.chassis.client.unsent import CircuitOpen
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import Limits
from services.chassis.policy.limiter import Limiter, Range
from services.chassis.server.errors import NeighbourUnavailable
from services.chassis.server.shedding import Overloaded
from services.chassis.testing import until
from services.kernel.errors import Busy, DomainError
from tests.gateway.test_edge import error, reason
from tests.gateway.world import Answer, Backend, Seen, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_S = 10
CIRCUITS = Limits(consecutive_failures=3, open_s=0.2, probes=2)
EIGHT = Range(first=8, least=8, most=8)
ROOM = int(8 * SHARE)

SHELF = "/v1/shelves/1"
PING = "/legacy/ping"


class Shop:
    """An edge with a backend of its own for `edge.v1.Legacy`."""

    def __init__(self, http: httpx.AsyncClient, operations: httpx.AsyncClient, site: Site) -> None:
        self.http = http
        self._operations = operations
        self.site = site

    async def shelf(self, **headers: str) -> httpx.Response:
        return await self.http.get(SHELF, headers={name.replace("_", "-"): headers[name] for name in headers})

    async def ping(self) -> httpx.Response:
        return await self.http.post(PING, json={})

    async def figures(self) -> str:
        return (await self._operations.get("/metrics")).text


@asynccontextmanager
async def shop(world: World, backend: Backend, other: Backend) -> AsyncIterator[Shop]:
    backend.forget()
    other.forget()
    targets = [f"127.0.0.1:{backend.port}", f"edge.v1.Legacy=127.0.0.1:{other.port}"]
    settings = Settings(operations_port=0, at_once=EIGHT, circuits=CIRCUITS, drain_max_s=2)
    gateway = app.build(world.files, targets, settings)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(app.running(gateway))
        ports = (running.port, running.operations_port)
        http, operations = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S)
            )
            for port in ports
        ]
        yield Shop(http, operations, gateway.site)


@asynccontextmanager
async def another_backend() -> AsyncIterator[Backend]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = Backend()
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield handler
    finally:
        await server.stop(0)


def refusing(refusal: DomainError) -> Answer:
    told = status.from_error(refusal)

    async def refuse(context: Any, _seen: Seen) -> None:
        await context.abort(status.code(refusal), told.message, status.trailers(told))

    return refuse


async def hangs(_context: Any, _seen: Seen) -> None:
    await asyncio.Event().wait()


async def test_a_method_that_keeps_failing_is_left_alone_until_it_is_well(
    world: World, backend: Backend
) -> None:
    with telemetry.captured() as lines:
        async with another_backend() as other, shop(world, backend, other) as edge:
            backend.answers["GetShelf"] = refusing(NeighbourUnavailable())
            failed = [await edge.shelf() for _ in range(CIRCUITS.consecutive_failures)]
            refused = await edge.shelf()
            assert {reason(answer) for answer in failed} == {"NEIGHBOUR_UNAVAILABLE"}
            assert (refused.status_code, reason(refused)) == (503, "CIRCUIT_OPEN")
            assert refused.headers["retry-after"] == "1"
            assert len(backend.calls) == CIRCUITS.consecutive_failures, "it was not asked again"
            assert (await edge.http.get("/v1/echo")).status_code == 200, "nor was anything else given up"
            assert 'grpc_method="GetShelf",grpc_service="edge.v1.Shelves"' in await edge.figures()

            del backend.answers["GetShelf"]
            answers: list[int] = []
            async with asyncio.timeout(WAIT_S):
                while answers.count(200) < CIRCUITS.probes:
                    answers.append((await edge.shelf()).status_code)
            assert set(answers) == {503, 200}
            assert [(await edge.shelf()).status_code for _ in range(5)] == [200] * 5
            figures = await edge.figures()
    assert "grpc_client_circuit_changes_total" in figures
    told = [(line["state"], line["method"]) for line in lines if line["event"] == "circuit"]
    assert told == [("open", "/edge.v1.Shelves/GetShelf"), ("closed", "/edge.v1.Shelves/GetShelf")]


async def test_what_comes_back_is_tried_by_few_however_many_wait(world: World, backend: Backend) -> None:
    go = asyncio.Event()

    async def waits(_context: Any, _seen: Seen) -> bytes:
        await go.wait()
        return b""

    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = refusing(NeighbourUnavailable())
        for _ in range(CIRCUITS.consecutive_failures):
            await edge.shelf()
        backend.forget()
        backend.answers["GetShelf"] = waits
        probes: set[asyncio.Task[httpx.Response]] = set()
        async with asyncio.timeout(WAIT_S):
            while len(backend.calls) < CIRCUITS.probes:
                probes.add(asyncio.create_task(edge.shelf()))
                await asyncio.wait(probes, timeout=0.02)
                probes = {probe for probe in probes if not probe.done()}
        crowd = [
            answer for _ in range(10) for answer in await asyncio.gather(*(edge.shelf() for _ in range(5)))
        ]
        assert {reason(answer) for answer in crowd} <= {"CIRCUIT_OPEN", "OVERLOADED"}
        assert len(backend.calls) == CIRCUITS.probes
        go.set()
        answers = [(await probe).status_code for probe in probes]
        assert answers.count(200) == CIRCUITS.probes


async def test_a_backend_that_hangs_leaves_room_for_the_others(world: World, backend: Backend) -> None:
    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = hangs
        waiting = [asyncio.create_task(edge.shelf()) for _ in range(ROOM)]
        await until(lambda: len(backend.calls) == ROOM)
        refused = await edge.shelf()
        assert (refused.status_code, reason(refused)) == (503, "BULKHEAD_FULL")
        assert refused.headers["retry-after"] == "1"
        assert [(await edge.ping()).status_code for _ in range(20)] == [200] * 20
        target = f'{{target="127.0.0.1:{backend.port}"}}'
        figures = await edge.figures()
        assert f"grpc_client_bulkhead_in_flight{target} {ROOM}.0" in figures
        assert f"grpc_client_bulkhead_refused_total{target} 1.0" in figures
        for asking in waiting:
            asking.cancel()
        await asyncio.wait(waiting)
        await until(lambda: edge.site.limiter.in_flight == 0)
        assert f"grpc_client_bulkhead_in_flight{target} 0.0" in await edge.figures(), "who left made room"


async def test_who_is_in_a_hurry_says_nothing_of_the_backend(world: World, backend: Backend) -> None:
    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = hangs
        hurried = [await edge.shelf(x_request_timeout="0.02") for _ in range(5)]
        assert {answer.status_code for answer in hurried} == {504}
        del backend.answers["GetShelf"]
        assert (await edge.shelf()).status_code == 200


async def test_time_that_is_over_when_the_request_is_read_is_not_given_to_the_backend(
    world: World, backend: Backend
) -> None:
    async with another_backend() as other, shop(world, backend, other) as edge:
        late = await edge.shelf(x_request_timeout="0.000000001")
        assert (late.status_code, reason(late)) == (504, "DEADLINE_EXCEEDED")
        assert backend.calls == []


async def test_what_a_stopping_backend_drops_is_503_and_may_be_asked_again(
    world: World, backend: Backend
) -> None:
    async def drop(context: Any, _seen: Seen) -> None:
        await context.abort(grpc.StatusCode.CANCELLED, "")

    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = drop
        dropped = await edge.shelf()
    assert (dropped.status_code, reason(dropped)) == (503, "BACKEND_UNREACHABLE")
    assert dropped.headers["retry-after"] == "1"
    assert DROPPED not in error(dropped)["message"]


def ward(world: World, path: str) -> Ward:
    gateway = app.build(world.files, ["127.0.0.1:1"])
    method = gateway.site.methods[path]
    return Isolation(Metrics(), Limiter()).ward("127.0.0.1:1", method)


def failure(code: grpc.StatusCode, said: str = "", error: DomainError | None = None) -> Any:
    trailers = () if error is None else status.trailers(status.from_error(error))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), said)


class QueueFull(Busy):
    """There are too many already."""


CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("error", "took_s", "failing"),
    [
        (None, 0.1, False),
        (None, 1.3, True),  # of a deadline of two seconds
        (failure(CODE.NOT_FOUND), 0.1, False),
        (failure(CODE.UNAVAILABLE), 0.1, True),
        (failure(CODE.UNAVAILABLE, error=Overloaded(1)), 0.1, False),
        (failure(CODE.UNAVAILABLE, error=QueueFull()), 0.1, False),
        (failure(CODE.UNAVAILABLE, error=QueueFull()), 1.9, True),
        (failure(CODE.CANCELLED), 0.1, True),
        (failure(CODE.DEADLINE_EXCEEDED), 0.1, None),
        (failure(CODE.DEADLINE_EXCEEDED), 1.9, True),
        (failure(CODE.INTERNAL), 0.1, False),
        (failure(CODE.UNKNOWN), 0.1, False),
        (failure(CODE.INTERNAL), 1.9, True),
    ],
)
async def test_what_speaks_of_a_backend_that_fails(
    world: World, error: Any, took_s: float, failing: Any
) -> None:
    assert ward(world, "/edge.v1.Shelves/GetShelf").judge(error, 0, took_s) is failing


@pytest.mark.parametrize(
    ("error", "took_s", "failing"),
    [
        (None, 9.5, False),
        (failure(CODE.ABORTED), 9.5, False),
        (failure(CODE.UNAVAILABLE), 9.5, True),
        (failure(CODE.DEADLINE_EXCEEDED), 9.9, True),
    ],
)
async def test_who_waits_for_an_order_that_takes_long_closes_no_door(
    error: Any, took_s: float, failing: Any
) -> None:
    create = contract.by_path(order_pb2.DESCRIPTOR)["/bodega.order.v1.OrderService/CreateOrder"]
    assert Isolation(Metrics(), Limiter()).ward("order", create).judge(error, 0, took_s) is failing


async def test_an_edge_that_has_too_much_to_do_blames_no_backend_for_its_answers(world: World) -> None:
    gateway = app.build(world.files, ["127.0.0.1:1"])
    limiter = Limiter()
    shelf = Isolation(Metrics(), limiter).ward(
        "127.0.0.1:1", gateway.site.methods["/edge.v1.Shelves/GetShelf"]
    )
    assert shelf.judge(None, 0, 1.9) is True
    limiter.is_slow = True
    assert shelf.judge(None, 0, 1.9) is False
    assert shelf.judge(failure(CODE.UNAVAILABLE, error=Overloaded(1)), 0, 1.9) is False
    assert shelf.judge(failure(CODE.DEADLINE_EXCEEDED), 0, 1.9) is True, "no answer is no answer"


async def test_half_of_the_answers_are_better_than_none(world: World, backend: Backend) -> None:
    async def by_turns(context: Any, seen: Seen) -> bytes | None:
        if len(backend.calls) % 2:
            await refusing(NeighbourUnavailable())(context, seen)
        return b""

    backend.forget()
    backend.answers["GetShelf"] = by_turns
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"])
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=WAIT_S) as http:
        url = f"http://127.0.0.1:{running.port}{SHELF}"
        answers = [(await http.get(url)).status_code for _ in range(60)]
    assert answers.count(200) == 30


async def test_what_the_edge_asks_for_itself_is_guarded_too(world: World) -> None:
    asked = 0

    async def fails(_request: bytes, **_options: Any) -> bytes:
        nonlocal asked
        asked += 1
        raise failure(CODE.UNAVAILABLE)

    gateway = app.build(world.files, ["127.0.0.1:1"], Settings(circuits=CIRCUITS))
    method = gateway.site.methods["/edge.v1.Shelves/Hidden"]
    call = gateway.site.isolation.guarded("127.0.0.1:1", method, fails)
    for _ in range(CIRCUITS.consecutive_failures):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", timeout=1)
    with pytest.raises(CircuitOpen):
        await call(b"", timeout=1)
    assert asked == CIRCUITS.consecutive_failures


async def test_of_others_contracts_nobody_knows_what_is_slow(world: World) -> None:
    echo = ward(world, "/edge.v1.Shelves/Echo")
    assert echo.judge(None, 0, 50) is False
    assert echo.judge(failure(CODE.DEADLINE_EXCEEDED), 0, 50) is True


async def test_what_the_edge_itself_slept_through_is_no_backends_fault(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SLOW_SHARE", 0.25)  # of two seconds
    go = asyncio.Event()

    async def waits(_context: Any, _seen: Seen) -> bytes:
        await go.wait()
        return b""

    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = waits
        asked = [asyncio.create_task(edge.shelf()) for _ in range(CIRCUITS.consecutive_failures)]
        await until(lambda: len(backend.calls) == len(asked))
        time.sleep(0.7)  # noqa: ASYNC251 (a loop that is busy with something else)
        go.set()
        assert {(await answer).status_code for answer in asked} == {200}
        assert (await edge.shelf()).status_code == 200, "the method is left alone"


async def test_what_a_backend_slept_through_is(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SLOW_SHARE", 0.25)

    async def sleeps(_context: Any, _seen: Seen) -> bytes:
        await asyncio.sleep(0.7)
        return b""

    async with another_backend() as other, shop(world, backend, other) as edge:
        backend.answers["GetShelf"] = sleeps
        await asyncio.gather(*(edge.shelf() for _ in range(CIRCUITS.consecutive_failures)))
        assert reason(await edge.shelf()) == "CIRCUIT_OPEN"
