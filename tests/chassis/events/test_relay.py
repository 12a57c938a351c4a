"""From the outbox into the stream, whatever happens to the broker."""

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import sqlalchemy as sa
from nats.js.api import RawStreamMsg

from services.chassis import failpoints
from services.chassis.events.connection import Ack, Connection, Outgoing
from services.chassis.events.envelope import MESSAGE_ID
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import ROWS_MAX, WINDOW, Relay
from services.chassis.events.server import NatsServer
from services.chassis.storage.database import Store
from services.chassis.storage.statement import Statement
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, Transaction, rows_sent, say, sent
from tests.chassis.events.waiting import WAIT_S, eventually, running
from tests.databases import only_postgresql

STREAM = "BODEGA_ORDER"


def relay(speaker: Ledger, jetstream: JetStream) -> Relay:
    return Relay(speaker, jetstream, service="order", clock=SystemClock())


async def all_published(speaker: Ledger) -> bool:
    return all(row["stream_seq"] is not None for row in await rows_sent(speaker))


async def in_stream(jetstream: JetStream) -> list[RawStreamMsg]:
    connection = await jetstream.connection()
    state = (await connection.jetstream.stream_info(STREAM)).state
    return [
        await connection.jetstream.get_msg(STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1)
    ]


async def ids_in_stream(jetstream: JetStream) -> list[str]:
    return [(message.headers or {})[MESSAGE_ID] for message in await in_stream(jetstream)]


def events(count: int, orders: int) -> list[tuple[str, str]]:
    return [(f"event-{n:03}", f"order-{n % orders}") for n in range(count)]


def of_order(ids: list[str], order: int, orders: int) -> list[str]:
    return [event_id for event_id in ids if int(event_id[-3:]) % orders == order]


async def test_events_arrive_once_and_their_place_is_noted(speaker: Ledger, jetstream: JetStream) -> None:
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, ("a", "order-1"), ("b", "order-1"), ("c", "order-2"))
        await eventually(lambda: all_published(speaker))

    rows = {row["stream_seq"]: row["event_id"] for row in await rows_sent(speaker)}
    assert [rows[seq] for seq in sorted(rows)] == await ids_in_stream(jetstream)
    messages = await in_stream(jetstream)
    assert {message.subject for message in messages} == {
        "bodega.order.v1.order_cancelled.order-1",
        "bodega.order.v1.order_cancelled.order-2",
    }
    assert (messages[0].headers or {})["ce-type"] == "bodega.order.v1.OrderCancelled"


@pytest.mark.parametrize("site", ["outbox.publish.before", "outbox.mark.before"])
@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
async def test_a_fault_played_while_publishing_delays_and_doubles_nothing(
    speaker: Ledger, jetstream: JetStream, quiet_failpoints: None, site: str, code: str
) -> None:
    failpoints.configure(f"{site}=error({code})*2", production=False)
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, ("a", "order-1"), ("b", "order-1"), ("c", "order-2"))
        await eventually(lambda: all_published(speaker))
    assert sorted(await ids_in_stream(jetstream)) == ["a", "b", "c"]


async def test_each_aggregate_keeps_its_order_through_a_killed_broker(
    speaker: Ledger, jetstream: JetStream, server: NatsServer
) -> None:
    said = events(600, orders=7)
    async with running(relay(speaker, jetstream).run()):
        for start in range(0, 600, 50):
            await say(speaker, *said[start : start + 50])
            if start in (100, 300):
                await server.kill()
            if start in (200, 400):
                await server.start()
        await eventually(lambda: all_published(speaker))

    ids = await ids_in_stream(jetstream)
    assert len(ids) == len(set(ids)) == 600
    for order in range(7):
        assert of_order(ids, order, 7) == [
            event_id for event_id, _ in said if event_id in of_order(ids, order, 7)
        ]


