"""Bounds how many calls to one target wait for an answer, so that a hanging one sinks nobody else.

Who comes when it is full is refused at once: a queue would only make them wait for what hangs.
"""

from typing import Any, Final

from services.chassis.client.layer import Outgoing, Send
from services.chassis.client.unsent import BulkheadFull, unsent
from services.chassis.contract import Method
from services.chassis.metrics import Metrics

# A neighbour that answers in 50 ms gets 5,000 calls a second through this; one that hangs costs some MB.
IN_FLIGHT_MAX: Final = 256
# Of these for CRITICAL methods alone: as many as the order service drives orders at once.
CRITICAL_RESERVE: Final = 64
RETRY_IN_S: Final = 0.1  # room is made by every call that ends


class Bulkhead:
    """Room for calls to one target, whichever channel they take."""

    def __init__(self, target: str, metrics: Metrics, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self.in_flight = 0
        self._in_flight_max = in_flight_max
        self._refused = metrics.bulkhead_refused.labels(target)
        metrics.bulkhead_in_flight.labels(target).set_function(lambda: float(self.in_flight))

    def around(self, method: Method, inner: Send) -> Send:
        reserve = 0 if method.is_critical else min(CRITICAL_RESERVE, self._in_flight_max // 4)
        room = self._in_flight_max - reserve

        async def bounded(call: Outgoing) -> Any:
            if self.in_flight >= room:
                self._refused.inc()
                raise unsent(BulkheadFull(method=method.path, retry_in_s=RETRY_IN_S))
            self.in_flight += 1
            try:
                return await inner(call)
            finally:
                self.in_flight -= 1

        return bounded
