"""What a gate of the server onion is: something that every call must pass before its handler begins."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc

from services.chassis.context import RequestContext
from services.chassis.contract import Method

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Unary: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""A coroutine function: one request, one reply."""

Stream: TypeAlias = Callable[[Any, Context], AsyncGenerator[Any, None]]
"""An async generator function: one request, many replies."""

Guard: TypeAlias = Callable[[Any, RequestContext, Context], Awaitable[None] | None]
"""Looks at one call and raises what refuses it; returns something to await only where it must wait."""


class Gate(Protocol):
    """One concern before handlers.

    It is asked once per RPC, at registration, so that what depends on the RPC alone (its policy, its rules)
    is looked up there and not per call.
    """

    def guard(self, method: Method) -> Guard | None:
        """None: this gate has nothing to ask of the RPC, whose calls then do not even pass by."""
        ...
