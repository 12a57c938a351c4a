"""From a real broker to the messages, whatever is delivered twice or dies in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from bodega.order.v1 import order_events_pb2 as orders
from bodega.payment.v1 import payment_events_pb2 as payments
from bodega.user.v1 import user_events_pb2 as users
from google.protobuf.message import Message
from google.type.money_pb2 import Money
from nats.js.errors import NotFoundError

from services.chassis import failpoints
from services.chassis.events.connection import Ack, Outgoing
from services.chassis.events.consumer import BEFORE_ACK, Consumer
from services.chassis.events.envelope import MESSAGE_ID, Envelope, envelope
from services.chassis.events.jetstream import JetStream
from services.chassis.events.server import NatsServer
from services.chassis.service import consumers
from services.kernel.clock import SystemClock
from services.notification.consumers import reactions
from services.notification.domain import Channel, State
from services.notification.store import Transaction
from services.notification.tables import inbox_rows, notifications
from tests.chassis.events.waiting import eventually, running
from tests.notification.stage import Messages, Watched

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = Money(currency_code="USD", units=9)


@pytest.fixture
async def jetstream(tmp_path: Path) -> AsyncIterator[JetStream]:
    async with (
        NatsServer(tmp_path / "nats") as server,
        JetStream.connect(server.url, name="test") as connected,
    ):
        yield connected


def event(event_id: str, message: Message) -> Envelope:
    service = message.DESCRIPTOR.full_name.split(".")[1]
    key = message.user_id if service == "user" else message.order_id  # type: ignore[attr-defined]
    return envelope(service, key, message, id=event_id, at=AT)


def confirmed(number: int) -> Envelope:
    return event(f"e{number}", orders.OrderConfirmed(order_id=f"o{number}", user_id="u1", total=PRICE))


async def publish(jetstream: JetStream, *events: Envelope, again: int = 0) -> None:
    """Into the streams. `again` gives the messages other ids: to the broker they are no duplicates then."""
    connection = await jetstream.connection()
    for said in events:
        await jetstream.ensure_stream(connection, said.source.removeprefix("bodega/"))
        headers = said.headers() | ({MESSAGE_ID: f"{said.id}-{again}"} if again else {})
        [ack] = await connection.publish_window([Outgoing(said.nats_subject, headers, said.data)])
        assert isinstance(ack, Ack)
        assert not ack.duplicate


Consumers = dict[str, Consumer[Transaction]]


@asynccontextmanager
async def consuming(jetstream: JetStream, store: Messages) -> AsyncIterator[Consumers]:
    told_on_console = reactions(channel=Channel.CONSOLE, clock=SystemClock())
    made = consumers("notification", told_on_console, jetstream, store, clock=SystemClock())
    async with AsyncExitStack() as stack:
        for consumer in made.values():
            await stack.enter_async_context(running(consumer.run()))
        yield made


async def settled(made: Consumers, names: Sequence[str] = ("order", "payment", "user")) -> None:
    """Nothing waits in the streams any more."""

    async def nothing_waits() -> bool:
        return not sum([await made[f"notification-{name}"].lag() for name in names])

    for name in names:
        await eventually(lambda name=name: _attached(made, name))  # type: ignore[misc]
    await eventually(nothing_waits)


async def _attached(made: Consumers, name: str) -> bool:
    try:
        await made[f"notification-{name}"].lag()
    except NotFoundError:
        return False
    return True


async def told(store: Messages) -> list[tuple[str, str]]:
    rows = await store.fetch(
        sa.select(notifications.c.event_id, notifications.c.title).order_by(notifications.c.sequence)
    )
    return [(row["event_id"], row["title"]) for row in rows]


async def received(store: Messages) -> int:
    return len(await store.fetch(sa.select(inbox_rows)))


async def test_facts_of_all_three_services_become_messages(store: Messages, jetstream: JetStream) -> None:
    await publish(
        jetstream,
        confirmed(1),
        event("e2", payments.PaymentDeclined(order_id="o2", user_id="u2", amount=PRICE)),
        event("e3", users.UserRegistered(user_id="u3", username="ada")),
    )
    async with consuming(jetstream, store) as made:
        await settled(made)
    assert sorted(await told(store)) == [
        ("e1", "Order confirmed"),
        ("e2", "Payment declined"),
        ("e3", "Welcome"),
    ]


async def test_a_fact_delivered_twice_notifies_once(store: Messages, jetstream: JetStream) -> None:
    for again in range(3):
        await publish(jetstream, *(confirmed(number) for number in range(10)), again=again)
    async with consuming(jetstream, store) as made:
        await settled(made)
    assert sorted(await told(store)) == [(f"e{number}", "Order confirmed") for number in range(10)]
    assert await received(store) == 10


async def test_what_is_nobodys_news_leaves_no_message(store: Messages, jetstream: JetStream) -> None:
    await publish(
        jetstream,
        event("e1", orders.OrderPlaced(order_id="o1", user_id="u1")),
        event("e2", orders.OrderNeedsAttention(order_id="o1", user_id="u1")),
        event("e3", payments.PaymentRefunded(order_id="o1", amount=PRICE)),  # whose money, nobody knows
        event("e6", orders.OrderRefunded(order_id="o1", user_id="u1", amount=PRICE)),  # payment's to tell
        event("e4", users.UserUpdated(user_id="u1")),
        confirmed(5),
        event(
            "e7", orders.OrderRefunded(order_id="o1", user_id="u1", amount=PRICE, held=True)
        ),  # not so here
    )
    async with consuming(jetstream, store) as made:
        await settled(made)
    assert sorted(await told(store)) == [("e5", "Order confirmed"), ("e7", "Less to pay")]


async def test_a_crash_between_commit_and_acknowledgement_notifies_once(
    store: Messages, watched: Watched, jetstream: JetStream, quiet_failpoints: None
) -> None:
    await publish(jetstream, confirmed(1))
    failpoints.configure(f"{BEFORE_ACK}=delay(60)", production=False)
    async with consuming(jetstream, store) as made:
        await watched.until(lambda tx: tx.notifications.count(State.PENDING) == 1)
        assert await made["notification-order"].lag() == 1  # committed, not acknowledged; and now it dies
    failpoints.configure("", production=False)
    async with consuming(jetstream, store) as made:
        await settled(made)
    assert await told(store) == [("e1", "Order confirmed")]


async def test_a_crash_before_the_commit_loses_nothing(
    store: Messages, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()

    async def never(_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    await publish(jetstream, confirmed(1))
    with monkeypatch.context() as patched:
        patched.setattr(store, "transact", never)
        async with consuming(jetstream, store):
            async with asyncio.timeout(20):
                await entered.wait()
    assert await told(store) == []
    async with consuming(jetstream, store) as made:
        await settled(made)
    assert await told(store) == [("e1", "Order confirmed")]


async def test_facts_about_one_account_are_told_in_their_order(store: Messages, jetstream: JetStream) -> None:
    story = (users.UserRegistered, users.UserActivated, users.UserSuspended, users.UserReinstated)
    for chapter, kind in enumerate(story):
        for number in range(15):
            await publish(jetstream, event(f"{number}-{chapter}", kind(user_id=f"u{number}")))
    async with consuming(jetstream, store) as made:
        await settled(made, ["user"])
    by_user: dict[str, list[str]] = {}
    for event_id, _ in await told(store):
        user, _, part = event_id.partition("-")
        by_user.setdefault(user, []).append(part)
    assert by_user == {str(number): ["0", "1", "2", "3"] for number in range(15)}
