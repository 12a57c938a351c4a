"""The saga on a real database: whatever participants answer, the order ends and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.chassis import context, failpoints
from services.chassis.context import RequestContext, TraceContext
from services.chassis.feed import Feed
from services.chassis.policy.backoff import Backoff
from services.chassis.policy.pacing import Limits, Pacer
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StorageBusy
from services.chassis.storage.session import Session
from services.kernel.clock import SystemClock
from services.order import domain, facts
from services.order import saga as saga_module
from services.order.domain import FORWARD, State
from services.order.facts import Capture, Step, StepGivenUp, StepRefused
from services.order.participants import Answer, Done, Participants, Refused, Unknown
from services.order.saga import ATTENTION_ATTEMPTS, Patience, Saga
from services.order.store import Due, Transaction
from tests.databases import connected
from tests.order.conftest import ScriptedParticipants, placed

ID = "0190dddd-0000-7000-8000-000000000001"
AT_ONCE = Patience(timedelta(0), Backoff(0.001, 0.002))
PATIENT = Patience(timedelta(hours=1), Backoff(0.001, 0.002))
ONE_ONLY = Limits(share=0.0, least_per_s=1e-6)  # of what waited; the next one in eleven days
NOWHERE: Any = None  # nothing is asked of it
UNAVAILABLE = Unknown("UNAVAILABLE")


def saga_of(
    store: Store[Transaction],
    participants: ScriptedParticipants,
    patience: Patience = PATIENT,
    driver: str = "a",
) -> Saga:
    asks: Participants = participants  # type: ignore[assignment]  # the same one method
    return Saga(store, asks, clock=SystemClock(), patience=patience, driver=driver, feed=feed_of(store))


def feed_of(store: Store[Transaction]) -> Feed:
    return store.transaction(Session(NOWHERE, store._database)).orders._feed


@asynccontextmanager
async def running(saga: Saga) -> AsyncIterator[None]:
    task = asyncio.create_task(saga.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def accept(
    store: Store[Transaction], saga: Saga, capture: Capture = Capture.CONFIRM, order_id: str = ID
) -> domain.Order:
    order = domain.place(order_id, placed(capture), at=datetime.now(UTC))
    return await store.write(lambda tx: saga.accept(tx, order))


async def ended(store: Store[Transaction], saga: Saga) -> domain.Order:
    await saga.settled(ID, timeout_s=20)
    order = await store.read(lambda tx: tx.orders.get(ID))
    assert order.is_settled
    assert await store.read(lambda tx: tx.drives.next_due()) == Due(None, None)
    return order


async def driven(
    store: Store[Transaction], participants: ScriptedParticipants, patience: Patience = PATIENT
) -> domain.Order:
    saga = saga_of(store, participants, patience)
    async with running(saga):
        saga.take(await accept(store, saga))
        return await ended(store, saga)


async def test_an_order_that_nothing_stops_is_confirmed(store: Store[Transaction]) -> None:
    participants = ScriptedParticipants()
    order = await driven(store, participants)
    assert order.state is State.CONFIRMED
    assert participants.steps == list(FORWARD)


async def test_quick_steps_share_commits_and_everything_is_written_before_the_money_moves(
    store: Store[Transaction], database_url: str
) -> None:
    seen: dict[Step, int] = {}

    def look(step: Step) -> None:
        seen[step] = books.execute("SELECT max(version) FROM order_events").fetchone()[0]

    with closing(connected(database_url)) as books:
        await driven(store, ScriptedParticipants(before=look))
    assert seen[Step.CAPTURE_PAYMENT] == 4
    assert seen[Step.COMMIT_STOCK] == 1


@pytest.mark.parametrize(
    ("refused", "reason", "undo"),
    [
        (Step.RESERVE_STOCK, "OUT_OF_STOCK", []),
        (Step.AUTHORIZE_PAYMENT, "PAYMENT_DECLINED", [Step.RELEASE_STOCK]),
        (Step.COMMIT_STOCK, "OUT_OF_STOCK", [Step.VOID_PAYMENT, Step.RELEASE_STOCK]),
        (Step.CAPTURE_PAYMENT, "CAPTURE_REFUSED", [Step.VOID_PAYMENT, Step.RELEASE_STOCK]),
    ],
)
async def test_a_refused_step_is_compensated_in_reverse(
    store: Store[Transaction], refused: Step, reason: str, undo: list[Step]
) -> None:
    participants = ScriptedParticipants({refused: [Refused(reason)]})
    order = await driven(store, participants)
    assert (order.state, order.rejection_reason) == (State.REJECTED, reason)
    assert participants.steps == [*FORWARD[: FORWARD.index(refused) + 1], *undo]


@pytest.mark.parametrize("step", FORWARD)
async def test_an_unknown_outcome_is_asked_again_under_the_same_request_id(
    store: Store[Transaction], step: Step
) -> None:
    participants = ScriptedParticipants({step: [UNAVAILABLE, Unknown("INTERNAL"), Done("ref")]})
    order = await driven(store, participants)
    assert order.state is State.CONFIRMED
    assert len({request_id for asked, request_id in participants.asked if asked is step}) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fault_played_at_a_step_is_an_unknown_outcome(
    store: Store[Transaction], when: str, quiet_failpoints: None
) -> None:
    failpoints.configure(f"order.authorize_payment.{when}=error(DEADLINE_EXCEEDED)*2", production=False)
    order = await driven(store, participants := ScriptedParticipants())
    assert order.state is State.CONFIRMED
    assert participants.steps.count(Step.AUTHORIZE_PAYMENT) == (3 if when == "after" else 1)


@pytest.mark.parametrize("step", FORWARD)
async def test_when_patience_ends_both_are_undone_payment_first(
    store: Store[Transaction], step: Step
) -> None:
    participants = ScriptedParticipants({step: [UNAVAILABLE] * 100})
    order = await driven(store, participants, AT_ONCE)
    assert (order.state, order.rejection_reason) == (State.REJECTED, domain.TIMED_OUT)
    assert participants.steps[-2:] == [Step.VOID_PAYMENT, Step.RELEASE_STOCK]
    events = await store.read(lambda tx: tx.orders.history(ID))
    (given_up,) = [event.fact for event in events if isinstance(event.fact, StepGivenUp)]
    assert (given_up.step, given_up.last_outcome) == (step, "UNAVAILABLE")
    assert given_up.attempts >= 3


async def test_undoing_is_retried_past_all_patience_and_asks_for_attention(
    store: Store[Transaction],
) -> None:
    participants = ScriptedParticipants(
        {
            Step.COMMIT_STOCK: [Refused("OUT_OF_STOCK")],
            Step.VOID_PAYMENT: [UNAVAILABLE] * (ATTENTION_ATTEMPTS + 3),
        }
    )
    order = await driven(store, participants, AT_ONCE)
    assert order.state is State.REJECTED
    history = [event.fact for event in await store.read(lambda tx: tx.orders.history(ID))]
    attention = [fact for fact in history if isinstance(fact, facts.NeedsAttention)]
    assert attention == [facts.NeedsAttention(Step.VOID_PAYMENT, ATTENTION_ATTEMPTS)]
    done = next(f for f in history if isinstance(f, facts.StepDone) and f.step is Step.VOID_PAYMENT)
    assert done.attempts == ATTENTION_ATTEMPTS + 4


@pytest.mark.parametrize("step", FORWARD)
async def test_a_cancel_that_comes_during_a_step_turns_the_order(
    store: Store[Transaction], step: Step
) -> None:
    participants = ScriptedParticipants()
    saga = saga_of(store, participants)
    cancelled: list[Awaitable[None]] = []

    async def cancel() -> None:
        def move(tx: Transaction) -> None:
            tx.orders.save(tx.orders.get(ID).cancel(reason="buyer", at=datetime.now(UTC)))
            tx.drives.wake(ID, now=datetime.now(UTC))

        await store.write(move)
        saga.wake()

    original = participants.ask

    async def ask(order: domain.Order, asked: Step) -> object:
        answer = await original(order, asked)
        if asked is step and not cancelled:
            cancelled.append(asyncio.ensure_future(cancel()))
            await cancelled[0]
        return answer

    participants.ask = ask  # type: ignore[method-assign,assignment]
    async with running(saga):
        saga.take(await accept(store, saga))
        order = await ended(store, saga)
    assert order.state is State.CANCELLED
    undo = participants.steps[participants.steps.index(step) + 1 :]
    assert undo[-2:] == [Step.VOID_PAYMENT, Step.RELEASE_STOCK]
    if step is not Step.CAPTURE_PAYMENT:
        assert Step.CAPTURE_PAYMENT not in participants.steps


@pytest.mark.parametrize("step", FORWARD)
async def test_a_saga_killed_at_any_step_is_taken_up_by_the_next_life(
    store: Store[Transaction], step: Step
) -> None:
    reached = asyncio.Event()

    class Hangs(ScriptedParticipants):
        async def ask(self, order: domain.Order, asked: Step) -> Done:
            await super().ask(order, asked)
            if asked is step:
                reached.set()
                await asyncio.Event().wait()
            return Done(f"ref-{asked}")

    first = Hangs()
    saga = saga_of(store, first)
    async with running(saga):
        saga.take(await accept(store, saga))
        await asyncio.wait_for(reached.wait(), 10)

    second = ScriptedParticipants()
    saga = saga_of(store, second)
    async with running(saga):
        order = await ended(store, saga)
    assert order.state is State.CONFIRMED
    # Whatever was asked before is asked again under the same request ids.
    asked_before = dict(first.asked)
    assert all(asked_before.get(asked, request_id) == request_id for asked, request_id in second.asked)


async def test_two_drivers_on_one_order_are_harmless(store: Store[Transaction]) -> None:
    participants = ScriptedParticipants()
    one, other = saga_of(store, participants), saga_of(store, participants, driver="b")
    async with running(one), running(other):
        order = await accept(store, one)
        one.take(order)
        other.take(order)
        ending = await ended(store, one)
    assert ending.state is State.CONFIRMED
    confirmed = [e for e in await store.read(lambda tx: tx.orders.history(ID)) if e.fact == facts.Confirmed()]
    assert len(confirmed) == 1


async def test_waiting_for_an_order_ends_with_the_time_given(store: Store[Transaction]) -> None:
    saga = saga_of(store, ScriptedParticipants())
    await accept(store, saga)  # nobody drives it
    with context.working_on(RequestContext(TraceContext.fresh())) as request:
        await saga.settled(ID, timeout_s=0.01)
    assert not (await store.read(lambda tx: tx.orders.is_settled(ID)))
    assert request.waited_s >= 0.01, "which is not held against this server"
    assert feed_of(store).watchers == 0


async def test_the_refusal_of_a_step_stands_in_the_history(store: Store[Transaction]) -> None:
    await driven(store, ScriptedParticipants({Step.RESERVE_STOCK: [UNAVAILABLE, Refused("OUT_OF_STOCK")]}))
    history = [event.fact for event in await store.read(lambda tx: tx.orders.history(ID))]
    assert history[1:] == [StepRefused(Step.RESERVE_STOCK, 2, "OUT_OF_STOCK"), facts.Rejected()]


async def test_a_cancel_during_a_call_that_ends_unknown_is_driven_at_once(store: Store[Transaction]) -> None:
    slow = Patience(timedelta(hours=1), Backoff(3600, 3600))
    participants = ScriptedParticipants({Step.RESERVE_STOCK: [UNAVAILABLE]})
    saga = saga_of(store, participants, slow)
    original = participants.ask

    async def ask(order: domain.Order, step: Step) -> object:
        answer = await original(order, step)
        if step is Step.RESERVE_STOCK:

            def cancel(tx: Transaction) -> None:
                tx.orders.save(tx.orders.get(ID).cancel(reason="buyer", at=datetime.now(UTC)))
                tx.drives.wake(ID, now=datetime.now(UTC))

            await store.write(cancel)
        return answer

    participants.ask = ask  # type: ignore[method-assign,assignment]
    async with running(saga):
        saga.take(await accept(store, saga))
        assert (await ended(store, saga)).state is State.CANCELLED


# What waited


async def test_what_lost_its_driver_goes_at_a_pace_and_who_asks_now_does_not_wait_behind_it(
    store: Store[Transaction],
) -> None:
    left = [f"{ID[:-1]}{number}" for number in range(2, 7)]
    former, saga = (saga_of(store, ScriptedParticipants()) for _ in range(2))
    for order_id in left:
        await accept(store, former, order_id=order_id)

    async def settled() -> list[str]:
        return await store.read(lambda tx: [order_id for order_id in left if tx.orders.is_settled(order_id)])

    saga._pacer = Pacer(ONE_ONLY)
    async with running(saga):
        await saga.settled(left[0], timeout_s=20)
        saga.take(await accept(store, saga))
        await saga.settled(ID, timeout_s=20)
        await move(store, saga, lambda order: order.cancel(reason="buyer", at=datetime.now(UTC)), left[-1])
        await saga.settled(left[-1], timeout_s=20)
        assert await settled() == [left[0], left[-1]]
        saga._pacer = Pacer()
        saga.wake()
        for order_id in left:
            await saga.settled(order_id, timeout_s=20)
        assert await settled() == left


async def test_an_attempt_that_was_never_made_takes_nobodys_turn(store: Store[Transaction]) -> None:
    unsent = Unknown("CIRCUIT_OPEN", was_sent=False)
    saga = saga_of(store, ScriptedParticipants({Step.RESERVE_STOCK: [unsent] * 5}))
    saga._pacer = Pacer(ONE_ONLY)
    async with running(saga):
        saga.take(await accept(store, saga))
        assert (await ended(store, saga)).state is State.CONFIRMED


async def test_a_database_that_is_busy_stops_nobody_who_drives(
    store: Store[Transaction], monkeypatch: pytest.MonkeyPatch
) -> None:
    called, looked, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(ScriptedParticipants):
        async def ask(self, order: domain.Order, step: Step) -> Answer:
            called.set()
            await answered.wait()
            return await super().ask(order, step)

    async def busy() -> float:
        looked.set()
        raise StorageBusy

    saga = saga_of(store, participants := Slow())
    async with running(saga):
        saga.take(await accept(store, saga))
        await asyncio.wait_for(called.wait(), 10)
        with monkeypatch.context() as during:
            during.setattr(saga, "_look", busy)
            saga.wake()
            await asyncio.wait_for(looked.wait(), 10)
        answered.set()
        assert (await ended(store, saga)).state is State.CONFIRMED
    assert participants.steps == list(FORWARD)


# Paid when it is shipped


async def confirmed(store: Store[Transaction], saga: Saga) -> None:
    saga.take(await accept(store, saga, Capture.SHIPMENT))
    assert (await ended(store, saga)).state is State.CONFIRMED


async def move(
    store: Store[Transaction],
    saga: Saga,
    change: Callable[[domain.Order], domain.Order],
    order_id: str = ID,
) -> None:
    """As a servicer does."""

    def moved(tx: Transaction) -> None:
        if not tx.orders.save(change(tx.orders.get(order_id))).is_settled:
            tx.drives.wake(order_id, now=datetime.now(UTC))

    await store.write(moved)
    saga.wake()


def take_payment(order: domain.Order) -> domain.Order:
    return order.take_payment(at=datetime.now(UTC))


async def test_what_is_asked_for_just_as_the_order_settles_is_not_forgotten(
    store: Store[Transaction], monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = saga_of(store, participants := ScriptedParticipants())
    append, asked = saga._append, asyncio.Event()

    async def then_ship(order: domain.Order) -> domain.Order:
        saved = await append(order)
        if saved.is_settled and not asked.is_set():
            await move(store, saga, take_payment)
            asked.set()
        return saved

    monkeypatch.setattr(saga_module, "QUICK_S", -1.0)  # every outcome is written at once, the last one too
    monkeypatch.setattr(saga, "_append", then_ship)
    async with running(saga):
        saga.take(await accept(store, saga, Capture.SHIPMENT))
        await asyncio.wait_for(asked.wait(), 10)
        assert (await ended(store, saga)).is_captured
    assert participants.steps == list(FORWARD)


async def test_an_order_that_is_paid_when_shipped_is_charged_when_it_is_to_be(
    store: Store[Transaction],
) -> None:
    participants = ScriptedParticipants()
    saga = saga_of(store, participants)
    async with running(saga):
        await confirmed(store, saga)
        assert participants.steps == list(FORWARD[:-1])
        await move(store, saga, take_payment)
        order = await ended(store, saga)
    assert participants.steps == list(FORWARD)
    assert (order.state, order.captured_total) == (State.CONFIRMED, order.total)


async def test_a_confirmed_order_waits_for_its_money_past_all_patience_and_asks_for_attention(
    store: Store[Transaction],
) -> None:
    tries = ATTENTION_ATTEMPTS + 3
    participants = ScriptedParticipants({Step.CAPTURE_PAYMENT: [UNAVAILABLE] * tries})
    saga = saga_of(store, participants, AT_ONCE)
    async with running(saga):
        await confirmed(store, saga)
        await move(store, saga, take_payment)
        order = await ended(store, saga)
    assert (order.state, order.is_captured, order.needs_attention) == (State.CONFIRMED, True, False)
    history = [event.fact for event in await store.read(lambda tx: tx.orders.history(ID))]
    assert history.count(facts.NeedsAttention(Step.CAPTURE_PAYMENT, ATTENTION_ATTEMPTS)) == 1


async def test_a_payment_that_is_refused_calls_the_order_off(store: Store[Transaction]) -> None:
    participants = ScriptedParticipants({Step.CAPTURE_PAYMENT: [UNAVAILABLE, Refused("CAPTURE_REFUSED")]})
    saga = saga_of(store, participants)
    async with running(saga):
        await confirmed(store, saga)
        await move(store, saga, take_payment)
        order = await ended(store, saga)
    assert (order.state, order.cancel_reason) == (State.CANCELLED, "CAPTURE_REFUSED")
    assert participants.steps[-3:] == [Step.CAPTURE_PAYMENT, Step.VOID_PAYMENT, Step.RELEASE_STOCK]


async def test_a_cancel_while_the_money_is_taken_turns_the_order(store: Store[Transaction]) -> None:
    class Cancels(ScriptedParticipants):
        async def ask(self, order: domain.Order, step: Step) -> Answer:
            answer = await super().ask(order, step)
            if step is Step.CAPTURE_PAYMENT:
                await move(store, saga, lambda order: order.cancel(reason="buyer", at=datetime.now(UTC)))
            return answer

    saga = saga_of(store, participants := Cancels())
    async with running(saga):
        await confirmed(store, saga)
        await move(store, saga, take_payment)
        order = await ended(store, saga)
    assert order.state is State.CANCELLED
    assert participants.steps[-3:] == [Step.CAPTURE_PAYMENT, Step.VOID_PAYMENT, Step.RELEASE_STOCK]


async def test_a_payment_that_was_being_taken_in_a_former_life_is_asked_for_again_under_its_id(
    store: Store[Transaction],
) -> None:
    reached = asyncio.Event()

    class Hangs(ScriptedParticipants):
        async def ask(self, order: domain.Order, step: Step) -> Answer:
            answer = await super().ask(order, step)
            if step is Step.CAPTURE_PAYMENT:
                reached.set()
                await asyncio.Event().wait()
            return answer

    first, second = Hangs(), ScriptedParticipants()
    saga = saga_of(store, first)
    async with running(saga):
        await confirmed(store, saga)
        await move(store, saga, take_payment)
        await asyncio.wait_for(reached.wait(), 10)
    saga = saga_of(store, second)
    async with running(saga):
        assert (await ended(store, saga)).is_captured
    assert second.asked == first.asked[-1:]
