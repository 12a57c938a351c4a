"""Sees orders through: asks `domain.next_step`, calls the participant, writes down what came of it.

The saga has no state of its own. A driver holds an order's lease while it works on it; between two attempts
the order is parked in the database with the time it is next due, so that waiting costs nothing and survives
anything. What waited is taken up again at a pace (`chassis/policy/pacing.py`), what somebody has just asked
for at once. Two drivers on one order are harmless: the expected version lets one append win, and the other
starts anew.
"""

import asyncio
import math
import random as system_random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.chassis import context, failpoints, telemetry, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.fault import PlayedFault
from services.chassis.feed import Feed
from services.chassis.identity.caller import Caller
from services.chassis.policy.backoff import Backoff
from services.chassis.policy.pacing import Ending, Pacer
from services.chassis.storage.database import Store
from services.chassis.tracing import names
from services.kernel import errors
from services.kernel.clock import Clock
from services.order import domain, facts
from services.order.domain import Order
from services.order.facts import Step
from services.order.participants import Answer, Done, Participants, Refused, Unknown
from services.order.store import Drive, Transaction

log = telemetry.logger(__name__)

ITSELF: Final = Caller(workload="order")

WORKERS: Final = 64  # orders driven at once; beyond that they wait their turn
QUEUE_MAX: Final = 1024  # orders handed over and not begun; what does not fit is found when its lease lapses
LEASE: Final = timedelta(seconds=30)  # longer than any one call may take
IDLE_S: Final = 1.0  # at most this long until an order that someone else made due is noticed
QUICK_S: Final = 0.25  # an outcome that took longer to get is written down at once
ATTEMPTS_MIN: Final = 3  # patience never ends before this many, however long the house was down
ATTENTION_ATTEMPTS: Final = 8  # attempts at what is seen through after which a person should look

