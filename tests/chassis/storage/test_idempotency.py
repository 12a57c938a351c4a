"""One request id, one effect, one reply."""

import asyncio
import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from bodega.order.v1 import order_pb2
from bodega.user.v1 import user_pb2

from services.chassis import context, contract, status
from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.identity.ownership import OwnerNotAsked, must_own
from services.chassis.storage import idempotency
from services.chassis.storage.idempotency import RequestIdMissing, RequestIdReused, call
from services.chassis.storage.retention import Janitor
from services.chassis.storage.statement import Statement
from services.chassis.testing import FakeClock
from services.kernel import errors
from tests.chassis.storage.notebook import Notes, Transaction

RAW = Statement(sa.select(sa.text("*")).select_from(sa.text("remembered_calls")))


class NoSuchOrder(errors.NotFound):
    """There is no order {order_id}."""


class AccountLocked(errors.TooMuch):
    """Too many attempts on {account}."""


def request(request_id: str = "r-1", order_id: str = "o-1") -> order_pb2.CancelOrderRequest:
    return order_pb2.CancelOrderRequest(request_id=request_id, order_id=order_id, reason="late")


class Effect:
    """A transaction function that counts its runs and leaves a note of each."""

    def __init__(self, outcome: Callable[[], order_pb2.Order | errors.DomainError] | None = None) -> None:
        self.runs = 0
        self._outcome = outcome or (lambda: order_pb2.Order(order_id=f"reply-{self.runs}"))

    def __call__(self, tx: Transaction) -> order_pb2.Order | errors.DomainError:
        self.runs += 1
        tx.add(str(uuid.uuid4()))
        return self._outcome()


def raising(error: Exception) -> Callable[[], order_pb2.Order]:
    def outcome() -> order_pb2.Order:
        raise error

    return outcome


async def effects(store: Notes) -> int:
    return await store.read(lambda tx: tx.count())


async def test_a_repeat_gets_the_first_reply_and_has_no_effect(store: Notes) -> None:
    effect = Effect()
    first = await store.once(call(request()), effect)
    again = await store.once(call(request()), effect)

    assert first == again == order_pb2.Order(order_id="reply-1")
    assert (effect.runs, await effects(store)) == (1, 1)


async def test_concurrent_twins_have_one_effect_and_equal_replies(store: Notes) -> None:
    effect = Effect()
    replies = await asyncio.gather(*(store.once(call(request()), effect) for _ in range(20)))

    assert [reply.order_id for reply in replies] == [replies[0].order_id] * 20
    assert await effects(store) == 1
    # Where there are several writers, some find out only at the end that their twin was faster.
    assert effect.runs == 1 or not store.one_writer


async def test_another_id_is_another_call(store: Notes) -> None:
    effect = Effect()
    await store.once(call(request("r-1")), effect)
    await store.once(call(request("r-2")), effect)

    assert effect.runs == 2


async def test_an_id_used_for_something_else_is_refused(store: Notes) -> None:
    effect = Effect()
    await store.once(call(request(order_id="o-1")), effect)
    with pytest.raises(RequestIdReused) as refusal:
        await store.once(call(request(order_id="o-2")), effect)

    assert refusal.value.reason == "REQUEST_ID_REUSED"
    assert effect.runs == 1


async def test_without_an_id_nothing_is_done(store: Notes) -> None:
    effect = Effect()
    with pytest.raises(RequestIdMissing):
        await store.once(call(request("")), effect)
    assert effect.runs == 0


async def test_a_definite_refusal_is_remembered_and_leaves_no_effect(store: Notes) -> None:
    effect = Effect(raising(NoSuchOrder(order_id="o-1")))
    with pytest.raises(NoSuchOrder) as first:
        await store.once(call(request()), effect)
    runs = effect.runs
    with pytest.raises(status.Refused) as again:
        await store.once(call(request()), effect)

    assert again.value.status == status.from_error(first.value)
    assert again.value.reason == "NO_SUCH_ORDER"
    assert status.metadata(again.value.status) == {"order_id": "o-1"}
    assert (effect.runs, await effects(store)) == (runs, 0)


@pytest.mark.parametrize("error", [errors.Stale(), errors.Unavailable(), errors.TooMuch(), ValueError("bug")])
async def test_passing_errors_and_bugs_leave_the_id_free(store: Notes, error: Exception) -> None:
    failing = Effect(raising(error))
    with pytest.raises(type(error)):
        await store.once(call(request()), failing)

    assert await store.once(call(request()), Effect()) == order_pb2.Order(order_id="reply-1")
    assert await effects(store) == 1


async def test_a_no_that_is_returned_keeps_its_effects_and_is_remembered(store: Notes) -> None:
    effect = Effect(lambda: AccountLocked(account="a"))
    with pytest.raises(AccountLocked):
        await store.once(call(request()), effect)
    with pytest.raises(status.Refused) as again:
        await store.once(call(request()), effect)

    assert again.value.reason == "ACCOUNT_LOCKED"
    assert (effect.runs, await effects(store)) == (1, 1)


