"""Holds calls to their deadline.

grpc enforces the deadline a client sends, by cancelling the handler. What is left for us: calls whose client
sent none (they get their contract's) or an absurd one (it is capped), and calls too late to be begun.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from services.chassis import context as request_context
from services.chassis import contract
from services.chassis.contract import Method
from services.chassis.server.layer import Context, Stream, Unary
from services.chassis.status import TooLate


class DeadlineExceeded(TooLate):
    """The deadline has passed."""


class Deadline:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def unary(self, method: Method, inner: Unary) -> Unary:
        del method
        left = self._left

        async def bounded(request: Any, context: Context) -> Any:
            left_s = left()
            if left_s is None or _grpc_watches(context):
                return await inner(request, context)
            scope = asyncio.timeout(left_s)
            try:
                async with scope:
                    return await inner(request, context)
            except TimeoutError:
                if scope.expired():
                    raise DeadlineExceeded from None
                raise

        return bounded

    def stream(self, method: Method, inner: Stream) -> Stream:
        del method
        left = self._left

        async def bounded(request: Any, context: Context) -> Any:
            left_s = left()
            async with aclosing(inner(request, context)) as replies:
                if left_s is None or _grpc_watches(context):
                    async for reply in replies:
                        yield reply
                    return
                ends = asyncio.get_running_loop().time() + left_s
                while True:
                    # A scope per wait: one around a yield would cancel whoever holds the stream.
                    scope = asyncio.timeout_at(ends)
                    try:
                        async with scope:
                            reply = await anext(replies)
                    except StopAsyncIteration:
                        return
                    except TimeoutError:
                        if scope.expired():
                            raise DeadlineExceeded from None
                        raise
                    yield reply

        return bounded

    def _left(self) -> float | None:
        """Seconds left, None for no limit; raises DeadlineExceeded when there are none."""
        request = request_context.current()
        if request is None or request.deadline is None:
            return None
        left_s = request.deadline - self._monotonic()
        if left_s <= 0:
            raise DeadlineExceeded
        return left_s


def _grpc_watches(context: Context) -> bool:
    """Whether the client's own deadline holds, so that grpc cancels the handler in time."""
    asked_s: float | None = context.time_remaining()
    return asked_s is not None and asked_s <= contract.DEADLINE_MAX_S