BEFORE_APPEND: Final = failpoints.site("order.append.before")
AFTER_APPEND: Final = failpoints.site("order.append.after")
BEFORE_CALL: Final = {step: failpoints.site(f"order.{step.lower()}.before") for step in Step}
AFTER_CALL: Final = {step: failpoints.site(f"order.{step.lower()}.after") for step in Step}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step is tried before it is given up, and how the attempts are spaced."""

    step: timedelta
    backoff: Backoff


class Saga:
    """Drives the orders of one database."""

    def __init__(
        self,
        store: Store[Transaction],
        participants: Participants,
        *,
        clock: Clock,
        patience: Patience,
        driver: str,
        feed: Feed,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._store = store
        self._participants = participants
        self._clock = clock
        self._patience = patience
        self._driver = driver
        self._feed = feed
        self._random = random
        self._pacer = Pacer()
        self._queue: asyncio.Queue[tuple[Drive, Order | None]] = asyncio.Queue(QUEUE_MAX)
        self._due = asyncio.Event()
        self._driving: set[str] = set()

    async def run(self) -> None:
        """Drives orders until cancelled."""
        now = self._clock.now()
        await self._store.write(lambda tx: tx.drives.disown(self._driver, now=now))
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"saga-{number}")
            group.create_task(self._poll(), name="saga-poll")

    def accept(self, tx: Transaction, order: Order) -> Order:
        """Saves the order, leased to this driver. In the accepting transaction; `take` follows its commit."""
        now = order.create_time
        saved = tx.orders.save(order)
        tx.drives.begin(order.id, driver=self._driver, leased_until=now + LEASE, now=now)
        return saved

    def take(self, order: Order) -> None:
        """Begins to drive an order that was just accepted, without waiting for a poll."""
        self._pacer.came_anew(self._clock.monotonic())
        self._enqueue(Drive(order.id, traceparent=context.traceparent()), order)

    def wake(self) -> None:
        """An order was made due."""
        self._due.set()

    async def settled(self, order_id: str, *, timeout_s: float) -> None:
        """Waits until nothing is under way for the order, or the time is over."""
        with self._feed.watching(order_id) as watch, context.waiting(self._clock.monotonic):
            try:
                async with asyncio.timeout(timeout_s):
                    while not await self._store.read(lambda tx: tx.orders.is_settled(order_id)):
                        await watch.news(timeout_s=IDLE_S)  # another replica may be driving it
            except TimeoutError:
                return

    async def _poll(self) -> None:
        while True:
            self._due.clear()
            try:
                wait_s = await self._look()
            except errors.Unavailable as error:  # busy or away, which is no reason to stop those who drive
                log.warning("saga_poll_failed", reason=error.reason)
                wait_s = IDLE_S
            if wait_s > 0:
                await _wait(self._due, wait_s)

    async def _look(self) -> float:
        """Queues what is due and may go; how long until there may be more."""
        due = await self._store.read(lambda tx: tx.drives.next_due())
        asked_for_s, resumed_s = self._seconds_until(due.asked_for), self._seconds_until(due.resumed)
        if resumed_s > 0:
            self._pacer.nothing_waits()
        else:
            resumed_s = self._pacer.ready_in_s(self._clock.monotonic())
        wait_s = min(asked_for_s, resumed_s)
        if wait_s <= 0 and await self._claim():
            return 0.0
        return min(max(wait_s, 0.01), IDLE_S)

    def _seconds_until(self, due: datetime | None) -> float:
        return math.inf if due is None else (due - self._clock.now()).total_seconds()

    async def _claim(self) -> int:
        """Queues what is due and may go; how many those are."""
        room = min(self._queue.maxsize - self._queue.qsize(), WORKERS)
        if not room:
            return 0
        now = self._clock.now()
        leased_until = now + LEASE
        resumed_max = min(self._pacer.room(self._clock.monotonic()), room)
        try:
            drives = await self._store.write(
                lambda tx: tx.drives.claim(
                    driver=self._driver,
                    leased_until=leased_until,
                    now=now,
                    asked_for_max=room,
                    resumed_max=resumed_max,
                )
            )
        except errors.Stale:  # other replicas were faster, and have them
            return 0
        self._pacer.let_go(sum(drive.is_resumed for drive in drives))
        for drive in drives:
            self._enqueue(drive, None)
        return len(drives)

    def _enqueue(self, drive: Drive, order: Order | None) -> None:
        try:
            self._queue.put_nowait((drive, order))
        except asyncio.QueueFull:
            log.warning("saga_queue_full", order_id=drive.order_id)
            self._ended(drive, Ending.UNSENT)

    async def _work(self) -> None:
        while True:
            drive, order = await self._queue.get()
            if drive.order_id in self._driving:
                # Whoever drives it here already learns at its next append that the order moved.
                self._ended(drive, Ending.UNSENT)
                continue
            self._driving.add(drive.order_id)
            ending = Ending.FAILED
            try:
                ending = await self._work_on(drive, order)
            finally:
                self._driving.discard(drive.order_id)
                self._ended(drive, ending)

    def _ended(self, drive: Drive, ending: Ending) -> None:
        if drive.is_resumed:
            self._pacer.ended(ending)
            self.wake()  # another may go

    async def _work_on(self, drive: Drive, order: Order | None) -> Ending:
        request = RequestContext(
            # The order's own place, not one below it: a span of the drive would be lost with its driver.
            trace=TraceContext.parse(drive.traceparent) or TraceContext.fresh(),
            caller=ITSELF,
            labels={"order_id": drive.order_id},
        )
        with context.working_on(request):
            try:
                return await self._drive(drive, order, request)
            except Exception:  # the order stays leased and is tried again when the lease lapses
                log.exception("saga_drive_failed")
                return Ending.FAILED

    async def _drive(self, drive: Drive, order: Order | None, request: RequestContext) -> Ending:
        while True:
            try:
                order = order or await self._load(drive.order_id)
                request.caller = replace(ITSELF, on_behalf_of=f"user:{order.user_id}")
                return await self._advance(drive, order)
            except errors.Stale:
                order, drive = None, replace(drive, attempts=0, step_since=None)

    async def _load(self, order_id: str) -> Order:
        return await self._store.read(lambda tx: tx.orders.get(order_id))

    async def _advance(self, drive: Drive, order: Order) -> Ending:
        """Takes steps until the order is settled or has to wait. Raises Stale if someone else moved it."""
        while step := domain.next_step(order):
            if step is Step.CAPTURE_PAYMENT and order.pending_events:
                # The point of no return: a cancel that came first is seen here.
                order = await self._append(order)
            began = self._clock.monotonic()
            answer = await self._ask(order, step, drive.attempts + 1)
            slow = self._clock.monotonic() - began > QUICK_S
            now = self._clock.now()
            match answer:
                case Done(reference):
                    order = order.apply(facts.StepDone(step, drive.attempts + 1, reference), at=now)
                case Refused(reason):
                    order = order.apply(facts.StepRefused(step, drive.attempts + 1, reason), at=now)
                case Unknown(outcome) if self._is_out_of_patience(drive, order):
                    order = order.apply(facts.StepGivenUp(step, drive.attempts + 1, outcome), at=now)
                case Unknown(outcome):
                    await self._park(drive, order, step, outcome)
                    return Ending.FAILED if answer.was_sent else Ending.UNSENT
            drive = replace(drive, attempts=0, step_since=None)
            if slow or not isinstance(answer, Done):
                order = await self._append(order)
        await self._append(order)
        return Ending.THROUGH

    async def _ask(self, order: Order, step: Step, attempt: int) -> Answer:
        with tracing.working(f"saga {step}", {names.ORDER: order.id, names.ATTEMPT: attempt}) as span:
            try:
                await failpoints.areach(BEFORE_CALL[step])
                answer = await self._participants.ask(order, step)
                await failpoints.areach(AFTER_CALL[step])
            except PlayedFault as fault:
                answer = Unknown(fault.code.name)
            span[names.OUTCOME] = type(answer).__name__.lower()
        return answer

    def _is_out_of_patience(self, drive: Drive, order: Order) -> bool:
        if not order.can_be_given_up or drive.step_since is None or drive.attempts + 1 < ATTEMPTS_MIN:
            return False
        return self._clock.now() - drive.step_since >= self._patience.step

    async def _append(self, order: Order) -> Order:
        """Writes down what happened since the last append; a settled order needs no driver any more."""
        leased_until = self._clock.now() + LEASE

        def append(tx: Transaction) -> Order:
            if not order.pending_events:
                tx.orders.expect(order)  # what was asked for meanwhile must not lose its drive to our `end`
            saved = tx.orders.save(order)
            if saved.is_settled:
                tx.drives.end(saved.id)
            else:
                tx.drives.progressed(saved.id, driver=self._driver, leased_until=leased_until)
            return saved

        await failpoints.areach(BEFORE_APPEND)
        saved = await self._store.write(append)
        await failpoints.areach(AFTER_APPEND)
        if saved.is_settled and order.pending_events:
            log.info("order_settled", state=saved.state, reason=saved.rejection_reason)
        return saved

    async def _park(self, drive: Drive, order: Order, step: Step, outcome: str) -> None:
        """The step did not answer: try it again later, with the same request id."""
        attempts = drive.attempts + 1
        now = self._clock.now()
        wait_s = self._patience.backoff.delay_s(attempts, self._random)
        parked = replace(drive, attempts=attempts, step_since=drive.step_since or now)
        log.warning("saga_step_unknown", step=step, outcome=outcome, attempts=attempts, retry_in_s=wait_s)
        if not order.can_be_given_up and attempts >= ATTENTION_ATTEMPTS:
            order = order.raise_attention(step, attempts, at=now)

        def park(tx: Transaction) -> None:
            tx.orders.expect(order)  # a cancel that came meanwhile is due at once, not after this backoff
            tx.orders.save(order)
            tx.drives.park(parked, due=now + timedelta(seconds=wait_s))

        await self._store.write(park)
        self.wake()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
