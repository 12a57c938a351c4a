"""`bodega status` of shops where something is amiss, and how it words what it found."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import typer
from nats.aio.msg import Msg

from services.chassis import app, client, discovery
from services.chassis.app import App
from services.chassis.config import ServiceSettings
from services.chassis.events.connection import Connection
from services.chassis.events.permissions import users
from services.chassis.events.server import NatsServer
from services.chassis.policy.circuit import Limits
from services.chassis.policy.limiter import Priority
from services.chassis.server.access import Everyone
from services.chassis.service import opened
from services.chassis.storage.sqlite import engine_for_migrations
from services.chassis.testing import FakeClock
from services.chassis.tls import Identity
from services.cli import observation, status
from services.cli.certificates import Certificates, papers
from services.cli.data_folder import OPERATOR
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.figures import Circuit, Load
from services.cli.instances import Place
from services.cli.observation import Observation, Observer
from services.cli.status import Report
from tests.chassis.events.ledger import Transaction, metadata
from tests.chassis.events.waiting import eventually
from tests.chassis.playground import FILE, SERVICE, Ping, Stub

NOWHERE = ServiceEndpoint(grpc="127.0.0.1:1", http="127.0.0.1:1", pid=1, database="")
SPARE_S = 4.0  # what a busy machine may add to a deadline
WORKLOADS = ("order", "payment")


def shop(**services: ServiceEndpoint) -> Endpoints:
    return Endpoints(gateway="http://127.0.0.1:1", nats="nats://127.0.0.1:1", services=services)


def plain(**settings: Any) -> App:
    """A server that neither has a database nor announces itself."""
    return app.App(ServiceSettings(service="order", guests_plaintext=True, **settings), access=Everyone())


async def seen_at(at: Place) -> Observation:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await Observer(http).service(at)


async def seen(server: App) -> Observation:
    return await seen_at(
        Place("order", "order", guests=server.grpc_address, operations=server.operations_address, pid=7)
    )


def shown(capsys: pytest.CaptureFixture[str], *programs: Observation) -> str:
    status._show(Report(programs))
    return capsys.readouterr().out


async def test_programs_that_do_not_answer_are_not_serving() -> None:
    found = await status.report(shop(order=NOWHERE))
    by_name = {seen.name: seen for seen in found.programs}
    assert {name: seen.health for name, seen in by_name.items()} == {
        "gateway": "NO ANSWER",
        "order": "UNAVAILABLE",
        "nats": "NO ANSWER",
    }
    assert found.not_serving == ["gateway", "order", "nats"]
    assert by_name["order"].missing == ("operations port: no answer",)
    assert found.notes == ("nats does not tell who runs; shown is what was started",)


@pytest.mark.parametrize(
    ("required", "health", "serving"), [(False, "DEGRADED", True), (True, "NOT_SERVING", False)]
)
async def test_a_service_says_what_it_lacks(required: bool, health: str, serving: bool) -> None:  # noqa: FBT001
    server, is_there = plain(), True

    async def there() -> bool:
        return is_there

    server.check("events", there, required=required)
    async with server.running():
        assert (await seen(server)).health == "SERVING"
        is_there = False
        await server.health.refresh()
        found = await seen(server)
    assert (found.health, found.is_serving, found.missing) == (health, serving, ("events: not there",))


async def test_who_starts_or_drains_says_so() -> None:
    server, is_there = plain(), False

    async def there() -> bool:
        return is_there

    server.check("database", there)
    async with server.running():
        assert (await seen(server)).health == "STARTING"
        is_there = True
        await server.health.refresh()
        server.health.drain()
        assert (await seen(server)).health == "DRAINING"


async def test_a_service_says_whom_it_leaves_alone(capsys: pytest.CaptureFixture[str]) -> None:
    server, clock = plain(), FakeClock()
    once = Limits(consecutive_failures=1)
    async with (
        client.connect("127.0.0.1:1", FILE, metrics=server.metrics, circuits=once, clock=clock) as channel,
        server.running(),
    ):
        assert (await seen(server)).left_alone == ()
        with pytest.raises(grpc.aio.AioRpcError):
            await Stub(channel).Fire(Ping())
        found = await seen(server)
        clock.advance(once.open_s)
        later = await seen(server)
    assert found.left_alone == (Circuit("127.0.0.1:1", SERVICE, "Fire", "open"),)
    assert f"leaves alone {SERVICE}/Fire at 127.0.0.1:1 (circuit open)" in shown(capsys, found)
    assert f"leaves alone {SERVICE}/Fire at 127.0.0.1:1 (circuit half open)" in shown(capsys, later)


async def test_a_service_says_how_much_it_takes_and_whom_it_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = plain()
    limiter = server._onion.limiter
    async with server.running():
        assert (await seen(server)).load == Load(
            0.0, limiter.limit, {"critical": 0.0, "normal": 0.0, "sheddable": 0.0}
        )
        limiter.refused[Priority.SHEDDABLE] += 7
        found = await seen(server)
    out = shown(capsys, found)
    assert f"0 of {limiter.limit}, 7 refused" in out
    assert "refused calls as too many since it began: 0 critical, 0 normal, 7 sheddable" in out


async def test_the_edge_says_so_too() -> None:
    server = plain()  # in the edge's place: the pages are alike
    async with server.running():
        at = server.operations_address
        edge = replace(shop(), gateway=f"http://{at}", gateway_operations=at)
        async with httpx.AsyncClient(trust_env=False) as http:
            found = await Observer(http).gateway(edge)
    assert (found.health, found.load and found.load.limit) == ("SERVING", 512.0)


@dataclass
class Stage:
    """A shop with certificates and a broker that knows them, and no plaintext anywhere."""

    folder: Path
    broker: NatsServer
    certificates: Certificates
    expected: dict[str, ServiceEndpoint] = field(default_factory=dict)

    @asynccontextmanager
    async def instance(self, service: str = "order") -> AsyncIterator[App]:
        url = f"sqlite:///{self.folder}/{service}.db"
        engine = engine_for_migrations(url)
        metadata.create_all(engine)
        engine.dispose()
        settings = ServiceSettings(
            service=service, tls=self.papers(service), database_url=url, nats_url=self.broker.url
        )
        async with opened(settings, lambda session, _: Transaction(session)) as one, one.app.running():
            yield one.app

    @asynccontextmanager
    async def connected(self, workload: str) -> AsyncIterator[Connection]:
        connection = Connection()
        await connection.open(self.broker.url, name=workload, identity=Identity(self.papers(workload)))
        try:
            yield connection
        finally:
            await connection.close()

    def papers(self, workload: str) -> Any:
        return papers(self.certificates.folder / workload)

    def expect(self, service: str, server: App) -> None:
        """At its mesh port; where it has the others is not told."""
        self.expected[service] = ServiceEndpoint("", "", 1, "", mesh=server.mesh_address)

    @property
    def shop(self) -> Endpoints:
        certificates = str(self.certificates.folder)
        return replace(shop(**self.expected), nats=self.broker.url, certificates=certificates)

    async def report(self) -> Report:
        return await status.report(self.shop)

    async def services(self) -> list[Observation]:
        return [seen for seen in (await self.report()).programs if seen.name in WORKLOADS]

    async def until(self, holds: Callable[[Report], object]) -> Report:
        found: list[Report] = []

        async def is_so() -> bool:
            found.append(await self.report())
            return bool(holds(found[-1]))

        await eventually(is_so)
        return found[-1]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    certificates = Certificates(tmp_path / "certificates")
    certificates.renew()
    allowed = users(WORKLOADS, operator=OPERATOR)
    tls = papers(certificates.folder / "nats")
    async with NatsServer(tmp_path / "nats", tls=tls, users=allowed) as broker:
        yield Stage(tmp_path, broker, certificates)


def announced(found: Report) -> int:
    return sum(bool(seen.instance) for seen in found.programs)


async def test_every_instance_has_a_row_and_is_asked_at_its_mesh_port(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage.instance() as one, stage.instance() as other:
        stage.expect("order", one)
        found = await stage.until(lambda found: announced(found) == 2)
        for seen, server in zip(found.programs[1:3], (one, other), strict=True):
            assert (seen.name, seen.address, seen.health) == ("order", server.mesh_address, "SERVING")
            assert seen.version
            assert seen.load
            assert seen.started_at
        assert found.programs[1].instance != found.programs[2].instance
        assert found.notes == (
            f"order at {other.mesh_address} announces itself, but nobody here has started it",
        )
        status._show(found)
        out = capsys.readouterr().out
        assert one.mesh_address in out
        assert other.mesh_address in out


async def test_who_runs_and_does_not_say_so_is_named(stage: Stage) -> None:
    server = app.App(ServiceSettings(service="order", tls=stage.papers("order")), access=Everyone())
    async with server.running():
        stage.expect("order", server)
        found = await stage.report()
    assert [seen.health for seen in found.programs if seen.name == "order"] == ["DEGRADED"]
    assert found.notes == (f"order at {server.mesh_address} does not announce itself",)


async def test_a_broker_that_restarts_loses_nobody(stage: Stage) -> None:
    async with stage.instance() as one:
        stage.expect("order", one)
        [before] = [seen for seen in (await stage.until(announced)).programs if seen.name == "order"]
        await stage.broker.kill()
        without = await stage.report()
        assert without.notes == ("nats does not tell who runs; shown is what was started",)
        assert [seen.answers for seen in without.programs if seen.name == "order"] == [True]
        await stage.broker.start()
        [after] = [seen for seen in (await stage.until(announced)).programs if seen.name == "order"]
    assert (after.instance, after.address) == (before.instance, before.address)


HONEST = {
    "state": "serving",
    "lacks": "",
    "pid": "7",
    "started_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
}


@asynccontextmanager
async def announcing(stage: Stage, workload: str, name: str, **where: str) -> AsyncIterator[None]:
    """A workload that says what it likes, wherever the broker lets it."""
    told = {"name": name, "id": "liar", "version": "0.1.0", "metadata": HONEST | where}

    async with stage.connected(workload) as connection:

        async def answer(asked: Msg) -> None:
            await connection.publish(asked.reply, json.dumps(told).encode())

        for service in WORKLOADS:
            await connection.subscribe(f"{discovery.PREFIX}.INFO.{service}", answer)
        await connection.client.flush()
        yield


async def test_who_announces_itself_and_does_not_answer_is_named(stage: Stage) -> None:
    stage.expected["order"] = replace(NOWHERE, mesh="127.0.0.1:1")
    async with announcing(stage, "order", "order", mesh="127.0.0.1:1", operations="127.0.0.1:1"):
        found = await stage.report()
    assert found.notes == ("order at 127.0.0.1:1 announces itself, but does not answer there: UNAVAILABLE",)
    assert "order" in found.not_serving


async def test_nobody_is_shown_by_what_another_says(stage: Stage) -> None:
    async with (
        stage.instance("payment") as payment,
        announcing(stage, "order", "payment", mesh="127.0.0.1:1"),
    ):
        stage.expect("payment", payment)
        found = await stage.until(announced)
        assert [(seen.name, seen.address) for seen in found.programs if seen.name in WORKLOADS] == [
            ("payment", payment.mesh_address)
        ]
        assert found.notes == ()
        stage.expected["order"] = NOWHERE
        found = await stage.report()
        assert "order: 1 announcements are not what an instance says" in found.notes


async def test_who_shows_anothers_address_is_not_serving_there(stage: Stage) -> None:
    async with stage.instance("payment") as payment:
        stage.expected["order"] = replace(NOWHERE, mesh=payment.mesh_address)
        where = {"mesh": payment.mesh_address, "operations": payment.operations_address}
        async with announcing(stage, "order", "order", **where):
            [found] = [seen for seen in await stage.services() if seen.name == "order"]
    assert not found.answers


async def test_without_its_certificate_the_operator_asks_as_a_guest(stage: Stage) -> None:
    server = plain()
    async with server.running():
        stage.expected["order"] = ServiceEndpoint(server.grpc_address, server.operations_address, 1, "")
        (stage.certificates.folder / OPERATOR / "certificate.pem").unlink()
        found = await stage.report()
    assert [seen.health for seen in found.programs if seen.name == "order"] == ["SERVING"]
    assert "certificate.pem cannot be read" in found.notes[0]


@asynccontextmanager
async def listening(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Somebody who takes every connection, and whose answer is a matter of its own."""
    answering = set[asyncio.Task[Any]]()

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        answering.add(task)
        with contextlib.suppress(
            OSError, asyncio.CancelledError
        ):  # whoever asked has left, or the test is over
            await answer(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering)


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 2**20)
        await writer.drain()


