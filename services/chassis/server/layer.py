"""What a layer of the server onion is: a function around a handler, in the two shapes handlers have."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc

from services.chassis.contract import Method

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Unary: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""A coroutine function: one request, one reply."""

Stream: TypeAlias = Callable[[Any, Context], AsyncGenerator[Any, None]]
"""An async generator function: one request, many replies."""


class Layer(Protocol):
    """One concern around handlers.

    Its methods are called once per RPC, at registration, so that what depends on the RPC alone (its policy,
    its metrics) is looked up there and not per call.
    """

    def unary(self, method: Method, inner: Unary) -> Unary: ...

    def stream(self, method: Method, inner: Stream) -> Stream: ...
