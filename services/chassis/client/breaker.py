"""Leaves alone for a moment what keeps failing, method by method: see `policy.circuit`.

A failure is no answer, a bug's answer, or an answer after most of the time that the contract gives. Refusals
are answers. A caller who left, or whose own time was short, says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from services.chassis import status, telemetry
from services.chassis.client.layer import Outgoing, Send
from services.chassis.client.unsent import CircuitOpen, unsent, was_sent
from services.chassis.contract import Method
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import DEFAULT, Circuit, Limits, State

SLOW_SHARE: Final = 0.6  # of the contract's deadline: callers give what they have left, which is less

# From a neighbour that is well and knows how much it can take: an open circuit would keep even that from it.
OVERLOADED: Final = "OVERLOADED"

_FAILURES: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})

_log = telemetry.logger("breaker")


@dataclass(slots=True)
class _Watched:
    """A circuit, and the state that was last told of it."""

    circuit: Circuit
    told: State = State.CLOSED


class Breaker:
    """The circuits of one target, whichever channel calls it."""

    def __init__(
        self, target: str, metrics: Metrics, monotonic: Callable[[], float], limits: Limits = DEFAULT
    ) -> None:
        self._target = target
        self._metrics = metrics
        self._monotonic = monotonic
        self._limits = limits
        self._watched: dict[str, _Watched] = {}

    def around(self, method: Method, inner: Send) -> Send:
        watched, monotonic = self._of(method), self._monotonic
        circuit = watched.circuit
        slow_s = SLOW_SHARE * method.deadline_s

        async def guarded(call: Outgoing) -> Any:
            begun = monotonic()
            era = circuit.admit(begun)
            if era is None:
                raise unsent(CircuitOpen(method=method.path, retry_in_s=circuit.retry_in_s(begun)))
            failed: bool | None = None
            try:
                reply = await inner(call)
                failed = monotonic() - begun >= slow_s
            except grpc.aio.AioRpcError as error:
                failed = _failed(error, is_slow=monotonic() - begun >= slow_s)
                raise
            else:
                return reply
            finally:
                circuit.ended(era, failed=failed, now=monotonic())
                if circuit.state is not watched.told:
                    self._tell(method, watched)

        return guarded

    def _of(self, method: Method) -> _Watched:
        watched = self._watched.get(method.path)
        if watched is None:
            circuit = Circuit(self._limits)
            watched = self._watched[method.path] = _Watched(circuit)
            self._metrics.circuit_state.labels(self._target, method.service, method.name).set_function(
                lambda: float(circuit.state_at(self._monotonic()))
            )
        return watched

    def _tell(self, method: Method, watched: _Watched) -> None:
        """Once for every change; half open is no news, only what it leads to."""
        state = watched.circuit.state
        if state is State.HALF_OPEN:
            return
        watched.told = state
        _log.warning("circuit", state=state.name.lower(), target=self._target, method=method.path)
        self._metrics.circuit_changes.labels(
            self._target, method.service, method.name, state.name.lower()
        ).inc()


def _failed(error: grpc.aio.AioRpcError, *, is_slow: bool) -> bool | None:
    """What an error says of the neighbour; None is nothing."""
    code = error.code()
    if code in _FAILURES:
        if not was_sent(error):
            return None
        return status.reason(error) != OVERLOADED or is_slow
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True if is_slow else None  # else it was the caller's own time that was short
    return None if code is grpc.StatusCode.CANCELLED else is_slow