async def test_twins_of_a_refused_call_are_all_refused(store: Notes) -> None:
    effect = Effect(raising(NoSuchOrder(order_id="o-1")))
    results = await asyncio.gather(
        *(store.once(call(request()), effect) for _ in range(10)), return_exceptions=True
    )

    said = [status.from_error(r) if isinstance(r, errors.DomainError) else status.parse(r) for r in results]
    assert said == [said[0]] * 10
    assert await effects(store) == 0


async def test_a_call_in_a_batch_with_one_that_fails_is_not_disturbed(store: Notes) -> None:
    effect, failing = Effect(), Effect(raising(ValueError("bug")))
    results = await asyncio.gather(
        store.once(call(request("r-1")), failing),
        store.once(call(request("r-2")), effect),
        store.once(call(request("r-3")), failing),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [ValueError, order_pb2.Order, ValueError]
    assert await effects(store) == 1


async def test_recall_tells_what_happened_without_doing_anything(store: Notes) -> None:
    assert await store.recall(call(request()), order_pb2.Order) is None

    await store.once(call(request()), Effect())
    assert await store.recall(call(request()), order_pb2.Order) == order_pb2.Order(order_id="reply-1")
    with pytest.raises(RequestIdReused):
        await store.recall(call(request(order_id="o-2")), order_pb2.Order)
    with pytest.raises(TypeError):
        await store.recall(call(request()), user_pb2.User)

    with pytest.raises(NoSuchOrder):
        await store.once(call(request("r-2")), Effect(raising(NoSuchOrder(order_id="o"))))
    with pytest.raises(status.Refused):
        await store.recall(call(request("r-2")), order_pb2.Order)


async def test_secrets_are_neither_kept_nor_replayed(store: Notes) -> None:
    def register(_: Transaction) -> user_pb2.User:
        return user_pb2.User(user_id="u", email="someone@example.org")

    asked = user_pb2.RegisterUserRequest(
        request_id="r", email="someone@example.org", password="hunter2 hunter2"
    )
    assert (await store.once(call(asked), register)).email == "someone@example.org"
    assert await store.once(call(asked), register) == user_pb2.User(user_id="u")

    (row,) = await store.look(lambda session: session.all(RAW))
    columns = ("scope", "request_id", "digest", "reply_type", "reply", "refusal")
    kept = repr([row[column] for column in columns]).encode()
    assert b"someone" not in kept
    assert b"hunter2" not in kept


def scope(method: str, caller: str) -> str:
    methods = contract.by_path(order_pb2.DESCRIPTOR, user_pb2.DESCRIPTOR)
    working = RequestContext(
        trace=TraceContext.fresh(), method=methods[method], caller=Caller(user_id=caller)
    )
    with context.working_on(working):
        return call(request()).scope


def test_ids_belong_to_a_caller_and_a_method() -> None:
    cancel = "/bodega.order.v1.OrderService/CancelOrder"
    register = "/bodega.user.v1.UserService/RegisterUser"

    assert scope(cancel, "a") != scope(cancel, "b")
    assert scope(cancel, "a") != scope("/bodega.order.v1.OrderService/CreateOrder", "a")
    # Whoever registers is nobody yet: the method alone.
    assert scope(register, "a") == scope(register, "") == register
    assert call(request()).scope == "bodega.order.v1.CancelOrderRequest"


async def test_calls_are_forgotten_after_a_day(store: Notes) -> None:
    clock = FakeClock()
    store._clock = clock
    janitor = Janitor(store, idempotency.RETENTION, clock=clock)
    for n in range(1200):  # more than one batch
        await store.once(call(request(f"r-{n}")), lambda _: order_pb2.Order())
    clock.advance(3600)
    await store.once(call(request("young")), Effect())

    clock.advance(23 * 3600 + 1)
    assert await janitor.sweep(idempotency.RETENTION) == 1200
    assert await store.recall(call(request("r-1")), order_pb2.Order) is None
    assert await store.recall(call(request("young")), order_pb2.Order) is not None


async def test_what_is_done_without_asking_whose_it_is_does_not_happen(store: Notes) -> None:
    at_hand = RequestContext(trace=TraceContext.fresh(), must_own=True)
    with context.working_on(at_hand), pytest.raises(OwnerNotAsked):
        await store.once(call(request()), Effect())
    assert await effects(store) == 0


async def test_an_owner_gets_the_remembered_reply_without_being_asked_again(store: Notes) -> None:
    def effect(_tx: Transaction) -> order_pb2.Order:
        must_own("ada", NoSuchOrder(order_id="o-1"))
        return order_pb2.Order(order_id="o-1")

    for _ in range(2):
        caller = Caller(user_id="ada")
        at_hand = RequestContext(trace=TraceContext.fresh(), caller=caller, must_own=True)
        with context.working_on(at_hand):
            assert (await store.once(call(request()), effect)).order_id == "o-1"
        assert not at_hand.must_own
