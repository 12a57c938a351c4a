"""The span of a call that is served: of those that are sampled, and of those that failed or were slow."""

from collections.abc import Callable

from services.chassis import tracing
from services.chassis.context import TRACEPARENT, RequestContext, TraceContext
from services.chassis.contract import Method
from services.chassis.policy.limiter import OVERLOADED
from services.chassis.tracing import Kind, names
from services.chassis.tracing.calls import FAILURES, attributes

Traced = Callable[[RequestContext, str, str, float], None]


def tracing_of(method: Method) -> Traced:
    """What to call when a call of this method ends: with its request, code, reason and seconds."""
    path, is_stream = method.path.removeprefix("/"), method.is_stream

    def traced(call: RequestContext, code: str, reason: str, duration_s: float) -> None:
        if not tracing.is_on():
            return
        failed = code in FAILURES and reason != OVERLOADED  # shedding tells of those, together
        slow = not is_stream and tracing.is_slow(duration_s)
        if tracing.is_wanted(call.trace, failed=failed, slow=slow):
            _write(path, call, code, reason, duration_s)

    return traced


def _write(path: str, call: RequestContext, code: str, reason: str, duration_s: float) -> None:
    parent = TraceContext.parse(call.metadata.get(TRACEPARENT))
    told = attributes(path, code)
    if reason:
        told[names.REASON] = reason
    error = (reason or code) if code in FAILURES else ""
    parent_id = parent.span_id if parent else ""
    tracing.ended(path, Kind.SERVER, call.trace, parent_id, told, duration_s=duration_s, error=error)