async def test_of_each_aggregate_one_event_at_most_is_under_way(
    speaker: Ledger, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    under_way: Counter[str] = Counter()
    publish_window = Connection.publish_window

    async def watched(self: Connection, messages: Sequence[Outgoing]) -> list[Ack | Exception]:
        aggregates = [message.subject for message in messages]
        sizes.append(len(aggregates))
        under_way.update(aggregates)
        assert max(under_way.values()) == 1
        try:
            return await publish_window(self, messages)
        finally:
            under_way.subtract(aggregates)

    monkeypatch.setattr(Connection, "publish_window", watched)
    await say(speaker, *((f"event-{n}", f"order-{n // 4}") for n in range(500)))
    async with running(relay(speaker, jetstream).run()):
        await eventually(lambda: all_published(speaker))

    assert max(sizes) == WINDOW


async def test_a_broker_that_lost_its_disk_is_told_everything_again_in_order(
    speaker: Ledger, jetstream: JetStream, server: NatsServer
) -> None:
    said = events(30, orders=3)
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, *said)
        await eventually(lambda: all_published(speaker))
        before = {row["stream_epoch"] for row in await rows_sent(speaker)}
        await server.stop()
        shutil.rmtree(server.store)
        await server.start()

        async def again() -> bool:
            rows = await rows_sent(speaker)
            return all(row["stream_epoch"] not in (None, *before) for row in rows)

        await eventually(again)

    ids = await ids_in_stream(jetstream)
    assert sorted(ids) == [event_id for event_id, _ in said]
    for order in range(3):
        assert of_order(ids, order, 3) == sorted(of_order(ids, order, 3))


async def test_a_broker_that_lost_only_the_end_is_told_the_end_again(
    speaker: Ledger, jetstream: JetStream
) -> None:
    said = events(20, orders=20)
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, *said)
        await eventually(lambda: all_published(speaker))
    connection = await jetstream.connection()
    # As if the disk had lost what came after the 12th, and others had taken those places since.
    await connection.jetstream.purge_stream(STREAM, seq=1)
    kept = await ids_in_stream(jetstream)
    await connection.jetstream.delete_stream(STREAM)
    stream = await jetstream.ensure_stream(connection, "order")
    for event_id in kept[:12]:
        await connection.jetstream.publish("bodega.order.x", headers={MESSAGE_ID: event_id})
    for number in range(5):
        await connection.jetstream.publish("bodega.order.x", headers={MESSAGE_ID: f"other-{number}"})
    await speaker.transact(
        lambda session: session.run(Statement(sa.update(sent).values(stream_epoch=stream.epoch)))
    )

    async with running(relay(speaker, jetstream).run()):
        await eventually(lambda: _has(jetstream, kept[12:]))

    assert (await ids_in_stream(jetstream))[:12] == kept[:12]
    assert sorted((await ids_in_stream(jetstream))[17:]) == sorted(kept[12:])


async def _has(jetstream: JetStream, wanted: list[str]) -> bool:
    return set(wanted) <= set(await ids_in_stream(jetstream))


async def test_a_relay_that_died_before_its_note_publishes_nothing_twice(
    speaker: Ledger, jetstream: JetStream
) -> None:
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, *events(10, orders=2))
        await eventually(lambda: all_published(speaker))
    await speaker.transact(
        lambda session: session._connection.execute(
            "UPDATE outbox SET stream_seq = NULL, stream_epoch = NULL"
        )
    )

    async with running(relay(speaker, jetstream).run()):
        await eventually(lambda: all_published(speaker))

    assert len(await ids_in_stream(jetstream)) == 10


