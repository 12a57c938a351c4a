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
        return RequestContext(
            sampling.from_anyone(metadata.get(TRACEPARENT), context),
            method,
            deadline=now + given(method, asked_s),
            # grpc cancels the handler when the time is over that the client asked for, if it asked for any.
            is_held=asked_s is not None and asked_s <= DEADLINE_MAX_S,
            metadata=metadata,
            labels=_labels(request) if takes_request_id else {},
        )

    return opened


def given(method: Method, asked_s: float | None) -> float:
    """Seconds a call has, of those its caller asked for.

    A unary call may be given more than its contract says, a stream never: for streams that is their age.
    """
    if asked_s is None:
        return method.deadline_s
    return min(method.deadline_s if method.is_stream else method.deadline_max_s, asked_s)


def _labels(request: Any) -> dict[str, str]:
    request_id = getattr(request, REQUEST_ID, "")  # what could not be parsed arrives without fields
    return {REQUEST_ID: request_id[:REQUEST_ID_CHARS_MAX]} if request_id else {}
