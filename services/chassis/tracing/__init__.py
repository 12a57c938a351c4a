"""Spans (https://opentelemetry.io/docs/specs/otel/trace/): what a sampled request had done for it, and when.

A span is written when it is over. All that it needs before is its id, which the request at hand has in any
case: so nothing is begun, carried along or entered, and a request that is not sampled costs one test. What
failed or was slow is written although it was not sampled.

Spans go to an exporter, if the settings name a collector; else nobody writes any, and nothing of
OpenTelemetry's SDK is loaded. They tell what was called, never with what: no content, no ids of people, no
text of errors.
"""

import asyncio
import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

from services.chassis import context
from services.chassis.context import TraceContext
from services.chassis.tracing.config import TracingSettings
from services.kernel.errors import DomainError

CANCELLED: Final = "CANCELLED"

UNASKED_MAX: Final = 100
"""Spans a second of calls that were not sampled: in an outage thousands fail, all alike."""

Value = str | int | float | bool


class Kind(IntEnum):
    """As the protocol numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One piece of work that is over."""

    name: str
    kind: Kind
    trace: TraceContext
    """Its own place in the trace."""

    parent_id: str
    """Empty: it is the first of its trace."""

    begun_ns: int
    """Unix time."""

    ended_ns: int
    attributes: Mapping[str, Value]
    """By the names of the semantic conventions, where those have one."""

    error: str = ""
    """A code, a reason or the name of an exception, never its text. Empty: nothing went wrong."""

    events: tuple[Event, ...] = ()


class Exporter(Protocol):
    """Takes spans without ever blocking."""

    lost: int
    """How many nobody will see."""

    def put(self, span: Span) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Process:
    """What is so for all of it."""

    exporter: Exporter | None = None
    slow_s: float = TracingSettings().slow_s
    second: int = 0
    unasked: int = 0
    """Written in that second although they were not sampled."""


_process = _Process()


def configure(settings: TracingSettings, *, service: str, instance: str) -> None:
    """Has the spans of this process exported as the settings say, under these names. Once."""
    _process.slow_s = settings.slow_s
    if settings.otlp_endpoint:
        from services.chassis.tracing import otlp  # noqa: PLC0415 (4 MB that only exporting needs)

        _process.exporter = otlp.exporter(settings.otlp_endpoint, service=service, instance=instance)


def close() -> None:
    """Exports what is left, within FLUSH_MAX_S; for those about to leave."""
    leaving, _process.exporter = _process.exporter, None
    if leaving is not None:
        leaving.close()


def lost() -> int:
    """How many spans the collector did not get; what a metric shows."""
    return 0 if _process.exporter is None else _process.exporter.lost


@contextmanager
def captured(*, slow_s: float = 60.0) -> Iterator[list[Span]]:
    """Collects the spans written inside instead of exporting them; for tests."""
    before = _process.exporter, _process.slow_s
    spans: list[Span] = []
    _process.exporter, _process.slow_s = _Kept(spans), slow_s
    try:
        yield spans
    finally:
        _process.exporter, _process.slow_s = before


class _Kept:
    """Stands in for an exporter."""

    lost = 0

    def __init__(self, spans: list[Span]) -> None:
        self.put = spans.append

    def close(self) -> None:
        """There is nothing left to do."""


def is_on() -> bool:
    """Whether spans are exported at all."""
    return _process.exporter is not None


def is_slow(duration_s: float) -> bool:
    """Whether a call took so long that its span is written in any case."""
    return duration_s >= _process.slow_s


def is_wanted(trace: TraceContext, *, failed: bool, slow: bool) -> bool:
    """Whether something that is over has its span: sampled, or else if it is worth one and there is room."""
    return trace.is_sampled or ((failed or slow) and takes_unasked())


def takes_unasked() -> bool:
    """Whether there is room for the span of one more call that was not sampled."""
    second = int(time.monotonic())
    if second != _process.second:
        _process.second, _process.unasked = second, 0
    _process.unasked += 1
    return _process.unasked <= UNASKED_MAX


def sampled() -> TraceContext | None:
    """The place of the request at hand, if spans are to be written for it."""
    if _process.exporter is None:
        return None
    request = context.current()
    return request.trace if request is not None and request.trace.is_sampled else None


def write(span: Span) -> None:
    """Tells of work that is over; from any thread."""
    if _process.exporter is not None:
        _process.exporter.put(span)


def ended(
    name: str,
    kind: Kind,
    trace: TraceContext,
    parent_id: str,
    attributes: Mapping[str, Value],
    *,
    duration_s: float,
    error: str = "",
    events: tuple[Event, ...] = (),
) -> None:
    """Writes the span of what has just ended and took so long."""
    now_ns = time.time_ns()
    begun_ns = now_ns - int(duration_s * 1e9)
    write(Span(name, kind, trace, parent_id, begun_ns, now_ns, attributes, error, events))


@contextmanager
def working(
    name: str, attributes: Mapping[str, Value], kind: Kind = Kind.INTERNAL
) -> Iterator[dict[str, Value]]:
    """What happens inside is a span of its own, if the request at hand is sampled.

    Yields its attributes, for what is known only later. What is noted on the request inside stays inside.
    """
    parent, request, told = sampled(), context.current(), {**attributes}
    if parent is None or request is None:
        yield told
        return
    inner = copy.copy(request)
    inner.trace = parent.child()
    with context.working_on(inner), written(name, kind, inner.trace, parent.span_id, told):
        yield told


@contextmanager
def written(
    name: str, kind: Kind, trace: TraceContext, parent_id: str, attributes: Mapping[str, Value]
) -> Iterator[None]:
    """Writes the span of what happens inside, whose place in the trace is known."""
    begun_ns, error = time.time_ns(), ""
    try:
        yield
    except BaseException as raised:
        error = problem(raised)
        raise
    finally:
        write(Span(name, kind, trace, parent_id, begun_ns, time.time_ns(), attributes, error))


def problem(error: BaseException) -> str:
    """What a span says of an exception; nothing of a refusal, which is an answer."""
    if isinstance(error, DomainError):
        return ""
    return CANCELLED if isinstance(error, asyncio.CancelledError) else type(error).__name__
