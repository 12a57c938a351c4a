"""Who runs, as the broker tells it: real brokers, real instances, and some that lie."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from services.chassis import client, discovery
from services.chassis.config import ServiceSettings
from services.chassis.discovery import Answers, Instance
from services.chassis.events.connection import Connection
from services.chassis.events.server import NatsServer
from services.chassis.health import State
from services.chassis.service import Service, opened
from services.chassis.storage.sqlite import engine_for_migrations
from tests.chassis import playground
from tests.chassis.events.ledger import Transaction, metadata
from tests.chassis.events.waiting import WAIT_S, eventually
from tests.chassis.playground import FILE, SERVICE, Ping, Pong, Stub

SPARE_S = 4.0  # what a busy machine may add to a deadline


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, broker: NatsServer) -> ServiceSettings:
    url = f"sqlite:///{tmp_path}/order.db"
    engine = engine_for_migrations(url)
    metadata.create_all(engine)
    engine.dispose()
    return ServiceSettings(service="order", guests_plaintext=True, database_url=url, nats_url=broker.url)


@asynccontextmanager
async def instance(settings: ServiceSettings, handler: Any = None) -> AsyncIterator[Service[Transaction]]:
    async def echo(request: Any, _context: Any) -> Any:
        return Pong(name=request.name)

    async with opened(settings, lambda session, _: Transaction(session)) as service:
        service.app.serve(playground.add_to_server, {"Recite": handler or echo}, FILE)
        async with service.app.running():
            yield service


@asynccontextmanager
async def asking(broker: NatsServer) -> AsyncIterator[Connection]:
    connection = Connection()
    await connection.open(broker.url, name="operator")
    try:
        yield connection
    finally:
        await connection.close()


async def found(broker: NatsServer, expected: int = 1) -> list[Instance]:
    async with asking(broker) as connection:
        [answers] = await discovery.find(connection, {"order": expected})
        return list(answers.instances.values())


async def until_found(broker: NatsServer, count: int = 1) -> list[Instance]:
    there: list[Instance] = []

    async def as_many() -> bool:
        there[:] = await found(broker, count)
        return len(there) == count

    await eventually(as_many)
    return there


async def test_an_instance_says_where_and_how_it_is(broker: NatsServer, settings: ServiceSettings) -> None:
    lacking = False

    async def provider() -> bool:
        return not lacking

    async with opened(settings, lambda session, _: Transaction(session)) as service:
        service.app.check("provider", provider, required=False)
        async with service.app.running() as app:
            await app.health.refresh()
            [seen] = await until_found(broker)
            assert (seen.service, seen.pid, seen.mesh) == ("order", os.getpid(), "")
            assert (seen.guests, seen.operations) == (app.grpc_address, app.operations_address)
            assert time.time() - seen.started_at.timestamp() < WAIT_S
            assert seen.version

            async def is_serving() -> bool:
                await app.health.refresh()
                return [(seen.state, seen.lacks) for seen in await found(broker)] == [(State.SERVING, "")]

            await eventually(is_serving)
            lacking = True
            await app.health.refresh()
            [seen] = await found(broker)
            assert (seen.state, seen.lacks) == (State.DEGRADED, "provider: not there")


async def test_who_listens_everywhere_is_where_the_broker_sees_it(
    broker: NatsServer, settings: ServiceSettings
) -> None:
    everywhere = settings.model_copy(update={"operations_host": "0.0.0.0"})  # noqa: S104 (the subject)
    async with instance(everywhere) as service:
        port = service.app.operations_address.rpartition(":")[2]
        [seen] = await until_found(broker)
    assert seen.operations == f"127.0.0.1:{port}"


async def test_any_client_of_the_protocol_understands(broker: NatsServer, settings: ServiceSettings) -> None:
    stranger = await nats.connect(broker.url)

    async def asked(subject: str) -> dict[str, Any]:
        answer = await stranger.request(subject, timeout=WAIT_S)
        return dict(json.loads(answer.data))

    try:
        async with instance(settings) as service:
            async with client.connect(service.app.grpc_address, FILE) as channel:
                await Stub(channel).Recite(Ping(name="hi"))
            [seen] = await until_found(broker)
            for scope in ("", ".order", f".order.{seen.id}"):
                info = ServiceInfo.from_dict(await asked(f"$SRV.INFO{scope}"))
                ping = ServicePing.from_dict(await asked(f"$SRV.PING{scope}"))
                stats = ServiceStats.from_dict(await asked(f"$SRV.STATS{scope}"))
                for told in (info, ping, stats):
                    assert (told.name, told.id, told.version) == ("order", seen.id, seen.version)
                    assert told.metadata["guests"] == service.app.grpc_address
                [recited] = stats.endpoints
                assert (recited.subject, recited.num_requests, recited.num_errors) == (
                    f"{SERVICE}.Recite",
                    1,
                    0,
                )
                assert recited.processing_time == recited.average_processing_time > 0
            with pytest.raises(TimeoutError):  # a verb that nobody knows
                await stranger.request("$SRV.SCHEMA.order", timeout=0.05)
    finally:
        await stranger.close()


async def test_instances_of_one_service_are_told_apart(broker: NatsServer, settings: ServiceSettings) -> None:
    async with instance(settings) as one, instance(settings) as other:
        seen = await until_found(broker, 2)
    assert {each.guests for each in seen} == {one.app.grpc_address, other.app.grpc_address}
    assert len({each.id for each in seen}) == 2


async def test_nobody_is_lost_when_the_broker_restarts(broker: NatsServer, settings: ServiceSettings) -> None:
    async with instance(settings), instance(settings):
        before = {each.id for each in await until_found(broker, 2)}
        await broker.kill()
        await broker.start()
        assert {each.id for each in await until_found(broker, 2)} == before


async def test_who_drains_says_so_and_then_is_gone(broker: NatsServer, settings: ServiceSettings) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def recite(request: Any, _context: Any) -> Any:
        begun.set()
        await go_on.wait()
        return Pong(name=request.name)

    async with (
        asking(broker) as connection,
        opened(settings, lambda session, _: Transaction(session)) as service,
    ):
        service.app.serve(playground.add_to_server, {"Recite": recite}, FILE)
        serving = asyncio.create_task(service.app.run())
        await until_found(broker)
        async with client.connect(service.app.grpc_address, FILE) as channel:
            call = asyncio.ensure_future(Stub(channel).Recite(Ping(name="hi")))
            await asyncio.wait_for(begun.wait(), WAIT_S)
            service.app.stop()

            async def is_draining() -> bool:
                return [seen.state for seen in await found(broker)] == [State.DRAINING]

            await eventually(is_draining)
            go_on.set()
            assert (await call).name == "hi"
            await asyncio.wait_for(serving, WAIT_S)
        # At once: the process still has its connection to the broker.
        assert service.jetstream.standing
        begun_at = time.monotonic()
        [answers] = await discovery.find(connection, {"order": 1})
        assert not answers.instances
        assert time.monotonic() - begun_at < discovery.ANSWER_MAX_S  # the broker says that nobody listens


async def test_who_is_stopped_or_killed_does_not_answer_and_delays_nobody(
    broker: NatsServer, settings: ServiceSettings
) -> None:
    told = {
        "BODEGA_ORDER__GUESTS_PLAINTEXT": "true",
        "BODEGA_ORDER__DATABASE_URL": settings.database_url,
        "BODEGA_ORDER__NATS_URL": broker.url,
    }
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chassis.announcing"),
        env=os.environ | told,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with instance(settings):
            both = await until_found(broker, 2)
            assert {each.pid for each in both} == {os.getpid(), program.pid}
            program.send_signal(signal.SIGSTOP)
            begun_at = time.monotonic()
            assert [each.pid for each in await found(broker)] == [os.getpid()]
            assert time.monotonic() - begun_at < discovery.ANSWER_MAX_S
            program.send_signal(signal.SIGCONT)
            await until_found(broker, 2)
            program.kill()
            await program.wait()
            assert [each.pid for each in await until_found(broker)] == [os.getpid()]
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_silence_is_waited_for_only_so_long(broker: NatsServer) -> None:
    async def say_nothing(_: Msg) -> None:
        return

    async with asking(broker) as connection:
        await connection.subscribe("$SRV.INFO.*", say_nothing)
        begun_at = time.monotonic()
        answers = await discovery.find(connection, {"order": 1, "payment": 1})
        assert time.monotonic() - begun_at < discovery.ANSWER_MAX_S + SPARE_S
    assert [(each.service, each.instances) for each in answers] == [("order", {}), ("payment", {})]


async def test_who_is_expected_is_waited_for(broker: NatsServer) -> None:
    late = discovery.QUIET_S + 0.2

    async with asking(broker) as connection, asking(broker) as instances:

        async def answer(asked: Msg) -> None:
            await instances.publish(asked.reply, lie(id="prompt"))
            await asyncio.sleep(late)
            await instances.publish(asked.reply, lie(id="late"))

        await instances.subscribe("$SRV.INFO.order", answer)
        await instances.client.flush()
        [one] = await discovery.find(connection, {"order": 1})
        [both] = await discovery.find(connection, {"order": 2})
    assert {*one.instances} == {"prompt"}
    assert {*both.instances} == {"prompt", "late"}


HONEST: dict[str, Any] = {
    "name": "order",
    "id": "0192",
    "version": "0.1.0",
    "metadata": {
        "mesh": "127.0.0.1:50153",
        "guests": "[::1]:50053",
        "operations": "order-7.shop.example:9090",
        "state": "serving",
        "lacks": "",
        "pid": "7",
        "started_at": "2026-01-01T12:00:00.000+00:00",
        "colour": "of no interest",
    },
}


def lie(**said: Any) -> bytes:
    """An announcement that is honest but for this; what is in its metadata is said as `metadata__name`."""
    told = {**HONEST, "metadata": {**HONEST["metadata"]}}
    for name, value in said.items():
        inside, _, field = name.rpartition("__")
        (told["metadata"] if inside else told)[field] = value
    return json.dumps(told).encode()


async def heard(*answers: bytes) -> Answers:
    found = Answers("order")
    for answer in answers:
        await found.hear(Msg(None, data=answer))  # type: ignore[arg-type]  # which client is of no interest
    return found


async def test_an_honest_announcement_is_understood() -> None:
    found = await heard(lie())
    assert (found.instances["0192"].guests, found.unreadable) == ("[::1]:50053", 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\x00",
        b"null",
        b"[]",
        b'{"name": "order"}',
        b"[" * 10_000,
        lie(name="payment"),
        lie(id="\x1b[2J"),
        lie(id="x" * 65),
        lie(version="[bold red]0.1.0"),
        lie(metadata=[]),
        lie(metadata__mesh="127.0.0.1:50153/../../"),
        lie(metadata__mesh="127.0.0.1:50153\n"),
        lie(metadata__guests="ipv4:127.0.0.1:1,127.0.0.2:2"),
        lie(metadata__guests="127.0.0.1"),
        lie(metadata__operations="user:password@host:1"),
        lie(metadata__operations="host:٣"),
        lie(metadata__state="splendid"),
        lie(metadata__lacks="\x1b]0;title\x07"),
        lie(metadata__lacks="nothing\u202e"),
        lie(metadata__lacks="x" * (discovery.TEXT_MAX + 1)),
        lie(metadata__pid="-1"),
        lie(metadata__pid="9" * 400),
        lie(metadata__started_at="yesterday"),
        lie(metadata__started_at="2026-01-01T12:00:00"),
        lie(padding="x" * discovery.ANSWER_BYTES_MAX),
    ],
)
async def test_what_no_instance_says_is_counted_and_not_shown(answer: bytes) -> None:
    found = await heard(answer, lie(id="honest"))
    assert (list(found.instances), found.unreadable) == (["honest"], 1)


async def test_an_id_is_not_taken_by_who_comes_later() -> None:
    found = await heard(lie(), lie(metadata__mesh="127.0.0.1:1"))
    assert (found.instances["0192"].mesh, found.unreadable) == ("127.0.0.1:50153", 1)


async def test_no_crowd_fills_the_memory() -> None:
    found = await heard(*(lie(id=str(number)) for number in range(2 * discovery.INSTANCES_MAX)))
    assert len(found.instances) == discovery.INSTANCES_MAX
