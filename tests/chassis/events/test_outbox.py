"""The outbox and the inbox as tables."""

from datetime import timedelta

import pytest

from services.chassis.events import inbox, outbox
from services.chassis.events.outbox import Published
from services.chassis.storage.retention import Janitor
from services.chassis.testing import FakeClock
from tests.chassis.events.ledger import AT, Ledger, Transaction, rows_sent, say
from tests.databases import VIOLATIONS


async def test_events_share_the_fate_of_their_transaction(speaker: Ledger) -> None:
    def fails(tx: Transaction) -> None:
        tx.say("never", "order-1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await speaker.write(fails)
    await say(speaker, ("a", "order-1"))

    (row,) = await rows_sent(speaker)
    assert (row["event_id"], row["aggregate_id"], row["subject"], row["stream_seq"]) == (
        "a",
        "order-1",
        "bodega.order.v1.order_cancelled.order-1",
        None,
    )


async def test_an_event_id_is_used_once(speaker: Ledger) -> None:
    await say(speaker, ("a", "order-1"))

    with pytest.raises(VIOLATIONS):
        await say(speaker, ("a", "order-2"))


async def test_an_event_too_large_for_the_broker_is_refused_before_it_blocks_others(speaker: Ledger) -> None:
    def fn(tx: Transaction) -> None:
        tx.say("x" * outbox.EVENT_BYTES_MAX, "order-1")

    with pytest.raises(ValueError, match="bytes"):
        await speaker.write(fn)


async def test_published_rows_go_after_a_day_and_others_never(speaker: Ledger) -> None:
    clock = FakeClock(AT)
    janitor = Janitor(speaker, clock=clock)
    await say(speaker, ("a", "1"), ("b", "1"), ("c", "1"))
    await speaker.transact(
        lambda session: outbox.mark_published(session, [Published(1, 10), Published(2, 11)], epoch="e", at=AT)
    )

    clock.advance(24 * 3600)
    assert await janitor.sweep(outbox.RETENTION) == 0
    clock.advance(1)
    assert await janitor.sweep(outbox.RETENTION) == 2
    clock.advance(365 * 24 * 3600)
    assert await janitor.sweep(outbox.RETENTION) == 0
    assert [row["event_id"] for row in await rows_sent(speaker)] == ["c"]


async def test_a_number_is_not_given_twice_although_its_row_went(speaker: Ledger) -> None:
    await say(speaker, ("a", "1"))
    await speaker.transact(lambda s: outbox.mark_published(s, [Published(1, 1)], epoch="e", at=AT))
    clock = FakeClock(AT + timedelta(days=2))
    await Janitor(speaker, clock=clock).sweep(outbox.RETENTION)
    await say(speaker, ("b", "1"))

    assert [row["seq"] for row in await rows_sent(speaker)] == [2]


async def test_an_event_is_claimed_once_by_each_consumer(listener: Ledger) -> None:
    async def claimed(consumer: str, event_id: str) -> bool:
        return await listener.transact(
            lambda session: inbox.claim(session, consumer=consumer, event_id=event_id, at=AT)
        )

    assert [await claimed("x", "1"), await claimed("x", "1")] == [True, False]
    assert [await claimed("y", "1"), await claimed("x", "2")] == [True, True]


async def test_the_inbox_remembers_for_longer_than_a_stream_can_repeat(listener: Ledger) -> None:
    clock = FakeClock(AT)
    janitor = Janitor(listener, clock=clock)
    await listener.transact(lambda session: inbox.claim(session, consumer="x", event_id="1", at=AT))

    clock.advance((inbox.STREAM_KEEPS + outbox.KEPT).total_seconds())
    assert await janitor.sweep(inbox.RETENTION) == 0
    clock.advance(2 * 24 * 3600)
    assert await janitor.sweep(inbox.RETENTION) == 1
