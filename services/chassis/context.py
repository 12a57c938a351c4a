"""The request at hand: who asked, until when, in which trace. Kept in one context variable.

The server onion sets it, everything below reads it: outgoing calls take their budget and trace from it,
outbox rows their traceparent and actor, log lines their ids.
"""

import contextvars
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.chassis.contract import Method
from services.chassis.identity.caller import NOBODY, Caller

# Metadata that the onions understand.
TRACEPARENT: Final = "traceparent"
AUTHORIZATION: Final = "authorization"
ON_BEHALF_OF: Final = "x-bodega-on-behalf-of"

# Metadata of a reply.
STALE: Final = "x-bodega-stale"
STREAM_ENDED: Final = "x-bodega-stream-ended"  # why: `age` or `idle`; resume it
PUSHBACK: Final = "grpc-retry-pushback-ms"
NEVER: Final = "-1"  # as a pushback (gRFC A6)

# https://www.w3.org/TR/trace-context/#traceparent-header; version ff and all-zero ids are invalid. Of the
# flags the last one is known here, and others must not be passed on.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(?:-.*)?"
)
_ODD: Final = "13579bdf"

SAMPLED: Final = "01"
UNSAMPLED: Final = "00"


class TraceContext(NamedTuple):
    """A place in a W3C trace: 32 hex digits of trace id, 16 of span id, two of flags."""

    trace_id: str
    span_id: str
    flags: str = UNSAMPLED
    """SAMPLED or UNSAMPLED."""

    @classmethod
    def fresh(cls) -> "TraceContext":
        """The root of a new trace."""
        return cls(_trace_id(), _span_id())

    @classmethod
    def parse(cls, traceparent: str | None) -> "TraceContext | None":
        """The place a `traceparent` names; None if it is absent or malformed, as the standard asks."""
        match = _TRACEPARENT.fullmatch(traceparent or "")
        return cls(match[1], match[2], _flags(match)) if match else None

    @classmethod
    def continued(cls, traceparent: str | None) -> "TraceContext":
        """A new span under the given parent, or a new trace if there is none."""
        match = _TRACEPARENT.fullmatch(traceparent or "")
        return cls(match[1], _span_id(), _flags(match)) if match else cls.fresh()

    @property
    def is_sampled(self) -> bool:
        """Whether spans are written for it, by all who work on it."""
        return self.flags == SAMPLED

    def sampled(self, *, is_it: bool) -> "TraceContext":
        """The same place, with the decision made."""
        return TraceContext(self.trace_id, self.span_id, SAMPLED if is_it else UNSAMPLED)

    def child(self) -> "TraceContext":
        return TraceContext(self.trace_id, _span_id(), self.flags)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def _flags(match: re.Match[str]) -> str:
    return SAMPLED if match[3] in _ODD else UNSAMPLED


# Such ids must differ, not be secret: a system call each would cost more than all else done per call.


def _trace_id() -> str:
    return f"{random.getrandbits(128) or 1:032x}"


def _span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


@dataclass(slots=True)
class RequestContext:
    """What is known of the request (or event, or saga step) being worked on.

    Made at its arrival; the onion adds what it finds out on the way in, after which nothing changes it.
    """

    trace: TraceContext
    method: Method | None = None
    """The RPC being served; None in consumers and background work."""

    caller: Caller = NOBODY
    """Who asked, as far as that was proven."""

    deadline: float | None = None
    """`time.monotonic()` second after which the answer is of no use; None: no limit."""

    is_held: bool = True
    """Whether somebody else ends the work at its deadline."""

    is_counted: bool = False
    """Whether it is one of those that the server may work on at once."""

    metadata: dict[str, str] = field(default_factory=dict, repr=False)
    """What came along that the onion understands; what was given twice is empty. It may hold secrets."""

    must_own: bool = False
    """Whether the caller was let in if the thing addressed is theirs, and nobody looked yet."""

    is_guest: bool = False
    """Whether the caller was let in like anybody, although the contract lets some at more."""

    act: dict[str, str] | None = None
    """What the caller is about to change because of a role, or as the operator, in its ids: to be written
    into the audit trail with the first thing that changes. None: nobody's business but theirs."""

    stale_s: float | None = None
    """Age of the oldest reply from memory that the answer is made of; None: everything in it is fresh."""

    waited_s: float = 0.0
    """Of its time, what the handler only waited for: no matter of how fast this server is."""

    labels: dict[str, str] = field(default_factory=dict)
    """Ids worth having on every log line, e.g. `order_id`. Never personal data."""


_current: contextvars.ContextVar[RequestContext | None] = contextvars.ContextVar(
    "bodega_request", default=None
)


def current() -> RequestContext | None:
    """The request being worked on, if any."""
    return _current.get()


def note_stale(age_s: float) -> None:
    """What is being worked on uses something this old, since the fresh was not to be had."""
    request = _current.get()
    if request is not None:
        request.stale_s = max(age_s, request.stale_s or 0.0)


@contextmanager
def waiting(monotonic: Callable[[], float]) -> Iterator[None]:
    """What is inside waits for what takes as long as it takes, as its contract says (`waits`).

    The call stays one that the server works on; how long it waits teaches nothing about the server's pace.
    """
    request, begun = _current.get(), monotonic()
    try:
        yield
    finally:
        if request is not None:
            request.waited_s += monotonic() - begun


def set_current(request: RequestContext) -> contextvars.Token[RequestContext | None]:
    """For onions, which pair it with `reset_current` themselves; others use `working_on`."""
    return _current.set(request)


def reset_current(token: contextvars.Token[RequestContext | None]) -> None:
    _current.reset(token)


@contextmanager
def working_on(request: RequestContext) -> Iterator[RequestContext]:
    """Everything inside works on this request."""
    token = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(token)


def traceparent() -> str:
    """The current place in the trace as a header value; a fresh trace if nothing is being worked on."""
    request = current()
    return str(request.trace if request else TraceContext.fresh())
