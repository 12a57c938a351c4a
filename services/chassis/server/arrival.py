"""What is known of a call when it arrives: its place in the trace, its deadline."""

from collections.abc import Callable
from typing import Any, Final

from services.chassis import contract
from services.chassis.context import RequestContext, TraceContext
from services.chassis.contract import Method
from services.chassis.server.layer import Context

TRACEPARENT: Final = "traceparent"
REQUEST_ID: Final = "request_id"
REQUEST_ID_CHARS_MAX: Final = 255  # as contracts allow; it is not validated yet


def request_context(
    method: Method, request: Any, context: Context, monotonic: Callable[[], float]
) -> RequestContext:
    """The context in which everything about this call happens."""
    traceparent = None
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT and isinstance(value, str):
            traceparent = value
            break
    given_s = given(method, context.time_remaining())
    return RequestContext(
        trace=TraceContext.continued(traceparent),
        method=method,
        deadline=None if given_s is None else monotonic() + given_s,
        labels=_labels(method, request),
    )


def given(method: Method, asked_s: float | None) -> float | None:
    """Seconds a call has, of those its caller asked for; None is no limit.

    A unary call has a limit always. A stream lives as long as its caller and its contract let it.
    """
    if not method.descriptor.server_streaming:
        return method.deadline_s if asked_s is None else min(asked_s, contract.DEADLINE_MAX_S)
    if asked_s is None and method.policy is not None and method.policy.HasField("deadline"):
        return method.deadline_s
    return asked_s


def _labels(method: Method, request: Any) -> dict[str, str]:
    # getattr: what could not be parsed arrives as a stand-in without fields.
    request_id = getattr(request, REQUEST_ID, "") if method.takes_request_id else ""
    return {REQUEST_ID: request_id[:REQUEST_ID_CHARS_MAX]} if request_id else {}
