"""The span of a call that is made: one, however many attempts it takes; those are told in it."""

from collections.abc import Callable

from services.chassis import tracing
from services.chassis.client.layer import Outgoing
from services.chassis.context import TRACEPARENT, TraceContext
from services.chassis.contract import Method
from services.chassis.tracing import Kind
from services.chassis.tracing.calls import FAILURES, attributes

Traced = Callable[[Outgoing, str, float], None]


def tracing_of(method: Method) -> Traced:
    """What to call when a call of this method ends: with its code and seconds."""
    path = method.path.removeprefix("/")

    def traced(call: Outgoing, code: str, duration_s: float) -> None:
        parent = tracing.sampled()
        place = None if parent is None else _place(call)
        if parent is None or place is None:
            return
        error = code if code in FAILURES else ""
        tracing.ended(
            path,
            Kind.CLIENT,
            place,
            parent.span_id,
            attributes(path, code),
            duration_s=duration_s,
            error=error,
            events=call.failures,
        )

    return traced


def _place(call: Outgoing) -> TraceContext | None:
    """The call's own, which its server was told is its parent."""
    for key, value in reversed(call.metadata):
        if key == TRACEPARENT and isinstance(value, str):
            return TraceContext.parse(value)
    return None
