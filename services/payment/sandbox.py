"""The sandbox: an honest little acquirer, for laptops and tests.

It lives in the payment process but keeps its own books in its own database, durably, before it answers;
calls to it can be slow and answers can be lost, by the token that pays. So what is proved against it holds
across a network.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from services.chassis.storage.database import Store
from services.chassis.storage.migrations import engine_for_migrations
from services.kernel.clock import Clock
from services.kernel.ids import Ids
from services.kernel.money import Money
from services.payment import sandbox_webhooks
from services.payment.domain import Answer, Kind, Standing
from services.payment.methods import Card, ProviderTokenRefused
from services.payment.provider import Change, ProviderSilent
from services.payment.sandbox_books import QUESTION, Books, Entered, Wish, metadata
from services.payment.sandbox_tokens import TOKENS
from services.payment.webhook import WebhookMalformed

SLOW_S: Final = 1.0


class Sandbox:
    """A Provider; a context manager that opens its books."""

    name = "sandbox"

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        ids: Ids,
        slow_s: float = SLOW_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._slow_s = slow_s
        self._sleep = sleep
        self.books: Store[Books] = Store(
            url, open_transaction=lambda session: Books(session, ids), clock=clock, secret=b""
        )
        self.webhooks_wait = asyncio.Event()
        """Set when there may be something for the courier."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(_create, self._url)
        await self.books.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.books.__aexit__(kind, error, trace)

    async def describe(self, token: str) -> Card:
        if token not in TOKENS:
            raise ProviderTokenRefused
        return TOKENS[token].card

    async def authorize(self, key: str, *, payment_id: str, token: str, amount: Money) -> Answer:
        wish = Wish(key, Kind.AUTHORIZE, payment_id, amount)
        return await self._answer(lambda books: books.authorize(wish, token))

    async def capture(self, key: str, *, authorization: str, amount: Money) -> Answer:
        wish = Wish(key, Kind.CAPTURE, authorization, amount)
        return await self._answer(lambda books: books.capture(wish))

    async def void(self, key: str, *, authorization: str) -> Answer:
        wish = Wish(key, Kind.VOID, authorization, _NOTHING)
        return await self._answer(lambda books: books.void(wish))

    async def refund(self, key: str, *, authorization: str, amount: Money) -> Answer:
        wish = Wish(key, Kind.REFUND, authorization, amount)
        return await self._answer(lambda books: books.refund(wish))

    async def standing(self, authorization: str) -> Standing:
        return await self.books.read(lambda books: books.standing(authorization))

    def about(self, webhook: bytes) -> str:
        try:
            authorization = json.loads(webhook)["data"]["authorization"]
        except (ValueError, KeyError, TypeError):
            authorization = None
        if not isinstance(authorization, str):
            raise WebhookMalformed(provider=self.name)
        return authorization

    async def changes(self, after: str) -> Sequence[Change]:
        return await self.books.read(lambda books: books.changes(int(after or "0")))

    async def ready(self) -> None:
        await self.books.ready(QUESTION)

    async def _answer(self, enter: Callable[[Books], Entered]) -> Answer:
        """Written down first; what can still go wrong is the way back."""
        entered = await self.books.write(enter)
        if entered.token.webhooks:
            self.webhooks_wait.set()
        if not entered.is_repeat and entered.token.is_slow:
            await self._sleep(self._slow_s)
        if not entered.is_repeat and entered.token.loses_replies:
            raise ProviderSilent("the reply was lost")
        return entered.answer


_NOTHING: Final = Money.zero("XXX")  # a void is for whatever is held


def _create(url: str) -> None:
    """Makes the books where there are none; those of others are found as they were."""
    engine = engine_for_migrations(url)  # who comes second finds them made
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            sandbox_webhooks.metadata.create_all(connection)
    finally:
        engine.dispose()
