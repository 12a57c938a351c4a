"""Operations at the provider: commit UNKNOWN, ask outside any transaction, commit the outcome.

Whoever comes upon a payment that is not at rest (a handler, or the reconciler after a crash) goes on the
same way: what is pending is asked again with its own key, then what is still due of what was wished for is
done: a closed payment is undone, a direct one captured.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from services.chassis import failpoints, telemetry
from services.chassis.policy.backoff import Backoff
from services.chassis.storage.database import Store
from services.kernel.clock import Clock
from services.kernel.money import Money
from services.payment.domain import Answer, Kind, Payment, Refused, Standing
from services.payment.methods import Card
from services.payment.provider import Provider, ProviderSilent
from services.payment.refusals import PaymentInProgress, ProviderUnavailable
from services.payment.store import Transaction
from services.payment.work_store import Lease

T = TypeVar("T")

LEASE_MARGIN_S: Final = 1.0  # for the commits around the call
LEAVE_MARGIN_S: Final = 1.0  # the same, when the service stops
BACKOFF: Final = Backoff(first_s=0.2, max_s=30.0)
"""Between two of the reconciler's attempts at one payment."""

_PLACES: Final = ("unknown.committed", "provider.before", "provider.answered", "outcome.committed")
_SITES: Final = {
    (place, kind): (
        failpoints.site(f"payment.{place}"),
        failpoints.site(f"payment.{kind.lower()}.{place}"),
    )
    for place in _PLACES
    for kind in Kind
}

