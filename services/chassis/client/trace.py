"""Hands the trace on (https://www.w3.org/TR/trace-context/): each call is a span of its own under ours."""

from typing import Any, Final

from services.chassis import context
from services.chassis.client.layer import Outgoing, Send
from services.chassis.context import TraceContext
from services.chassis.contract import Method

TRACEPARENT: Final = "traceparent"


class Trace:
    def around(self, method: Method, inner: Send) -> Send:
        del method

        async def traced(call: Outgoing) -> Any:
            call.metadata = (*call.metadata, (TRACEPARENT, traceparent()))
            return await inner(call)

        return traced


def traceparent() -> str:
    """The header of a call made now."""
    request = context.current()
    return str(request.trace.child() if request else TraceContext.fresh())
