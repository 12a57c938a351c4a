"""What is known of a call when it arrives: its place in the trace, its deadline, what it says of itself."""

from collections.abc import Callable
from typing import Any, Final

from services.chassis.context import (
    AUTHORIZATION,
    ON_BEHALF_OF,
    TRACEPARENT,
    RequestContext,
)
from services.chassis.contract import DEADLINE_MAX_S, Method
from services.chassis.server.gate import Context
from services.chassis.tracing.sampling import Sampling

UNDERSTOOD: Final = frozenset({TRACEPARENT, AUTHORIZATION, ON_BEHALF_OF})
REQUEST_ID: Final = "request_id"
REQUEST_ID_CHARS_MAX: Final = 255  # as contracts allow; it is not validated yet

Opening = Callable[[Any, Context, float], RequestContext]


def opening(method: Method, sampling: Sampling) -> Opening:
    """What makes the context in which everything about a call of this method happens."""
    takes_request_id = method.takes_request_id

    def opened(request: Any, context: Context, now: float) -> RequestContext:
        metadata: dict[str, str] = {}
        for key, value in context.invocation_metadata() or ():
            if key in UNDERSTOOD:
                # Which of two would be meant is not ours to guess.
                metadata[key] = value if key not in metadata and isinstance(value, str) else ""
        asked_s = context.time_remaining()
        given_s = given(method, asked_s)
        return RequestContext(
            sampling.from_anyone(metadata.get(TRACEPARENT), context),
            method,
            deadline=None if given_s is None else now + given_s,
            # grpc cancels the handler when the time is over that the client asked for, if it asked for any.
            is_held=given_s is None or (asked_s is not None and asked_s <= DEADLINE_MAX_S),
            metadata=metadata,
            labels=_labels(request) if takes_request_id else {},
        )

    return opened


def given(method: Method, asked_s: float | None) -> float | None:
    """Seconds a call has, of those its caller asked for; None is no limit.

    A unary call has a limit always, and so has a stream whose contract names one; any other stream lives as
    long as its caller lets it.
    """
    if method.is_stream:
        if method.policy is None or not method.policy.HasField("deadline"):
            return asked_s
        return method.deadline_s if asked_s is None else min(method.deadline_s, asked_s)
    return method.deadline_s if asked_s is None else min(method.deadline_max_s, asked_s)


def _labels(request: Any) -> dict[str, str]:
    request_id = getattr(request, REQUEST_ID, "")  # what could not be parsed arrives without fields
    return {REQUEST_ID: request_id[:REQUEST_ID_CHARS_MAX]} if request_id else {}