async def test_whoever_hangs_the_answer_comes_within_seconds() -> None:
    async with listening(silence) as hung, listening(trickle) as slow, listening(flood) as endless:
        services = {"order": hung, "payment": slow, "user": endless}
        dark = Endpoints(
            gateway=f"http://{hung}",
            nats=f"nats://{hung}",
            services={name: ServiceEndpoint(hung, at, 1, "") for name, at in services.items()},
            gateway_operations=slow,
        )
        begun = time.monotonic()
        found = await status.report(dark)
        assert time.monotonic() - begun < status.BROKER_MAX_S + observation.ASK_MAX_S + SPARE_S
    assert not any(seen.is_serving for seen in found.programs)


@pytest.mark.parametrize(
    "page",
    [
        "[]",
        '{"checks": []}',
        '{"checks": {"\\u001b[2J": 1}}',
        '{"status": {}, "checks": {"[red]": {"problem": "\\u001b]0;x\\u0007"}}}',
        "[" * 100_000,
    ],
)
async def test_pages_of_others_neither_break_nor_command_anything(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + page.encode())
        await writer.drain()

    async with listening(answer) as at:
        found = await seen_at(Place("order", "order", guests="127.0.0.1:1", operations=at))
    assert found.health == "UNAVAILABLE"
    assert shown(capsys, found).replace("\n", "").isprintable()


