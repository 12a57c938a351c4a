"""Reactions: once, in order, whatever dies."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bodega.order.v1 import order_events_pb2

from services.chassis import failpoints
from services.chassis.events import deadletter
from services.chassis.events.connection import BROKER_ERRORS, Ack, Outgoing
from services.chassis.events.consumer import TRIES_MAX, Consumer
from services.chassis.events.envelope import Envelope, envelope
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.events.server import NatsServer
from services.kernel import errors
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import AT, Ledger, Transaction, ids_heard, say
from tests.chassis.events.waiting import eventually, running

CANCELLED = "bodega.order.v1.OrderCancelled"

React = Callable[[Transaction, Envelope, order_events_pb2.OrderCancelled], None]


def hear(tx: Transaction, event: Envelope, message: order_events_pb2.OrderCancelled) -> None:
    assert message.order_id == event.subject
    tx.hear(event)


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


def consumer(listener: Ledger, jetstream: JetStream, react: React = hear) -> Consumer[Transaction]:
    return Consumer(
        jetstream,
        listener,
        name="listener-order",
        service="order",
        reactions={CANCELLED: react},
        clock=SystemClock(),
        sleep=no_wait,
    )


@asynccontextmanager
async def relaying(speaker: Ledger, jetstream: JetStream) -> AsyncIterator[None]:
    async with running(Relay(speaker, jetstream, service="order", clock=SystemClock()).run()):
        yield


async def has_heard(listener: Ledger, count: int) -> bool:
    return len(await ids_heard(listener)) >= count


async def dead_letters(jetstream: JetStream) -> list[dict[str, str]]:
    connection = await jetstream.connection()
    await deadletter.ensure(connection, replicas=1)
    state = (await connection.jetstream.stream_info(deadletter.STREAM)).state
    return [
        (await connection.jetstream.get_msg(deadletter.STREAM, seq)).headers or {}
        for seq in range(max(1, state.first_seq), state.last_seq + 1)
    ]


async def settled(who: Consumer[Transaction]) -> bool:
    try:
        return await who.lag() == 0
    except BROKER_ERRORS:  # between two brokers
        return False


async def test_what_is_said_is_heard_once_and_in_the_same_trace(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    async with relaying(speaker, jetstream), running((who := consumer(listener, jetstream)).run()):
        await say(speaker, *((f"{n}", f"order-{n % 3}") for n in range(300)))
        await eventually(lambda: has_heard(listener, 300))
        await eventually(lambda: settled(who))

    heard = await ids_heard(listener)
    assert len(heard) == 300
    for order in range(3):
        assert await ids_heard(listener, f"order-{order}") == [str(n) for n in range(300) if n % 3 == order]


async def test_a_crash_between_commit_and_acknowledgement_repeats_nothing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(self: object, delivery: object, how: bytes) -> None:
        await asyncio.Event().wait()

    async with relaying(speaker, jetstream):
        with monkeypatch.context() as patched:
            patched.setattr(Consumer, "_acknowledge", stuck)
            async with running(consumer(listener, jetstream).run()):
                await say(speaker, ("1", "order-a"), ("2", "order-a"), ("3", "order-b"))
                await eventually(lambda: has_heard(listener, 2))
        await say(speaker, ("4", "order-a"), ("5", "order-b"))
        async with running((who := consumer(listener, jetstream)).run()):
            await eventually(lambda: has_heard(listener, 5))
            await eventually(lambda: settled(who))

    assert await ids_heard(listener, "order-a") == ["1", "2", "4"]
    assert await ids_heard(listener, "order-b") == ["3", "5"]


async def test_order_holds_when_a_consumer_dies_with_work_in_hand(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    def busy(tx: Transaction, event: Envelope, message: object) -> None:
        if event.id in ("1", "2"):
            raise errors.Unavailable
        tx.hear(event)

    async with relaying(speaker, jetstream):
        async with running(consumer(listener, jetstream, busy).run()):
            await say(speaker, ("1", "order-a"), ("2", "order-b"), ("3", "order-a"), ("4", "order-c"))
            await eventually(lambda: has_heard(listener, 1))
        assert await ids_heard(listener) == ["4"]
        await say(speaker, ("5", "order-a"), ("6", "order-b"), ("7", "order-c"))
        async with running(consumer(listener, jetstream).run()):
            await eventually(lambda: has_heard(listener, 7))

    assert await ids_heard(listener, "order-a") == ["1", "3", "5"]
    assert await ids_heard(listener, "order-b") == ["2", "6"]
    assert await ids_heard(listener, "order-c") == ["4", "7"]


async def test_a_broker_that_is_killed_again_and_again_changes_nothing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, server: NatsServer
) -> None:
    async with relaying(speaker, jetstream), running((who := consumer(listener, jetstream)).run()):
        for round_ in range(3):
            await say(speaker, *((f"{n}", f"order-{n % 5}") for n in range(round_ * 100, round_ * 100 + 100)))
            await server.kill()
            await server.start()
        await eventually(lambda: has_heard(listener, 300))
        await eventually(lambda: settled(who))

    for order in range(5):
        assert await ids_heard(listener, f"order-{order}") == [str(n) for n in range(300) if n % 5 == order]


async def test_a_broker_without_memory_repeats_nothing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, server: NatsServer
) -> None:
    async with relaying(speaker, jetstream), running((who := consumer(listener, jetstream)).run()):
        await say(speaker, *((f"{n}", f"order-{n % 5}") for n in range(50)))
        await eventually(lambda: has_heard(listener, 50))
        await server.stop()
        shutil.rmtree(server.store)
        await server.start()
        await say(speaker, *((f"{n}", f"order-{n % 5}") for n in range(50, 60)))
        await eventually(lambda: has_heard(listener, 60))
        await eventually(lambda: settled(who))

    for order in range(5):
        assert await ids_heard(listener, f"order-{order}") == [str(n) for n in range(60) if n % 5 == order]


async def test_an_event_that_always_fails_is_buried_while_other_lanes_go_on(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    others_done = asyncio.Event()

    def poisoned(tx: Transaction, event: Envelope, message: object) -> None:
        if event.id == "poison":
            raise RuntimeError("private words")
        tx.hear(event)

    async def patient(_: float) -> None:
        await others_done.wait()

    who = consumer(listener, jetstream, poisoned)
    who._sleep = patient
    async with relaying(speaker, jetstream), running(who.run()):
        await say(
            speaker, ("poison", "order-a"), ("1", "order-a"), *((f"b{n}", "order-b") for n in range(200))
        )
        await eventually(lambda: has_heard(listener, 200))
        assert await ids_heard(listener, "order-a") == []
        others_done.set()
        await eventually(lambda: has_heard(listener, 201))
        await eventually(lambda: settled(who))

    (letter,) = await dead_letters(jetstream)
    assert letter[deadletter.TRIES] == str(TRIES_MAX)
    assert letter[deadletter.REASON] == "FAILED"
    assert letter[deadletter.ERROR] == "RuntimeError"
    assert letter[deadletter.CONSUMER] == "listener-order"
    assert letter[deadletter.ORIGIN_STREAM] == "BODEGA_ORDER"
    assert letter[deadletter.ORIGIN_SUBJECT] == "bodega.order.v1.order_cancelled.order-a"
    assert letter["ce-id"] == "poison"
    assert "private words" not in str(letter)


async def test_passing_trouble_is_waited_out_however_long(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    tries = 0

    def busy_at_first(tx: Transaction, event: Envelope, message: object) -> None:
        nonlocal tries
        tries += 1
        if tries <= 5 * TRIES_MAX:
            raise errors.Unavailable
        tx.hear(event)

    async with relaying(speaker, jetstream), running(consumer(listener, jetstream, busy_at_first).run()):
        await say(speaker, ("1", "order-a"))
        await eventually(lambda: has_heard(listener, 1))
    assert await dead_letters(jetstream) == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"Nats-Msg-Id": "x"}, b"no envelope"),
        ({"ce-id": "x", "ce-source": "s", "ce-type": CANCELLED, "ce-subject": "a", "ce-time": "noon"}, b""),
        (
            {
                "ce-id": "x",
                "ce-source": "s",
                "ce-type": CANCELLED,
                "ce-subject": "a",
                "ce-time": "2026-01-01",
            },
            b"\xff\xff",
        ),
    ],
)
async def test_what_cannot_be_read_is_buried_at_once(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, headers: dict[str, str], body: bytes
) -> None:
    connection = await jetstream.connection()
    await jetstream.ensure_stream(connection, "order")
    (ack,) = await connection.publish_window([Outgoing("bodega.order.v1.odd.a", headers, body)])
    assert isinstance(ack, Ack)
    async with relaying(speaker, jetstream), running((who := consumer(listener, jetstream)).run()):
        await say(speaker, ("after", "a"))
        await eventually(lambda: has_heard(listener, 1))
        await eventually(lambda: settled(who))

    (letter,) = await dead_letters(jetstream)
    assert (letter[deadletter.REASON], letter[deadletter.TRIES]) == ("UNDECODABLE", "1")


async def test_events_of_other_types_are_passed_over(
    speaker: Ledger, listener: Ledger, jetstream: JetStream
) -> None:
    def other(tx: Transaction) -> None:
        message = order_events_pb2.OrderConfirmed(order_id="a")
        tx.outbox.add(envelope("order", "a", message, id="other", at=AT))
        tx.say("mine", "a")

    async with relaying(speaker, jetstream), running((who := consumer(listener, jetstream)).run()):
        await speaker.write(other)
        await eventually(lambda: has_heard(listener, 1))
        await eventually(lambda: settled(who))
    assert await ids_heard(listener) == ["mine"]
    assert await dead_letters(jetstream) == []


async def test_without_a_broker_a_consumer_waits(
    speaker: Ledger, listener: Ledger, server: NatsServer
) -> None:
    await server.stop()
    async with (
        JetStream.connect(server.url, name="test") as jetstream,
        relaying(speaker, jetstream),
        running(consumer(listener, jetstream).run()),
    ):
        await say(speaker, ("1", "order-a"))
        await server.start()
        await eventually(lambda: has_heard(listener, 1))


PROGRAM = """
import asyncio, os, sys
from services.chassis import failpoints
from services.chassis.events.jetstream import JetStream
from services.chassis.storage.database import Store
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Transaction
from tests.chassis.events.test_consumer import consumer

