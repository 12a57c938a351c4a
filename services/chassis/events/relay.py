"""The relay: from the outbox into the stream, in order per aggregate, until the stream has it.

At most one event per aggregate is under way; the window runs across aggregates. Every event goes out under
its id as `Nats-Msg-Id`, so that publishing it again does nothing, and its row keeps the sequence that the
stream gave it. That note is in no hurry and shares the next commit; a relay that dies before it publishes the
event again. On each new connection the two books are compared: what the broker has forgotten since (JetStream
may acknowledge before fsync, disks die, folders are deleted) is published again, in order.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from nats.js.errors import NotFoundError

from services.chassis import failpoints
from services.chassis.events import outbox
from services.chassis.events.connection import BROKER_ERRORS, Ack, Connection
from services.chassis.events.envelope import MESSAGE_ID
from services.chassis.events.jetstream import JetStream, Stream
from services.chassis.events.outbox import Lag, Published, Waiting
from services.chassis.events.spans import Publishing
from services.chassis.fault import PlayedFault
from services.chassis.policy.backoff import Backoff
from services.chassis.storage.database import Store
from services.chassis.storage.leadership import Lead
from services.chassis.telemetry import logger
from services.kernel.clock import Clock
from services.kernel.errors import Unavailable

WINDOW: Final = 50
"""Events published in one go. Beyond fifty nothing gets faster, only later to fail."""

WINDOWS: Final = 2
"""Under way at once, so that the broker writes one down while we prepare the next."""

ROWS_MAX: Final = 400
"""Rows read in one go: enough to fill windows although many belong to the same aggregates."""

LOOK_EVERY_S: Final = 5.0
"""Commits wake the relay; this is for rows written by another process."""

LOOK_OFTEN_S: Final = 0.25
"""The same where replicas of the service write all the time, and one relay publishes for all."""

LINGER_S: Final = 0.01
"""From a commit to the look for what it has written: a busy service commits hundreds of times a second, and
one look and one window for several commits cost half as much, here and at the broker."""

BACKOFF: Final = Backoff(first_s=0.05, max_s=2.0)

BEFORE_PUBLISH: Final = failpoints.site("outbox.publish.before")
BEFORE_MARK: Final = failpoints.site("outbox.mark.before")

_log = logger(__name__)


class PublishFailed(Exception):
    """Some events could not be published; the text names the first reason."""


class Relay:
    """Publishes one service's outbox for as long as `run` runs."""

    def __init__(
        self,
        store: Store[Any],
        jetstream: JetStream,
        *,
        service: str,
        clock: Clock,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._jetstream = jetstream
        self._service = service
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._failures = 0  # in a row
        self._unnoted: list[Published] = []
        self._noting: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        store.on_commit(self._wake.set)

    async def run(self) -> None:
        """Never returns. Neither a broker that is away nor a database that is busy ends it."""
        while True:
            connection = await self._jetstream.connection()
            try:
                async with self._store.leading("relay") as lead:
                    # Now, and not before the wait: whoever led until now has gone on publishing.
                    stream = await self._jetstream.ensure_stream(connection, self._service)
                    await self._compare(connection, stream)
                    await self._publish_on(connection, stream, lead)
            except (*BROKER_ERRORS, PublishFailed, Unavailable, PlayedFault) as error:
                self._failures += 1
                _log.warning("events wait in the outbox", error=repr(error), failures=self._failures)
                await self._sleep(BACKOFF.delay_s(self._failures, self._random))

    async def lag(self) -> Lag:
        """How many events wait, and how long the oldest has waited; for metrics and readiness."""
        return await self._store.look(lambda session: outbox.lag(session, self._clock.now()))

    async def _publish_on(self, connection: Connection, stream: Stream, lead: Lead) -> None:
        connection.on_broken(self._wake.set)
        read_to = 0
        try:
            while not connection.is_broken:
                self._wake.clear()
                await lead.confirm()
                rows = await self._store.look(partial(outbox.unpublished, rows_max=ROWS_MAX, after=read_to))
                if rows:
                    await self._publish(connection, stream, rows)
                    read_to = rows[-1].seq
                    if not self._store.one_writer:
                        # A lower number may be committed yet. What is noted is not read again.
                        await self._noted()
                        read_to = 0
                elif await self._woken():
                    await asyncio.sleep(LINGER_S)
                else:
                    await self._noted()
                    read_to = 0
        finally:
            await self._noted()

    async def _woken(self) -> bool:
        """Whether there was a commit, before it was time to look all the same."""
        try:
            async with asyncio.timeout(LOOK_EVERY_S if self._store.one_writer else LOOK_OFTEN_S):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _publish(self, connection: Connection, stream: Stream, rows: list[Waiting]) -> None:
        """Publishes what it can and has it noted; raises PublishFailed if that was not all."""
        lanes = _lanes(rows)
        parts = [dict(islice(lanes.items(), start, None, WINDOWS)) for start in range(WINDOWS)]
        results = await asyncio.gather(*(self._publish_lanes(connection, stream, part) for part in parts))
        if failed := [error for errors in results for error in errors]:
            raise PublishFailed(f"{len(failed)} of {len(rows)}, {failed[0]!r}")
        self._failures = 0

    async def _publish_lanes(
        self, connection: Connection, stream: Stream, lanes: dict[str, deque[Waiting]]
    ) -> list[Exception]:
        """Window after window until all is published or something fails; what failed."""
        while lanes:
            window = [lane[0] for lane in islice(lanes.values(), WINDOW)]
            await failpoints.areach(BEFORE_PUBLISH)
            publishing = Publishing(window)
            results = await connection.publish_window(publishing.messages)
            publishing.ended(window, results)
            for row, result in zip(window, results, strict=True):
                if isinstance(result, Ack):
                    self._unnoted.append(Published(row.seq, result.stream_seq))
                    _take(lanes, row)
            self._note(stream)
            if failed := [result for result in results if not isinstance(result, Ack)]:
                return failed
        return []

    def _note(self, stream: Stream) -> None:
        """Begins to note what was published; what is published meanwhile goes into the next note."""
        if self._unnoted and (self._noting is None or self._noting.done()):
            self._noting = asyncio.create_task(self._note_all(stream.epoch))

    async def _note_all(self, epoch: str) -> None:
        while published := self._unnoted:
            self._unnoted = []
            try:
                await failpoints.areach(BEFORE_MARK)
                await self._store.transact(
                    partial(outbox.mark_published, rows=published, epoch=epoch, at=self._clock.now()),
                    patient=True,
                )
            except (Unavailable, PlayedFault) as error:  # they are found, and published, again
                _log.warning("published events not noted", error=repr(error), events=len(published))

    async def _noted(self) -> None:
        """Returns when all that was published is noted."""
        if self._noting is not None:
            await asyncio.wait({self._noting})
            self._noting.result()

    async def _compare(self, connection: Connection, stream: Stream) -> None:
        """Finds out what the stream has forgotten of what it acknowledged, and unpublishes that."""
        forgotten = await self._store.transact(
            lambda session: outbox.forget_other_epochs(session, stream.epoch)
        )
        first = await self._first_forgotten(connection, stream)
        if first is not None:
            forgotten += await self._store.transact(lambda session: outbox.forget_from(session, first))
        if forgotten:
            _log.error("the broker has forgotten events, publishing them again", events=forgotten)

    async def _first_forgotten(self, connection: Connection, stream: Stream) -> int | None:
        """The lowest stream sequence of ours that the stream no longer has.

        What is forgotten is the end of the stream, perhaps overwritten by newer events: gallop back from
        the newest row to one that is still there, then halve.
        """
        kept = await self._store.look(outbox.count_published)
        oldest_forgotten, newest_remembered = -1, 0  # ranks, 0 being the newest row
        while newest_remembered < kept and not await self._remembers(connection, stream, newest_remembered):
            oldest_forgotten, newest_remembered = newest_remembered, 2 * newest_remembered + 1
        newest_remembered = min(newest_remembered, kept)
        while newest_remembered - oldest_forgotten > 1:
            middle = (newest_remembered + oldest_forgotten) // 2
            if await self._remembers(connection, stream, middle):
                newest_remembered = middle
            else:
                oldest_forgotten = middle
        if oldest_forgotten < 0:
            return None
        return (await self._store.look(lambda session: outbox.nth_newest(session, oldest_forgotten)))[1]

    async def _remembers(self, connection: Connection, stream: Stream, rank: int) -> bool:
        event_id, seq = await self._store.look(lambda session: outbox.nth_newest(session, rank))
        if seq < stream.first_seq:
            return True  # it was there, and has grown old
        if seq > stream.last_seq:
            return False
        try:
            message = await connection.ask(connection.jetstream.get_msg(stream.name, seq))
        except NotFoundError:
            return True  # deleted by someone, from among others that are there
        return (message.headers or {}).get(MESSAGE_ID) == event_id


def _lanes(rows: list[Waiting]) -> dict[str, deque[Waiting]]:
    lanes: dict[str, deque[Waiting]] = {}
    for row in rows:
        lanes.setdefault(row.aggregate_id, deque()).append(row)
    return lanes


def _take(lanes: dict[str, deque[Waiting]], row: Waiting) -> None:
    lane = lanes[row.aggregate_id]
    lane.popleft()
    if not lane:
        del lanes[row.aggregate_id]
