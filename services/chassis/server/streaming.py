"""How long a stream of replies lives, and what a client must do for it: read.

A stream ends when it is old, when nothing has happened for long, and when its client takes nothing. Where
the contract says how it is resumed, the first two are no errors: it ends with OK and a trailer that says why,
and the client comes back with its cursor, perhaps to a replica with more room.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

from services.chassis.context import STREAM_ENDED, RequestContext
from services.chassis.contract import Method
from services.chassis.server.deadline import DeadlineExceeded
from services.chassis.server.gate import Context
from services.kernel import errors

IDLE_MAX_S: Final = 900.0  # who still wants to know comes back; who forgot it makes room
STALL_MAX_S: Final = 30.0  # clients that read take a message at once, even over a telephone
END_MARGIN_S: Final = 1.0  # before the deadline would end with an error what is to end well

OLD: Final = "age"
IDLE: Final = "idle"

T = TypeVar("T")


class StreamIdle(errors.Unavailable):
    """Nothing has happened here for long; ask again."""


class WatcherTooSlow(errors.TooMuch):
    """What was sent is not being read; resume after the last message that was."""


class Streaming:
    """Reads a handler's replies and hands them over, within the limits of one method."""

    def __init__(self, method: Method, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._is_resumable = method.is_resumable

    async def each(
        self, call: RequestContext, context: Context, replies: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """The replies, until the stream is old or idle. Raises DeadlineExceeded or StreamIdle."""
        now = asyncio.get_running_loop().time
        ends = now() + self._life_s(call)
        while True:
            gives_up = min(ends, now() + IDLE_MAX_S)
            # A scope per wait: one around a yield would cancel whoever holds the stream.
            scope = asyncio.timeout_at(gives_up)
            try:
                async with scope:
                    reply = await anext(replies)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not scope.expired():
                    raise  # it is of the handler's own
                self._end(context, is_old=gives_up == ends)
                return
            yield reply
            if now() >= ends:  # one that never waits would never notice
                self._end(context, is_old=True)
                return

    async def hand(self, context: Context, reply: Any) -> None:
        """Returns when the connection has room for more. Raises WatcherTooSlow."""
        scope = asyncio.timeout(STALL_MAX_S)
        try:
            async with scope:
                await context.write(reply)
        except TimeoutError:
            if scope.expired():
                raise WatcherTooSlow from None
            raise

    def _life_s(self, call: RequestContext) -> float:
        assert call.deadline is not None
        left_s = call.deadline - self._monotonic()
        return left_s - min(END_MARGIN_S, left_s / 2) if self._is_resumable else left_s

    def _end(self, context: Context, *, is_old: bool) -> None:
        if not self._is_resumable:
            raise DeadlineExceeded if is_old else StreamIdle
        context.set_trailing_metadata(((STREAM_ENDED, OLD if is_old else IDLE),))
