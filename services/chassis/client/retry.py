"""Tries again where the contract says that it does no harm and the server does not say that it is of no use.

Only UNAVAILABLE and an explicit RetryInfo; only reads and idempotent writes; within the deadline; paid from
the target's budget. The server has the last word: `grpc-retry-pushback-ms` (gRFC A6).
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from services.chassis import status
from services.chassis.client.layer import Outgoing, Send
from services.chassis.context import PUSHBACK
from services.chassis.contract import Method
from services.chassis.policy.backoff import Backoff
from services.chassis.policy.budget import RetryBudget
from services.chassis.tracing import Event, names

ATTEMPTS_MAX: Final = 3  # what a third attempt does not mend, a fourth seldom does
BACKOFF: Final = Backoff(first_s=0.1, max_s=2.0)

ATTEMPTS_KEY: Final = "grpc-previous-rpc-attempts"


class Retry:
    def __init__(
        self,
        budget: RetryBudget,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        on_retry: Callable[[Method], None],
    ) -> None:
        self._budget = budget
        self._monotonic = monotonic
        self._sleep = sleep
        self._random = random
        self._on_retry = on_retry

    def around(self, method: Method, inner: Send) -> Send:
        if not method.is_idempotent:
            return inner

        async def retried(call: Outgoing) -> Any:
            self._budget.deposit()
            metadata = call.metadata
            failures = 0
            while True:
                try:
                    return await inner(call)
                except grpc.aio.AioRpcError as error:
                    failures += 1
                    wait_s = self._wait_s(error, failures, call.deadline)
                    if wait_s is None:
                        raise
                    error_code = error.code().name
                self._on_retry(method)
                call.failures += (_noted(error_code, failures),)
                await self._sleep(wait_s)
                call.metadata = (*metadata, (ATTEMPTS_KEY, str(failures)))

        return retried

    def _wait_s(self, error: grpc.aio.AioRpcError, failures: int, deadline: float) -> float | None:
        """Seconds until the next attempt, which is then paid for; None if there is none."""
        if failures >= ATTEMPTS_MAX:
            return None
        wait_s = asked_wait_s(error, BACKOFF.delay_s(failures, self._random))
        if wait_s is None or self._monotonic() + wait_s >= deadline:
            return None
        return wait_s if self._budget.withdraw() else None


def _noted(code: str, failures: int) -> Event:
    return Event("attempt failed", time.time_ns(), {names.RPC_STATUS: code, names.ATTEMPT: failures})


def asked_wait_s(error: grpc.aio.AioRpcError, backoff_s: float) -> float | None:
    """Seconds to wait before this call may be tried again; None if it must not be."""
    pushback = _pushback(error)
    if pushback is not None:
        return int(pushback) / 1000 if pushback.isdecimal() else None
    retry_after_s = status.retry_after_s(error)
    if retry_after_s is not None:
        return retry_after_s + backoff_s  # jitter on top, for others were told the same
    return backoff_s if error.code() is grpc.StatusCode.UNAVAILABLE else None


def _pushback(error: grpc.aio.AioRpcError) -> str | None:
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK:
            return str(value)
    return None