@only_postgresql
async def test_a_relay_that_waited_for_its_lead_publishes_nothing_that_the_other_one_did(
    speaker: Ledger, speaker_url: str, jetstream: JetStream
) -> None:
    async with (
        Store(speaker_url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as replica,
        AsyncExitStack() as first,
    ):
        await first.enter_async_context(running(relay(speaker, jetstream).run()))
        await say(speaker, ("a", "order-1"))
        await eventually(lambda: all_published(speaker))
        async with running(relay(replica, jetstream).run()):
            await say(replica, ("b", "order-1"))
            await eventually(lambda: all_published(speaker))
            noted = await rows_sent(speaker)
            await first.aclose()
            await say(replica, ("c", "order-1"))
            await eventually(lambda: all_published(speaker))
    assert (await rows_sent(speaker))[:2] == noted  # what is published again is noted again


@only_postgresql
async def test_events_whose_numbers_were_drawn_before_others_and_committed_after_them_are_not_passed_over(
    speaker: Ledger, speaker_url: str, jetstream: JetStream
) -> None:
    """With the relay that published the others, and with the one that follows it."""

    async def are_out(count: int) -> bool:
        connection = await jetstream.connection()
        return (await connection.jetstream.stream_info(STREAM)).state.messages == count

    async with (
        Store(speaker_url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as replica,
        AsyncExitStack() as first,
    ):
        await first.enter_async_context(running(relay(speaker, jetstream).run()))
        async with running(relay(replica, jetstream).run()):
            async with (
                uncommitted(replica, ("early-1", "order-1")) as commit_one,
                uncommitted(speaker, ("early-2", "order-2")) as commit_two,
            ):
                await say(speaker, *events(ROWS_MAX + 1, orders=50))
                await eventually(lambda: are_out(ROWS_MAX + 1))
                commit_one()
                await eventually(lambda: are_out(ROWS_MAX + 2))
                await first.aclose()
                commit_two()
                await eventually(lambda: are_out(ROWS_MAX + 3))
            await eventually(lambda: all_published(replica))
            noted = await rows_sent(replica)
    assert [row["event_id"] for row in noted[:2]] == ["early-1", "early-2"]
    assert (await ids_in_stream(jetstream))[-2:] == ["early-1", "early-2"]


@asynccontextmanager
async def uncommitted(store: Ledger, event: tuple[str, str]) -> AsyncIterator[Callable[[], None]]:
    """An event that is written and has its number; it is committed when what is given back is called."""
    loop, written, commit = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def fn(tx: Transaction) -> None:
        tx.say(*event)
        loop.call_soon_threadsafe(written.set)
        assert commit.wait(WAIT_S)

    saying = asyncio.create_task(store.write(fn))
    await written.wait()
    try:
        yield commit.set
        await saying
    finally:
        commit.set()


async def test_without_a_broker_events_wait_and_the_lag_shows_it(speaker: Ledger, server: NatsServer) -> None:
    await server.stop()
    async with JetStream.connect(server.url, name="test") as jetstream:
        late = relay(speaker, jetstream)
        async with running(late.run()):
            await say(speaker, ("a", "order-1"))
            waiting = await late.lag()
            assert (waiting.rows, waiting.oldest_age_s > 0) == (1, True)
            assert not await jetstream.ready()

            await server.start()
            await eventually(lambda: all_published(speaker))
            assert (await late.lag()).rows == 0
            assert await jetstream.ready()


async def test_a_stream_that_takes_nothing_holds_events_back_until_it_does(
    speaker: Ledger, jetstream: JetStream
) -> None:
    connection = await jetstream.connection()
    await jetstream.ensure_stream(connection, "order")
    async with running(relay(speaker, jetstream).run()):
        await say(speaker, ("a", "order-1"))
        await eventually(lambda: all_published(speaker))
        await connection.jetstream.delete_stream(STREAM)
        await say(speaker, ("b", "order-1"))
        await asyncio.sleep(0)
        await eventually(lambda: _has_two(jetstream))


async def _has_two(jetstream: JetStream) -> bool:
    try:
        return await ids_in_stream(jetstream) == ["a", "b"]
    except Exception:  # noqa: BLE001 (the stream is away for a moment)
        return False
