"""What a call inherits from the request it is made for: its place in the trace, and on whose behalf it is.

Each call is a span of its own under ours (https://www.w3.org/TR/trace-context/). A user's own token goes
along if there is one, else their name, which is believed of services of the house only, by their certificate.
"""

from collections.abc import Awaitable
from typing import Any, Final

from services.chassis import context
from services.chassis.client.layer import Outgoing, Send
from services.chassis.context import AUTHORIZATION, ON_BEHALF_OF, TRACEPARENT, TraceContext
from services.chassis.contract import Method

BEARER: Final = "Bearer "

Metadata = tuple[tuple[str, str], ...]


class Inherited:
    def around(self, method: Method, inner: Send) -> Send:
        del method

        def inheriting(call: Outgoing) -> Awaitable[Any]:
            call.metadata += inherited()
            return inner(call)

        return inheriting


def inherited(*, is_span: bool = True) -> Metadata:
    """The metadata of a call made now; one that is no span of its own takes place in ours."""
    request = context.current()
    if request is None:
        return ((TRACEPARENT, str(TraceContext.fresh())),)
    place = request.trace.child() if is_span else request.trace
    trace, caller = (TRACEPARENT, str(place)), request.caller
    if caller.token:
        return (trace, (AUTHORIZATION, BEARER + caller.token))
    return (trace, (ON_BEHALF_OF, caller.on_behalf_of)) if caller.on_behalf_of else (trace,)
