"""What a layer of the client onion is: a function around the sending of a unary call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import Message

from services.chassis.contract import Method
from services.chassis.tracing import Event


@dataclass(slots=True)
class Outgoing:
    """One call on its way out; layers fill in what they are for. The caller's message stays as it is."""

    request: Message
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    timeout_s: float | None = None
    """What the caller asked for; None leaves it to the contract."""

    deadline: float = 0.0
    """Monotonic second by which the call, retries included, must be over."""

    failures: tuple[Event, ...] = ()
    """Attempts that came to nothing and were not the last."""


Send: TypeAlias = Callable[[Outgoing], Awaitable[Any]]


class Layer(Protocol):
    """One concern around outgoing calls; called once per method, when a stub is made.

    What only prepares a call is a plain function that ends in `return inner(call)`: it costs no coroutine.
    """

    def around(self, method: Method, inner: Send) -> Send: ...