def test_text_of_others_is_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    found = Observation("order", "SERVING", version="[bold]0.1", missing=("[red]x: y",))
    out = shown(capsys, found)
    assert "[bold]0.1" in out
    assert "[red]x: y" in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (200_000, "2d 7h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


def test_what_is_unknown_is_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Observation("notification", "SERVING", consumer_lags={"a": math.nan, "b": 3.0})
    assert "a ?, b 3" in shown(capsys, seen)
    told = status.for_machines(Report((seen,)))
    assert told["programs"][0]["consumer_lags"] == {"a": None, "b": 3.0}


def test_machines_are_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop(order=NOWHERE).write(tmp_path / "endpoints.json")
    with pytest.raises(typer.Exit) as ended:
        status.status(tmp_path, as_json=True)
    assert ended.value.exit_code == 1
    told = json.loads(capsys.readouterr().out)
    assert [seen["name"] for seen in told["programs"]] == ["gateway", "order", "nats"]
    assert told["programs"][1]["health"] == "UNAVAILABLE"
    assert told["not_serving"] == ["gateway", "order", "nats"]
    assert told["notes"] == ["nats does not tell who runs; shown is what was started"]


def test_a_shop_is_needed(tmp_path: Path) -> None:
    from services.cli.refusal import Refused

    with pytest.raises(Refused, match="no shop is running"):
        status.status(tmp_path)
