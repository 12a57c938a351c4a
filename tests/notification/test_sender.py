import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from services.chassis import tracing
from services.chassis.context import TraceContext
from services.chassis.testing import FakeClock
from services.kernel.clock import SystemClock
from services.kernel.errors import Unavailable
from services.notification.channels import ChannelPort, Console
from services.notification.domain import TRIES_MAX, Channel, State
from services.notification.sender import SENDS_MAX, Sender
from services.notification.store import Transaction
from tests.notification.stage import WAIT_MAX_S, Messages, ScriptedChannel, Watched, add, written


@asynccontextmanager
async def sending(store: Messages, channel: ChannelPort) -> AsyncIterator[asyncio.Task[None]]:
    """A sender at work, whose waits between tries are none."""
    channels = {Channel.CONSOLE: channel, Channel.EMAIL: channel}
    task = asyncio.create_task(Sender(store, channels, clock=SystemClock(), random=lambda: 0.0).run())
    try:
        yield task
    finally:
        if not task.cancelling():
            task.cancel()
        await asyncio.wait({task}, timeout=WAIT_MAX_S)


def count(state: State, wanted: int) -> Callable[[Transaction], bool]:
    return lambda tx: tx.notifications.count(state) == wanted


async def test_what_is_pending_is_sent_and_marked(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    await add(store, written(1))
    async with sending(store, channel):
        await watched.until(count(State.SENT, 1))
        await add(store, written(2), written(3, "u2"))  # a commit wakes it
        await watched.until(count(State.SENT, 3))
    assert sorted(message.id for message in channel.taken) == ["n1", "n2", "n3"]


async def test_a_users_messages_leave_in_the_order_they_were_written(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    channel.failures = {"u1": 3, "u3": 1}
    await add(store, *(written(number, f"u{number % 4}") for number in range(40)))
    async with sending(store, channel):
        await watched.until(count(State.SENT, 40))
    for user_id in ("u0", "u1", "u2", "u3"):
        numbers = [int(sent.id[1:]) for sent in channel.taken if sent.message.user_id == user_id]
        assert numbers == sorted(numbers)


async def test_a_channel_that_fails_is_tried_again(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    channel.failures = {"u1": TRIES_MAX - 1}
    await add(store, written(1))
    async with sending(store, channel):
        await watched.until(count(State.SENT, 1))
    assert channel.tried == ["n1"] * TRIES_MAX


async def test_what_cannot_be_sent_is_parked_and_lets_the_next_one_go(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    channel.failures = {"u1": TRIES_MAX}
    await add(store, written(1), written(2))
    async with sending(store, channel):
        await watched.until(count(State.SENT, 1))
    assert channel.tried == ["n1"] * TRIES_MAX + ["n2"]
    assert await store.read(count(State.PARKED, 1))


async def test_more_users_than_may_be_served_at_once_are_all_served(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    users = 3 * SENDS_MAX
    await add(store, *(written(number, f"u{number}") for number in range(users)))
    async with sending(store, channel):
        await watched.until(count(State.SENT, users))
    assert len(channel.tried) == users


async def test_a_send_under_way_is_not_begun_again(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    channel.open.clear()
    async with sending(store, channel):
        for number in range(4):  # each commit makes the sender look again
            await add(store, written(number, f"u{number}"))
            assert await channel.next_begun() == f"n{number}"
        channel.open.set()
        await watched.until(count(State.SENT, 4))
    assert channel.begun.empty()


async def test_a_send_under_way_when_the_service_stops_is_noted(
    store: Messages, channel: ScriptedChannel
) -> None:
    channel.open.clear()
    await add(store, written(1))
    async with sending(store, channel) as task:
        assert await channel.next_begun() == "n1"
        task.cancel()
        await asyncio.sleep(0)
        channel.open.set()
    assert await store.read(count(State.SENT, 1))
    assert len(channel.taken) == 1


async def test_an_outcome_is_noted_however_often_the_database_says_not_now(
    store: Messages, watched: Watched, channel: ScriptedChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refusals = store.write, 3

    async def busy(fn: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Unavailable
        return await write(fn)

    await add(store, written(1))
    monkeypatch.setattr(store, "write", busy)
    async with sending(store, channel):
        await watched.until(count(State.SENT, 1))
    assert len(channel.taken) == 1


async def test_the_console_prints_a_line_a_message() -> None:
    stream = io.BytesIO()
    console = Console(stream, clock=FakeClock())
    await console.send(written(1))
    await console.send(written(2))
    first, second = stream.getvalue().splitlines()
    assert orjson.loads(first) == {
        "time": "2026-01-01T12:00:00Z",
        "notification_id": "n1",
        "user_id": "u1",
        "event_type": "bodega.order.v1.OrderConfirmed",
        "order_id": "o1",
        "title": "Title",
        "body": "Body 1",
    }
    assert orjson.loads(second)["notification_id"] == "n2"


async def test_a_try_to_send_is_a_span_below_the_fact_it_tells(
    store: Messages, watched: Watched, channel: ScriptedChannel
) -> None:
    told = TraceContext.fresh().sampled(is_it=True)
    channel.failures = {"u1": 1}
    await add(store, replace(written(1), traceparent=str(told)), written(2, "u2"))
    with tracing.captured() as spans:
        async with sending(store, channel):
            await watched.until(count(State.SENT, 2))
    tries = [span for span in spans if span.name == "send CONSOLE"]
    assert [span.parent_id for span in tries] == [told.span_id] * 2
    assert [span.attributes["bodega.outcome"] for span in tries] == ["PENDING", "SENT"]
