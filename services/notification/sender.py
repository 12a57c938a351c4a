"""The sender: takes pending messages to their channel until they are sent or parked.

A user's messages leave one after the other, in the order they were written; different users' side by side. A
try that fails is repeated after a growing wait, during which only that user's later messages wait too. While
nothing gets through at all, everything waits, however long: `outage.py`.

The send and the note that it happened cannot be one commit. The note follows the send; if the process dies in
between, the message is sent again, under the same id. One process at a time may run a sender on a database:
of several replicas the one that leads, see `Store.alone`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from services.chassis import context, failpoints, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.policy.backoff import Backoff
from services.chassis.storage.database import Store
from services.chassis.telemetry import logger
from services.chassis.tracing import Value, names
from services.kernel.clock import Clock
from services.kernel.errors import Stale, Unavailable
from services.notification.channels import Away, ChannelPort, NotSent, Undeliverable
from services.notification.domain import Channel, Notification, State
from services.notification.outage import Outage
from services.notification.store import Transaction

SENDS_MAX: Final = 32
"""Under way at once: as many as a mail server may like to be asked at a time."""

SEND_TIMEOUT_S: Final = 60.0
"""The last resort: channels have bounds of their own, below this one."""

LEAVE_S: Final = 3.0  # what sends under way are given to end when the service stops; then they are cut off
LOOK_EVERY_S: Final = 30.0  # commits wake the sender; this is for what was written by hand
LOOK_OFTEN_S: Final = 0.5  # the same where another replica may have the consumer

BACKOFF: Final = Backoff(first_s=2.0, max_s=900.0)
"""A quarter of an hour at most: what a greylist asks for."""

NOTE_BACKOFF: Final = Backoff(first_s=0.05, max_s=2.0)

NO_CHANNEL: Final = "NO_CHANNEL"

BEFORE_SEND: Final = failpoints.site("notification.send.before")
AFTER_SEND: Final = failpoints.site("notification.send.after")

_log = logger(__name__)


class Sender:
    """Sends for as long as `run` runs."""

    def __init__(
        self,
        store: Store[Transaction],
        channels: Mapping[Channel, ChannelPort],
        *,
        clock: Clock,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._channels = channels
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._outage = Outage(monotonic=clock.monotonic, random=random)
        self._sending: set[str] = set()
        self._wake = asyncio.Event()
        store.on_commit(self._wake.set)

    async def gets_through(self) -> bool:
        """Whether messages leave, as far as is known; for health checks."""
        return not self._outage.is_on

    async def run(self) -> None:
        """Never returns. Neither a channel that fails nor a database that is busy ends it."""
        sends: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._wake.clear()
                try:
                    await self._begin_due(sends)
                    rest_s = await self._rest_s()
                except Unavailable as error:
                    _log.warning("sender waits for the database", error=error.reason)
                    rest_s = NOTE_BACKOFF.max_s
                await self._rest(rest_s)
        finally:
            await self._leave(sends)

    async def _begin_due(self, sends: set[asyncio.Task[None]]) -> None:
        """Begins what is due. Raises what only a bug can have made a send raise."""
        for task in [task for task in sends if task.done()]:
            sends.remove(task)
            task.result()
        now = self._clock.now()
        # From before the read: what ends during it is still due in its answer.
        busy = frozenset(self._sending)
        # Those being sent are due as well; of twice as many as may be, enough are not.
        due = await self._store.read(lambda tx: tx.notifications.due(now=now, limit=2 * SENDS_MAX))
        for notification in due:
            user_id = notification.message.user_id
            if user_id not in busy and len(self._sending) < self._outage.sends_max(SENDS_MAX):
                self._sending.add(user_id)
                sends.add(asyncio.create_task(self._deliver(notification)))

    async def _rest_s(self) -> float:
        """Seconds until a wait is over."""
        if rest_s := self._outage.rest_s():
            return rest_s
        now = self._clock.now()
        next_due = await self._store.read(lambda tx: tx.notifications.next_due(now=now))
        look_s = LOOK_EVERY_S if self._store.one_writer else LOOK_OFTEN_S
        return look_s if next_due is None else min(look_s, (next_due - now).total_seconds())

    async def _rest(self, rest_s: float) -> None:
        """Until something was written or sent, or the time is over."""
        try:
            async with asyncio.timeout(rest_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _leave(self, sends: set[asyncio.Task[None]]) -> None:
        """A send that ended and was not noted would be repeated by the next process."""
        if sends:
            _, late = await asyncio.wait(sends, timeout=LEAVE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*sends, return_exceptions=True)
        self._sending.clear()

    async def _deliver(self, notification: Notification) -> None:
        labels = {"notification_id": notification.id}
        trace = TraceContext.parse(notification.traceparent) or TraceContext.fresh()
        try:
            with context.working_on(RequestContext(trace=trace, labels=labels)):
                stands = await self._traced(notification)
                if stands is not notification:
                    await self._note(stands)
        finally:
            self._sending.discard(notification.message.user_id)
            self._wake.set()

    async def _traced(self, notification: Notification) -> Notification:
        told: dict[str, Value] = {names.NOTIFICATION: notification.id, names.ATTEMPT: notification.tries + 1}
        with tracing.working(f"send {notification.channel}", told) as span:
            stands = await self._try(notification)
            span[names.OUTCOME] = str(stands.state)
        return stands

    async def _try(self, notification: Notification) -> Notification:
        """Once; the message as it stands after that."""
        try:
            await failpoints.areach(BEFORE_SEND)
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._hand_over(notification)
            await failpoints.areach(AFTER_SEND)
        except Away as away:
            if self._outage.failed():
                _log.warning("nothing gets through", problem=away.problem)
            return notification
        except Exception as error:  # noqa: BLE001 (whatever a channel raises, the message was not sent)
            self._outage.over()
            return self._not_sent(notification, error)
        self._outage.over()
        return notification.sent(at=self._clock.now())

    async def _hand_over(self, notification: Notification) -> None:
        channel = self._channels.get(notification.channel)
        if channel is None:  # written down before the settings changed; they may change back
            raise NotSent(NO_CHANNEL)
        await channel.send(notification)

    def _not_sent(self, notification: Notification, error: Exception) -> Notification:
        # Never the error's own words: they may quote an address.
        problem = error.problem if isinstance(error, NotSent) else type(error).__name__
        if isinstance(error, Undeliverable):
            stands = notification.given_up(problem)
        else:
            wait = timedelta(seconds=BACKOFF.delay_s(notification.tries + 1, self._random))
            stands = notification.failed(problem, at=self._clock.now(), retry_in=wait)
        say = _log.error if stands.state is State.PARKED else _log.warning
        say("message not sent", state=str(stands.state), tries=stands.tries, problem=problem)
        return stands

    async def _note(self, tried: Notification) -> None:
        """Writes down how it went, however long the database says "not now": else it would be sent again."""
        failures = 0
        while True:
            try:
                await self._store.write(lambda tx: tx.notifications.change(tried))
            except (Unavailable, Stale) as error:
                failures += 1
                _log.warning("outcome of a send not noted yet", error=error.reason)
                await self._sleep(NOTE_BACKOFF.delay_s(failures, self._random))
            else:
                return
