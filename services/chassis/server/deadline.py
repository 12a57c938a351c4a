"""Holds calls to their deadline.

grpc enforces the deadline a client sends, by cancelling the handler. What is left for us: calls whose client
sent none (they get their contract's) or an absurd one (it is capped), and calls too late to be begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

from services.chassis.context import RequestContext
from services.chassis.contract import Method
from services.chassis.server.gate import Context, Guard
from services.chassis.status import TooLate

T = TypeVar("T")


class DeadlineExceeded(TooLate):
    """The deadline has passed."""


class Deadline:
    """Refuses what cannot be done in time any more."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def guard(self, method: Method) -> Guard:
        del method
        monotonic = self._monotonic

        def in_time(_request: Any, call: RequestContext, _context: Context) -> None:
            if call.deadline is not None and call.deadline <= monotonic():
                raise DeadlineExceeded

        return in_time

    async def hold(self, call: RequestContext, work: Awaitable[T]) -> T:
        """Awaits the work until the call's deadline. Raises DeadlineExceeded.

        Work that comes too late, because a gate had to be waited for, is not begun.
        """
        left_s = self._left_s(call)
        if left_s <= 0:
            cast("Coroutine[Any, Any, T]", work).close()
            raise DeadlineExceeded
        return await _within(asyncio.timeout(left_s), work)

    def _left_s(self, call: RequestContext) -> float:
        assert call.deadline is not None
        return call.deadline - self._monotonic()


async def _within(scope: AbstractAsyncContextManager[Any], work: Awaitable[T]) -> T:
    """A TimeoutError of the work's own stays one; the scope's is the deadline."""
    try:
        async with scope:
            return await work
    except TimeoutError:
        if scope.expired():  # type: ignore[attr-defined]
            raise DeadlineExceeded from None
        raise
