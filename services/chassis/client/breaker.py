"""Leaves alone for a moment what keeps failing, method by method: see `policy.circuit`.

A failure is no answer, a bug's answer, or an answer after most of the time that the contract gives. Refusals
are answers. A caller who left, or whose own time was short, says nothing; nor does a late answer of a method
that `waits`, as its contract says.
"""

from collections.abc import Callable
from typing import Any, Final

import grpc

from services.chassis import status, telemetry
from services.chassis.client.layer import Outgoing, Send
from services.chassis.client.unsent import CircuitOpen, unsent, was_sent
from services.chassis.contract import Method
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import DEFAULT, Circuit, Limits, State
from services.chassis.policy.limiter import OVERLOADED

SLOW_SHARE: Final = 0.6  # of the contract's deadline: callers give what they have left, which is less

_FAILURES: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})

_log = telemetry.logger("breaker")


class Watched:
    """The circuit of one method, and who is told when it changes."""

    __slots__ = ("_changed", "_circuit", "_method", "_told")

    def __init__(self, method: Method, limits: Limits, changed: Callable[[Method, State], None]) -> None:
        self._method = method
        self._circuit = Circuit(limits)
        self._changed = changed
        self._told = State.CLOSED

    def admit(self, now: float) -> int:
        """What to tell `ended` of a call that may be made now. Raises CircuitOpen."""
        era = self._circuit.admit(now)
        if era is None:
            raise CircuitOpen(method=self._method.path, retry_in_s=self._circuit.retry_in_s(now))
        return era

    def refuses(self, now: float) -> bool:
        """See `Circuit.refuses`."""
        return self._circuit.refuses(now)

    def ended(self, era: int, failed: bool | None, now: float) -> None:  # noqa: FBT001
        """See `Circuit.ended`. Every change is told once; half open is no news, only what it leads to."""
        circuit = self._circuit
        circuit.ended(era, failed=failed, now=now)
        if circuit.state is not self._told and circuit.state is not State.HALF_OPEN:
            self._told = circuit.state
            self._changed(self._method, circuit.state)

    def state_at(self, now: float) -> State:
        return self._circuit.state_at(now)


class Breaker:
    """The circuits of one target, whichever channel calls it."""

    def __init__(
        self, target: str, metrics: Metrics, monotonic: Callable[[], float], limits: Limits = DEFAULT
    ) -> None:
        self._target = target
        self._metrics = metrics
        self._monotonic = monotonic
        self._limits = limits
        self._watched: dict[str, Watched] = {}

    def around(self, method: Method, inner: Send) -> Send:
        watched, monotonic = self.of(method), self._monotonic
        slow_s, waits = SLOW_SHARE * method.deadline_s, method.waits

        async def guarded(call: Outgoing) -> Any:
            begun = monotonic()
            try:
                era = watched.admit(begun)
            except CircuitOpen as refused:
                raise unsent(refused) from None
            failed: bool | None = None
            try:
                reply = await inner(call)
                failed = not waits and monotonic() - begun >= slow_s
            except grpc.aio.AioRpcError as error:
                failed = tells_of(error, is_slow=monotonic() - begun >= slow_s, waits=waits)
                raise
            else:
                return reply
            finally:
                watched.ended(era, failed, monotonic())

        return guarded

    def of(self, method: Method) -> Watched:
        """The one circuit of this method, for whoever makes calls without the onion."""
        watched = self._watched.get(method.path)
        if watched is None:
            watched = self._watched[method.path] = Watched(method, self._limits, self._tell)
            self._metrics.circuit_state.labels(self._target, method.service, method.name).set_function(
                lambda: float(watched.state_at(self._monotonic()))
            )
        return watched

    def _tell(self, method: Method, state: State) -> None:
        _log.warning("circuit", state=state.name.lower(), target=self._target, method=method.path)
        self._metrics.circuit_changes.labels(
            self._target, method.service, method.name, state.name.lower()
        ).inc()


def tells_of(error: grpc.aio.AioRpcError, *, is_slow: bool, waits: bool) -> bool | None:
    """Whether an error speaks of a failing neighbour; None: it says nothing of it."""
    code = error.code()
    if code in _FAILURES:
        if not was_sent(error):
            return None
        # A neighbour that has too much to do is well; an open circuit would keep even what it can do from it.
        is_well = status.reason(error) == OVERLOADED or status.is_busy(error)
        return is_slow or not is_well
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True if is_slow else None  # else it was the caller's own time that was short
    return None if code is grpc.StatusCode.CANCELLED else is_slow and not waits
