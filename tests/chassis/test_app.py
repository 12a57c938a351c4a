"""The life of a process: in this one without signals, and as a program with them."""

import asyncio
import gc
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis import app, client, telemetry
from services.chassis.config import ServiceSettings
from services.chassis.health import State
from services.chassis.server.access import Everyone
from services.chassis.testing import free_port, until
from tests.chassis import playground
from tests.chassis.playground import FILE, SERVICE, Ping, Pong, Stub

WAIT_S = 30.0  # what it bounds takes milliseconds, and a program a second to start: ten, on a busy machine


def made(handler: Any = None, **settings: Any) -> app.App:
    async def echo(request: Any, _context: Any) -> Any:
        return Pong(name=request.name)

    server = app.App(
        ServiceSettings(service="playground", guests_plaintext=True, **settings), access=Everyone()
    )
    server.serve(playground.add_to_server, {"Read": handler or echo}, FILE)
    return server


def services_of(channel: Any) -> Any:
    """What reflection answers when asked for the services."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    return stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))


async def get(server: app.App, page: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(f"http://{server.operations_address}{page}", timeout=WAIT_S)


async def test_it_serves_and_tells_that_it_does() -> None:
    server = made()
    server.metrics.gauge("shelves", "How many.", lambda: 7)
    async with server.running(), client.connect(server.grpc_address, FILE) as channel:
        assert (await Stub(channel).Read(Ping(name="hi"))).name == "hi"
        assert (await get(server, "/health/live")).json() == {"status": "alive"}
        assert (await get(server, "/health/ready")).status_code == 200
        assert (await get(server, "/health/startup")).status_code == 200
        metrics = (await get(server, "/metrics")).text
        assert "shelves 7.0" in metrics
        assert 'grpc_server_handled_total{grpc_code="OK"' in metrics
        assert "grpc_server_limit 512.0" in metrics
        assert 'grpc_server_shed_total{priority="critical"} 0.0' in metrics
        assert (await get(server, "/elsewhere")).status_code == 404


async def test_the_garbage_collector_leaves_alone_what_a_program_began_with() -> None:
    server = made()
    running = asyncio.create_task(server.run())
    try:
        await until(gc.get_freeze_count)
        server.stop()
        await running
    finally:
        gc.unfreeze()


async def test_readiness_follows_the_checks() -> None:
    up = False

    async def database() -> None:
        if not up:
            raise ConnectionError

    server = made()
    server.check("database", database)
    async with server.running():
        not_yet = await get(server, "/health/ready")
        assert not_yet.status_code == 503
        assert not_yet.json()["checks"]["database"]["ok"] is False
        assert (await get(server, "/health/startup")).status_code == 503
        assert (await get(server, "/health/live")).status_code == 200
        up = True
        assert (await get(server, "/health/ready")).status_code == 200
        assert (await get(server, "/health/startup")).status_code == 200


async def test_grpc_health_and_reflection_answer_and_leave_no_log_lines() -> None:
    with telemetry.captured() as lines:
        server = made()
        async with server.running(), grpc.aio.insecure_channel(server.grpc_address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
            replies = [reply async for reply in services_of(channel)]
    assert SERVICE in {service.name for service in replies[0].list_services_response.service}
    assert not [line for line in lines if line["event"] == "call"]


async def test_reflection_can_be_off() -> None:
    server = made(reflection=False)
    async with server.running(), grpc.aio.insecure_channel(server.grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [reply async for reply in services_of(channel)]
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_drain_awaits_the_calls_in_flight_and_their_last_words() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    words: list[str] = []

    async def handler(_request: Any, _context: Any) -> Any:
        begun.set()
        try:
            await go.wait()
        finally:
            await asyncio.sleep(0)
            words.append("handler ended")
        return Pong(name="done")

    async def relay() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            words.append("background ended")

    server = made(handler)
    server.background("relay", relay)
    running = await started(server)
    async with client.connect(server.grpc_address, FILE) as channel:
        call = asyncio.ensure_future(Stub(channel).Read(Ping()))
        await asyncio.wait_for(begun.wait(), WAIT_S)
        leaving = asyncio.ensure_future(running.aclose())
        await until(lambda: server.health.state is State.DRAINING)
        assert not leaving.done()
        go.set()
        assert (await asyncio.wait_for(call, WAIT_S)).name == "done"
        await asyncio.wait_for(leaving, WAIT_S)
    assert words == ["handler ended", "background ended"]


async def test_a_handler_that_outlives_the_grace_is_cancelled_and_its_finally_awaited() -> None:
    begun, cleaning, cleaned, abandoned = (asyncio.Event() for _ in range(4))

    async def handler(_request: Any, _context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await cleaned.wait()  # longer than grpc's own stop would wait for

    async def relay() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            abandoned.set()

    server = made(handler, drain_grace_s=0.05)
    server.background("relay", relay)
    running = await started(server)
    async with client.connect(server.grpc_address, FILE) as channel:
        call = asyncio.ensure_future(Stub(channel).Read(Ping(), timeout=WAIT_S))
        await asyncio.wait_for(begun.wait(), WAIT_S)
        leaving = asyncio.ensure_future(running.aclose())
        await asyncio.wait_for(cleaning.wait(), WAIT_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(abandoned.wait(), 0.3)
        cleaned.set()
        await asyncio.wait_for(leaving, WAIT_S)
        await asyncio.wait([call])
        assert isinstance(call.exception(), grpc.aio.AioRpcError)


async def test_an_open_health_watch_does_not_hold_up_the_drain() -> None:
    server = made(drain_grace_s=60)
    running = await started(server)
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        seen = [(await watch.read()).status]
        await asyncio.wait_for(running.aclose(), WAIT_S)
        while (reply := await watch.read()) is not grpc.aio.EOF:
            seen.append(reply.status)
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


@pytest.mark.parametrize("which", ["grpc_port", "operations_port"])
async def test_a_port_in_use_is_told_in_one_line(which: str) -> None:
    first = made()
    async with first.running():
        address = first.grpc_address if which == "grpc_port" else first.operations_address
        second = made(**{which: int(address.rsplit(":")[-1])})
        with pytest.raises(app.StartRefused, match=f"^{address} is in use$"):
            async with second.running():
                pass


async def test_a_host_that_is_not_here_is_told_in_one_line() -> None:
    with pytest.raises(app.StartRefused, match=r"^192\.0\.2\.1:\d+ cannot be used"):
        async with made(operations_host="192.0.2.1", operations_port=free_port()).running():
            pass


async def test_sigterm_drains_a_program_and_nothing_in_flight_is_lost() -> None:
    async with program() as (process, grpc_address, _):
        async with client.connect(grpc_address, FILE) as channel:
            call = asyncio.ensure_future(Stub(channel).Read(Ping(name="hi")))
            assert await line(process) == "begun"
            process.send_signal(signal.SIGTERM)
            assert process.stdin is not None
            assert await log_line(process, "draining")
            process.stdin.write(b"go\n")
            assert (await asyncio.wait_for(call, WAIT_S)).name == "hi"
        assert await line(process) == "ended"
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0


async def test_a_second_signal_leaves_at_once() -> None:
    async with program() as (process, grpc_address, _), client.connect(grpc_address, FILE) as channel:
        call = asyncio.ensure_future(Stub(channel).Read(Ping(name="hi")))
        assert await line(process) == "begun"
        process.send_signal(signal.SIGTERM)
        assert await log_line(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 128 + signal.SIGTERM
        await asyncio.wait([call])
        assert isinstance(call.exception(), grpc.aio.AioRpcError)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("BODEGA_PLAYGROUND__GRPC_PORT", "many", "valid integer"),
        ("BODEGA_FAILPOINTS", "nowhere=exit", "nowhere"),
        ("BODEGA_PLAYGROUND__OPERATIONS_PORT", "taken", "is in use"),
    ],
)
async def test_a_program_that_cannot_start_says_why_in_one_line(setting: str, value: str, words: str) -> None:
    holder = made()
    async with holder.running():
        taken = holder.operations_address.rsplit(":")[-1]
        process = await spawn({setting: taken if value == "taken" else value})
        _, said = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 2
    assert len(said.splitlines()) == 1
    assert words in said.decode()


async def spawn(environment: dict[str, str]) -> Process:
    told = {**os.environ, "BODEGA_PLAYGROUND__GUESTS_PLAINTEXT": "true", **environment}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chassis.program",
        stdin=PIPE, stdout=PIPE, stderr=PIPE, env=told,
    )  # fmt: skip


@asynccontextmanager
async def program() -> AsyncIterator[tuple[Process, str, str]]:
    """The program of this folder, running; killed at the latest when leaving."""
    process = await spawn({})
    try:
        grpc_address, operations_address = (await line(process)).split()
        yield process, grpc_address, operations_address
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), WAIT_S)).decode().strip()


async def log_line(process: Process, event: str) -> dict[str, Any]:
    """The next line of the program's log that tells of this."""
    assert process.stderr is not None
    while True:
        raw = await asyncio.wait_for(process.stderr.readline(), WAIT_S)
        assert raw, f"the log ended without {event!r}"
        told: dict[str, Any] = json.loads(raw)
        if told["event"] == event:
            return told


async def started(server: app.App) -> AsyncExitStack:
    """The server running until the stack is closed."""
    stack = AsyncExitStack()
    await stack.enter_async_context(server.running())
    return stack
