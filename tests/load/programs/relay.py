"""Publishes the same events in two ways: by our relay from an outbox, and one `js.publish` after the other.

The relay also reads its rows and notes where in the stream each of them is; the other only publishes.

python -m tests.load.programs.relay NATS_URL DATABASE_FILE
"""

import asyncio
import sys
import time

import sqlalchemy as sa

from services.chassis.events import outbox
from services.chassis.events.envelope import Envelope, envelope
from services.chassis.events.jetstream import JetStream
from services.chassis.events.outbox import Outbox
from services.chassis.events.relay import Relay
from services.chassis.storage.database import Store
from services.chassis.storage.session import Session
from services.kernel.clock import SystemClock
from tests.load.figures import OURS
from tests.load.programs import commands, steps
from tests.load.programs.commands import Json
from tests.load.programs.steps import Steps
from tests.load.programs.tables import metadata

ORDERS_UNDER_WAY = 128
LOOK_EVERY_S = 0.005
PUBLISH_MAX_S = 120.0


class Publishing:
    """Both ways."""

    def __init__(self, store: Store[Session], jetstream: JetStream) -> None:
        self._store = store
        self._jetstream = jetstream
        self._relay = Relay(store, jetstream, service="order", clock=SystemClock())

    async def relayed(self, envelopes: list[Envelope]) -> Json:
        began_with = time.process_time()
        await self._store.write(lambda session: _add(session, envelopes))
        prepared_s = time.process_time() - began_with
        begun = time.perf_counter()
        running = asyncio.create_task(self._relay.run())
        try:
            async with asyncio.timeout(PUBLISH_MAX_S):
                while await self._store.look(_oldest):  # noqa: ASYNC110 (we have to ask)
                    await asyncio.sleep(LOOK_EVERY_S)
            return {"elapsed_s": time.perf_counter() - begun, "cpu_s": prepared_s}
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def one_by_one(self, envelopes: list[Envelope]) -> Json:
        connection = await self._jetstream.connection()
        prepared = [(told.nats_subject, told.data, told.headers()) for told in envelopes]
        begun = time.perf_counter()
        for subject, body, headers in prepared:
            await connection.jetstream.publish(subject, body, headers=headers)
        return {"elapsed_s": time.perf_counter() - begun, "cpu_s": 0.0}


def _oldest(session: Session) -> list[outbox.Waiting]:
    """Cheaper to ask for than the lag, which counts."""
    return outbox.unpublished(session, 1)


def _add(session: Session, envelopes: list[Envelope]) -> None:
    box = Outbox(session)
    for told in envelopes:
        box.add(told)


def _envelopes(count: int) -> list[Envelope]:
    """Events as they come when this many orders are under way at a time."""
    under_way = [iter(Steps()) for _ in range(ORDERS_UNDER_WAY)]
    taken = (next(under_way[number % ORDERS_UNDER_WAY]) for number in range(count))
    return [
        envelope("order", step.order_id, steps.told(step), id=step.event_id, at=step.at) for step in taken
    ]


async def main(url: str, path: str) -> None:
    database = f"sqlite:///{path}"
    engine = sa.create_engine(database)
    metadata.create_all(engine)
    engine.dispose()
    async with (
        Store(
            database, open_transaction=lambda session: session, clock=SystemClock(), secret=b"bench"
        ) as store,
        JetStream.connect(url, name="bench") as jetstream,
    ):
        await jetstream.ensure_stream(await jetstream.connection(), "order")
        publishing = Publishing(store, jetstream)

        async def handle(command: Json) -> Json:
            publish = publishing.relayed if command["kind"] == OURS else publishing.one_by_one
            began_with = time.process_time()
            envelopes = _envelopes(command["messages"])
            made_s = time.process_time() - began_with
            answer = await publish(envelopes)
            return {**answer, "cpu_s": answer["cpu_s"] + made_s}

        await commands.obey(handle)


if __name__ == "__main__":
    commands.run(main(sys.argv[1], sys.argv[2]))