async def main():
    failpoints.configure_from_environment(production=False)
    async with (
        Store(sys.argv[1], open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store,
        JetStream.connect(sys.argv[2], name="victim") as jetstream,
    ):
        await consumer(store, jetstream).run()

asyncio.run(main())
"""


@pytest.mark.parametrize("site", ["consumer.commit.before", "consumer.ack.before"])
async def test_a_process_that_dies_around_its_commit_loses_and_repeats_nothing(
    *,
    speaker: Ledger,
    listener: Ledger,
    listener_url: str,
    jetstream: JetStream,
    server: NatsServer,
    site: str,
) -> None:
    async with relaying(speaker, jetstream):
        await say(speaker, *((f"{n}", f"order-{n % 3}") for n in range(60)))
        assert await _run_victim(listener_url, server.url, f"{site}=exit@20") == 137
        assert await _run_victim(listener_url, server.url, f"{site}=exit@7") == 137
        async with running((who := consumer(listener, jetstream)).run()):
            await eventually(lambda: has_heard(listener, 60))
            await eventually(lambda: settled(who))

    for order in range(3):
        assert await ids_heard(listener, f"order-{order}") == [str(n) for n in range(60) if n % 3 == order]


@pytest.mark.parametrize("site", ["consumer.commit.before", "consumer.ack.before"])
async def test_a_fault_played_around_the_commit_holds_up_nothing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, quiet_failpoints: None, site: str
) -> None:
    failpoints.configure(f"{site}=error(UNAVAILABLE)*5", production=False)
    async with relaying(speaker, jetstream), running(consumer(listener, jetstream).run()):
        await say(speaker, *((f"{n}", f"order-{n % 3}") for n in range(30)))
        await eventually(lambda: has_heard(listener, 30))
    assert len(await ids_heard(listener)) == 30


async def _run_victim(*args: str) -> int | None:
    *argv, points = args
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *argv, env={**os.environ, "BODEGA_FAILPOINTS": points}
    )
    return await asyncio.wait_for(process.wait(), 30)


def test_a_reaction_to_what_no_proto_declares_is_refused_at_start(listener: Any) -> None:
    with pytest.raises(KeyError):
        Consumer(
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            name="x",
            service="order",
            reactions={"bodega.order.v1.Nonsense": hear},
            clock=SystemClock(),
        )
