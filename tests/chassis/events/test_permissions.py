"""A broker that knows its clients by their certificates: who may connect, and what each may say and hear."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from bodega.order.v1 import order_events_pb2
from nats.aio.msg import Msg

from services.chassis.discovery import heard_by
from services.chassis.events import deadletter, permissions
from services.chassis.events.connection import (
    BROKER,
    BROKER_ERRORS,
    Ack,
    Connection,
    Outgoing,
    inbox_prefix,
)
from services.chassis.events.consumer import Consumer
from services.chassis.events.envelope import Envelope
from services.chassis.events.jetstream import JetStream, stream_name
from services.chassis.events.relay import Relay
from services.chassis.events.server import NatsServer
from services.chassis.tls import Identity, TlsFiles, TlsRefused
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, Transaction, ids_heard, say
from tests.chassis.events.waiting import eventually, running
from tests.chassis.papers import Papers, stranger

SERVICES = ("order", "payment", "listener")
SOON_S = 0.3  # JetStream never answers what it was not allowed to hear
CANCELLED = "bodega.order.v1.OrderCancelled"


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path / "certificates")


@pytest.fixture
async def server(tmp_path: Path, papers: Papers) -> AsyncIterator[NatsServer]:
    users = permissions.users(SERVICES, operator="operator")
    async with NatsServer(tmp_path / "nats", tls=papers.of(BROKER), users=users) as started:
        yield started


@asynccontextmanager
async def connected(server: NatsServer, files: TlsFiles | None, name: str) -> AsyncIterator[Connection]:
    connection = Connection()
    await connection.open(server.url, name=name, identity=Identity(files) if files else None)
    try:
        yield connection
    finally:
        await connection.close()


async def is_let_in(server: NatsServer, files: TlsFiles | None) -> bool:
    try:
        async with connected(server, files, "order"):
            return True
    except BROKER_ERRORS:
        return False


async def is_taken(connection: Connection, subject: str) -> bool:
    [result] = await connection.publish_window([Outgoing(subject, {}, b"")], timeout_s=SOON_S)
    return isinstance(result, Ack)


async def test_services_tell_and_hear_as_they_must(
    server: NatsServer, papers: Papers, speaker: Ledger, listener: Ledger
) -> None:
    poison = "2"

    def hear(tx: Transaction, event: Envelope, _message: order_events_pb2.OrderCancelled) -> None:
        if event.id == poison:
            raise ValueError(poison)
        tx.hear(event)

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    async with (
        JetStream.connect(server.url, name="order", tls=papers.of("order")) as saying,
        JetStream.connect(server.url, name="listener", tls=papers.of("listener")) as hearing,
    ):
        assert await hearing.ready() or await hearing.connection()
        who = Consumer(
            hearing,
            listener,
            name="listener-order",
            service="order",
            reactions={CANCELLED: hear},
            clock=SystemClock(),
            sleep=no_wait,
        )
        relay = Relay(speaker, saying, service="order", clock=SystemClock())
        async with running(relay.run()), running(who.run()):
            await say(speaker, ("1", "order-a"), (poison, "order-b"), ("3", "order-c"))

            async def settled() -> bool:
                return sorted(await ids_heard(listener)) == ["1", "3"] and await who.lag() == 0

            await eventually(settled)
    async with connected(server, papers.of("operator"), "operator") as operator:
        state = (await operator.jetstream.stream_info(deadletter.STREAM)).state
        assert state.messages == 1


async def test_a_service_tells_facts_of_its_own_only(server: NatsServer, papers: Papers) -> None:
    async with connected(server, papers.of("operator"), "operator") as operator:
        for service in SERVICES:
            await operator.jetstream.add_stream(name=stream_name(service), subjects=[f"bodega.{service}.>"])
        async with connected(server, papers.of("order"), "order") as order:
            assert await is_taken(order, "bodega.order.v1.order_placed.1")
            for subject in ("bodega.payment.v1.payment_captured.1", "bodega.deadletter.listener-order.x"):
                assert not await is_taken(order, subject)
            for act in ("DELETE", "PURGE", "SNAPSHOT"):
                subject = f"$JS.API.STREAM.{act}.{stream_name('order')}"
                with pytest.raises(BROKER_ERRORS):
                    await order.client.request(subject, b"{}", timeout=SOON_S)
        found = await operator.jetstream.stream_info(stream_name("order"))
        assert found.state.messages == 1


async def test_a_service_hears_no_answers_to_others(server: NatsServer, papers: Papers) -> None:
    heard: list[str] = []

    async def note(message: object) -> None:
        heard.append(str(message))

    async with (
        connected(server, papers.of("operator"), "operator") as operator,
        connected(server, papers.of("listener"), "listener") as listener,
    ):
        for subject in (f"{inbox_prefix('order')}.>", "_INBOX.>", "bodega.>", ">"):
            await listener.subscribe(subject, note)
        await listener.client.flush()
        for subject in (f"{inbox_prefix('order')}.1", "bodega.order.v1.order_placed.1"):
            await operator.publish(subject)
        await operator.client.flush()
        await listener.client.flush()
    assert heard == []


async def test_who_is_asked_by_name_answers_and_nobody_else(server: NatsServer, papers: Papers) -> None:
    heard: list[bytes] = []
    overheard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.data)

    async def overhear(message: Msg) -> None:
        overheard.append(message.subject)

    async with (
        connected(server, papers.of("operator"), "operator") as operator,
        connected(server, papers.of("order"), "order") as order,
        connected(server, papers.of("payment"), "payment") as payment,
    ):
        inbox = operator.client.new_inbox()
        await operator.subscribe(inbox, note)
        for scope in ("INFO.payment", "*.payment", "*.*", "*.>", "INFO.>", "*.*.*", "*", ">"):
            subject = f"$SRV.{scope}"
            await order.subscribe(subject, overhear)

        async def answer(asked: Msg) -> None:
            await order.publish(asked.reply, b"from order, who was not asked")
            await order.client.flush()
            for number in range(3):
                await payment.publish(asked.reply, b"from payment, %d" % number)
            await payment.client.flush()
            await payment.publish(f"{inbox_prefix('operator')}.other", b"to whom nobody asked for")

        await payment.subscribe("$SRV.*.payment", answer)
        await order.client.flush()
        await payment.client.flush()
        await operator.subscribe(f"{inbox_prefix('operator')}.other", note)
        await operator.publish("$SRV.INFO.payment", reply=inbox)

        async def is_answered() -> bool:
            return bool(heard)

        await eventually(is_answered)
        for connection in (payment, order, operator):
            await connection.client.flush()
    assert (heard, overheard) == ([b"from payment, 0"], [])


async def test_everybody_hears_a_question_to_all(server: NatsServer, papers: Papers) -> None:
    async with (
        connected(server, papers.of("operator"), "operator") as operator,
        connected(server, papers.of("order"), "order") as order,
    ):

        async def answer(asked: Msg) -> None:
            await order.publish(asked.reply, b"here")

        for subject in heard_by("order", "1"):
            await order.subscribe(subject, answer)
        await order.client.flush()
        for scope in ("", ".order", ".order.1"):
            assert (await operator.client.request(f"$SRV.PING{scope}")).data == b"here"


async def test_nobody_else_is_let_in(server: NatsServer, papers: Papers) -> None:
    assert await is_let_in(server, papers.of("order"))
    assert not await is_let_in(server, None)
    assert not await is_let_in(server, papers.of("order", signer=stranger()))
    assert not await is_let_in(server, papers.of("order", lives=timedelta(seconds=-1)))
    for other in ("gateway", BROKER, "orders"):
        assert not await is_let_in(server, papers.of(other))


async def test_a_broker_that_is_not_the_broker_is_not_spoken_to(tmp_path: Path, papers: Papers) -> None:
    users = permissions.users(SERVICES, operator="operator")
    for number, shown in enumerate(
        (papers.of("payment"), papers.of(BROKER, signer=stranger()), None)  # None: in plaintext
    ):
        async with NatsServer(tmp_path / f"nats{number}", tls=shown, users=users) as server:
            assert not await is_let_in(server, papers.of("order"))


async def test_events_do_not_leave_the_machine_in_plaintext() -> None:
    for url in ("nats://broker.example:4222", "nats://127.0.0.1:4222,nats://10.0.0.1:4222"):
        with pytest.raises(TlsRefused, match="would leave this machine"):
            JetStream.connect(url, name="order")


async def test_a_new_certificate_is_taken_up_without_ending_connections(
    server: NatsServer, papers: Papers
) -> None:
    async with connected(server, papers.of("order"), "order") as before:
        papers.trust(authority := stranger())
        papers.of(BROKER, signer=authority)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGHUP)

        async def is_taken_up() -> bool:
            return await is_let_in(server, papers.of("payment", signer=authority))

        await eventually(is_taken_up)
        assert not before.is_broken
        assert await before.jetstream.account_info()