_log = telemetry.logger("payment.operations")


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the provider; asking it again does nothing more."""

    order_id: str
    payment_id: str
    kind: Kind
    key: str
    amount: Money
    authorization: str
    """What the provider calls the hold; empty for the question that asks for one."""

    token: str
    """Only for an authorization."""

    def __repr__(self) -> str:
        return f"Ask({self.key})"  # not the token


class Operations:
    """Drives payments at one provider; a context manager that ends what it has begun."""

    def __init__(
        self,
        store: Store[Transaction],
        provider: Provider,
        *,
        clock: Clock,
        driver: str,
        answer_within_s: float,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._provider = provider
        self._clock = clock
        self._driver = driver
        self._answer_within_s = answer_within_s
        self._random = random
        self._tasks: set[asyncio.Task[Any]] = set()
        self.work_waits = asyncio.Event()
        """Set when something was left for the reconciler to do at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._lease_s + LEAVE_MARGIN_S)
        for task in self._tasks:
            task.cancel()

    async def outliving(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end even if the caller is cancelled: what was asked, we want to have heard."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    # Parts of transactions

    def take(self, tx: Transaction, payment: Payment, *, now: datetime) -> Ask:
        """Takes the pending operation upon oneself. Raises PaymentInProgress if someone else is at it."""
        pending = payment.pending
        assert pending is not None
        until = now + timedelta(seconds=self._lease_s)
        if not tx.work.take(payment.order_id, Lease(self._driver, now, until)):
            raise PaymentInProgress(order_id=payment.order_id)
        authorizing = pending.kind is Kind.AUTHORIZE
        return Ask(
            order_id=payment.order_id,
            payment_id=payment.payment_id,
            kind=pending.kind,
            key=pending.key,
            amount=pending.amount,
            authorization=payment.authorization,
            token=tx.methods.token(payment.payment_method_id) if authorizing else "",
        )

    def begin(self, tx: Transaction, payment: Payment, *, now: datetime) -> Ask:
        """Saves a payment that has just begun an operation, and takes it."""
        return self.take(tx, tx.payments.save(payment), now=now)

    def take_up(self, tx: Transaction, order_id: str, *, now: datetime) -> Ask | None:
        """Takes what is pending, or begins what is due; None if the payment is at rest.

        Raises PaymentInProgress if someone else is at it.
        """
        payment = tx.payments.get_of_order(order_id)
        if payment.pending is not None:
            return self.take(tx, payment, now=now)
        if payment.at_rest:
            tx.work.done(order_id)
        return self._going_on(tx, payment, now=now)

    def close(self, tx: Transaction, order_id: str, *, now: datetime) -> None:
        """Writes down that the order's money is to come to nothing. From that commit on it will."""
        payment = tx.payments.of_order(order_id)
        if payment is None:
            tx.payments.save(Payment.tombstone(order_id=order_id, at=now))
        elif not payment.closed:
            closed = tx.payments.save(payment.close(at=now))
            if closed.next_step:
                tx.work.wake(order_id, now=now)

    def settle(self, tx: Transaction, ask: Ask, answer: Answer, *, now: datetime) -> Payment:
        """Writes down what the provider said; nothing if another driver has done so before."""
        payment = tx.payments.get_of_order(ask.order_id)
        settled = payment.settle(ask.key, answer, at=now)
        return payment if settled is payment else self.saved(tx, settled, now=now)

    def saved(self, tx: Transaction, payment: Payment, *, now: datetime) -> Payment:
        """Saves a payment of which nothing is pending; what remains to be done is left to whoever comes."""
        kept = tx.payments.save(payment)
        if kept.at_rest:
            tx.work.done(kept.order_id)
        else:
            tx.work.wake(kept.order_id, now=now)
        return kept

    def adopt(self, tx: Transaction, payment: Payment, standing: Standing, *, now: datetime) -> Payment:
        """Takes over what the provider's books know beyond ours; the payment as it was if that is nothing."""
        adopted = payment.adopt(standing, at=now)
        if adopted is payment:
            return payment
        _log.warning("taken over from the provider's books", order_id=payment.order_id, state=adopted.state)
        return self.saved(tx, adopted, now=now)

    # What stands between transactions

    async def finish(self, order_id: str) -> None:
        """Settles what is pending and does what is due, until the provider has done all of it.

        Raises PaymentInProgress if someone else is at it, and ProviderUnavailable. A provider that refuses to
        undo ends it too; it is tried again later.
        """
        now = self._clock.now()
        ask = await self._store.write(lambda tx: self.take_up(tx, order_id, now=now))
        if ask is not None:
            await self.carry_on(ask)

    async def carry_on(self, ask: Ask) -> None:
        """The same, from a question that is already taken."""
        following: Ask | None = ask
        while following is not None:
            following = await self._step(following)

    async def ask(self, ask: Ask) -> Answer:
        """Asks the provider once. Raises ProviderUnavailable if it gives no answer; it may have done it."""
        await _reach("unknown.committed", ask.kind)
        try:
            async with asyncio.timeout(self._answer_within_s):
                await _reach("provider.before", ask.kind)
                answer = await self._call(ask)
        except (ProviderSilent, TimeoutError, OSError) as error:
            _log.warning("provider silent", operation=ask.key, error=type(error).__name__)
            await self._put_off(ask.order_id)
            raise ProviderUnavailable from error
        except Exception:
            await self._put_off(ask.order_id)
            raise
        await _reach("provider.answered", ask.kind)
        return answer

    async def standing(self, authorization: str) -> Standing:
        """How an authorization stands now. Raises ProviderUnavailable."""
        try:
            async with asyncio.timeout(self._answer_within_s):
                return await self._provider.standing(authorization)
        except (ProviderSilent, TimeoutError, OSError) as error:
            raise ProviderUnavailable from error

    async def describe(self, token: str) -> Card:
        """What a token stands for. Raises ProviderTokenRefused and ProviderUnavailable."""
        try:
            async with asyncio.timeout(self._answer_within_s):
                return await self._provider.describe(token)
        except (ProviderSilent, TimeoutError, OSError) as error:
            raise ProviderUnavailable from error

    async def committed(self, ask: Ask) -> None:
        """The outcome is on disk."""
        await _reach("outcome.committed", ask.kind)

    async def _step(self, ask: Ask) -> Ask | None:
        answer = await self.ask(ask)
        now = self._clock.now()
        following = await self._store.write(lambda tx: self._settle_and_go_on(tx, ask, answer, now=now))
        await self.committed(ask)
        return following

    def _settle_and_go_on(self, tx: Transaction, ask: Ask, answer: Answer, *, now: datetime) -> Ask | None:
        settled = self.settle(tx, ask, answer, now=now)
        undoing = ask.kind in (Kind.VOID, Kind.REFUND)
        if undoing and isinstance(answer, Refused) and settled.next_step is ask.kind:
            self._put_off_in(tx, ask.order_id, now=now)  # asking at once again would only be refused again
            return None
        return self._going_on(tx, settled, now=now)

    def _going_on(self, tx: Transaction, payment: Payment, *, now: datetime) -> Ask | None:
        if payment.pending is not None or payment.next_step is None:
            return None
        return self.begin(tx, payment.go_on(at=now), now=now)

    async def _call(self, ask: Ask) -> Answer:
        provider = self._provider
        match ask.kind:
            case Kind.AUTHORIZE:
                return await provider.authorize(
                    ask.key, payment_id=ask.payment_id, token=ask.token, amount=ask.amount
                )
            case Kind.CAPTURE:
                answer = await provider.capture(ask.key, authorization=ask.authorization, amount=ask.amount)
            case Kind.VOID:
                answer = await provider.void(ask.key, authorization=ask.authorization)
            case Kind.REFUND:
                answer = await provider.refund(ask.key, authorization=ask.authorization, amount=ask.amount)
        if isinstance(answer, Refused):
            # Why it was refused matters less than how things stand: captured means refund.
            return Refused(answer.code, await provider.standing(ask.authorization))
        return answer

    async def _put_off(self, order_id: str) -> None:
        now = self._clock.now()
        await self._store.write(lambda tx: self._put_off_in(tx, order_id, now=now))

    def _put_off_in(self, tx: Transaction, order_id: str, *, now: datetime) -> None:
        delay_s = BACKOFF.delay_s(tx.work.failures(order_id) + 1, self._random)
        tx.work.put_off(order_id, now + timedelta(seconds=delay_s))

    @property
    def _lease_s(self) -> float:
        return self._answer_within_s + LEASE_MARGIN_S


async def _reach(place: str, kind: Kind) -> None:
    if failpoints.are_on():
        for site in _SITES[place, kind]:
            await failpoints.areach(site)


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Of work whose caller has gone: nobody else will hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("work that outlived its caller failed", error=type(error).__name__, exc_info=error)
