"""Gives a call the time it may take: never more than is left for the request that it serves."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from services.chassis import context
from services.chassis.client.layer import Outgoing, Send
from services.chassis.client.unsent import NoTimeLeft, unsent
from services.chassis.contract import Method

# What we keep for ourselves to answer in time when the neighbour does not.
DEADLINE_MARGIN_S: Final = 0.05


class Deadline:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def around(self, method: Method, inner: Send) -> Send:
        monotonic = self._monotonic
        policy_s, max_s = method.deadline_s, method.deadline_max_s

        def bounded(call: Outgoing) -> Awaitable[Any]:
            now = monotonic()
            asked_s = policy_s if call.timeout_s is None else min(call.timeout_s, max_s)
            given_s = budget_s(asked_s, now)
            if given_s <= 0:
                raise spent(method)
            call.deadline = now + given_s
            return inner(call)

        return bounded


def budget_s(asked_s: float, now: float) -> float:
    """Seconds for a call made now; 0 or less if it is too late to make it."""
    request = context.current()
    if request is None or request.deadline is None:
        return asked_s
    return min(asked_s, request.deadline - now - DEADLINE_MARGIN_S)


def spent(method: Method) -> grpc.aio.AioRpcError:
    """The error of a call that was not made because its time is over."""
    return unsent(NoTimeLeft(method=method.path))
