"""Keeps to itself a backend that fails or hangs: what the client onion of services does, for calls of bytes.

Whoever makes a call `enter`s before and `leave`s after it, which costs no coroutine, and `look`s before any
work for it: what is refused must have cost next to nothing. A method that keeps failing is left alone for a
moment; no backend holds more than its share of what the edge can hold.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from gateway.backends import Call
from gateway.errors import is_dropped
from services.chassis.client.breaker import SLOW_SHARE, Breaker, Watched, tells_of
from services.chassis.client.dropped import dropped
from services.chassis.client.unsent import BulkheadFull, CircuitOpen, RefusedHere
from services.chassis.contract import Method
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import Limits
from services.chassis.policy.lag import EVERY_S, Lag
from services.chassis.policy.limiter import SHARES, Limiter, priority_of

RETRY_IN_S: Final = 1.0  # the header knows nothing shorter

# Of what the edge works on at once, for one backend. A quarter is enough for all others until its circuits
# open; with half, the limiter would see a busy backend's edge as one that has nothing to do.
SHARE: Final = 0.75

# Only what fails nearly always is left alone. Half of the answers is what one of two instances still gives,
# or the edge itself when it has too much to do: who closes the method then keeps everyone from the good half.
CIRCUITS: Final = Limits(failure_rate=0.9)

# Whoever may ask anything could else close a method to all others, by asking ten times for what hits a bug.
_ANSWERS: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


class Room:
    """The calls to one target that wait for an answer, and how many may."""

    __slots__ = ("critical_in_flight", "in_flight", "limiter", "on_full")

    def __init__(self, limiter: Limiter, on_full: Callable[[], object]) -> None:
        self.in_flight = 0
        self.critical_in_flight = 0
        self.limiter = limiter
        self.on_full = on_full


class Ward:
    """What is between one method and those who call it."""

    __slots__ = (
        "_circuit",
        "_is_critical",
        "_is_ours",
        "_lag",
        "_method",
        "_room",
        "_share",
        "_slow_s",
        "_waits",
    )

    def __init__(self, method: Method, circuit: Watched, room: Room, lag: Lag) -> None:
        self._method = method
        self._circuit = circuit
        self._room = room
        self._lag = lag
        self._is_critical = method.is_critical
        self._share = SHARE * SHARES[priority_of(method)]
        self._slow_s = SLOW_SHARE * method.deadline_s
        self._is_ours = method.policy is not None
        self._waits = method.waits

    def look(self, now: float) -> None:
        """Raises what `enter` would, as things are."""
        if (refused := self.closed(now)) is not None:
            raise self.refusal(refused)

    def closed(self, now: float, coming: int = 0) -> type[RefusedHere] | None:
        """What `look` would raise if so many more were here already.

        As in the limiter, what was let in before the limit fell is not held against what is critical.
        """
        if self._circuit.refuses(now):
            return CircuitOpen
        room = self._room
        in_flight = room.critical_in_flight if self._is_critical else room.in_flight
        if in_flight + coming < room.limiter.limit * self._share:
            return None
        room.on_full()
        return BulkheadFull

    def refusal(self, kind: type[RefusedHere]) -> RefusedHere:
        return kind(method=self._method.path, retry_in_s=RETRY_IN_S)

    def enter(self, now: float) -> int:
        """What to tell `leave` of a call that may be made. Raises CircuitOpen or BulkheadFull."""
        self.look(now)
        era = self._circuit.admit(now)
        room = self._room
        room.in_flight += 1
        room.critical_in_flight += self._is_critical
        return era

    def leave(self, era: int, failed: bool | None, now: float) -> None:  # noqa: FBT001
        """The call has ended; `failed` as `judge` has it, or None if it says nothing of the backend."""
        self._room.in_flight -= 1
        self._room.critical_in_flight -= self._is_critical
        self._circuit.ended(era, failed, now)

    def judge(self, error: grpc.aio.AioRpcError | None, begun: float, now: float) -> bool | None:
        """Whether a call that ended so, and lasted so long, speaks of a backend that fails."""
        took_s = now - begun
        is_late = took_s >= self._slow_s and took_s - self._lag.lost_s(begun, now) >= self._slow_s
        if error is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return True if is_late else None  # else it was the client that had no time
        is_slow = is_late and not self._room.limiter.is_slow  # or is it the edge that has too much to do?
        if error is None:
            return is_slow and self._is_ours and not self._waits  # of others nobody knows what is slow
        if error.code() in _ANSWERS:
            return is_slow
        return tells_of(dropped(error) if is_dropped(error) else error, is_slow=is_slow, waits=self._waits)


class Isolation:
    """The wards of all methods, and the rooms of all targets."""

    def __init__(self, metrics: Metrics, limiter: Limiter, limits: Limits = CIRCUITS) -> None:
        self._metrics = metrics
        self._limiter = limiter
        self._limits = limits
        self._lag = Lag()
        self._targets: dict[str, tuple[Breaker, Room]] = {}

    def ward(self, target: str, method: Method) -> Ward:
        breaker, room = self._at(target)
        return Ward(method, breaker.of(method), room, self._lag)

    async def keep_time(self) -> None:
        """Sees what time we lose ourselves, for no backend is to be judged by that."""
        while True:
            self._lag.ticked(time.perf_counter())
            await asyncio.sleep(EVERY_S)

    def guarded(self, target: str, method: Method, call: Call) -> Call:
        """The call with its ward around it, for what the edge asks on its own account."""
        ward = self.ward(target, method)

        async def made(request: bytes, **options: Any) -> Any:
            begun = time.perf_counter()
            era = ward.enter(begun)
            failed: bool | None = None
            try:
                reply = await call(request, **options)
                failed = ward.judge(None, begun, time.perf_counter())
            except grpc.aio.AioRpcError as error:
                failed = ward.judge(error, begun, time.perf_counter())
                raise
            else:
                return reply
            finally:
                ward.leave(era, failed, time.perf_counter())

        return made

    def _at(self, target: str) -> tuple[Breaker, Room]:
        found = self._targets.get(target)
        if found is None:
            room = Room(self._limiter, self._metrics.bulkhead_refused.labels(target).inc)
            self._metrics.bulkhead_in_flight.labels(target).set_function(lambda: float(room.in_flight))
            breaker = Breaker(target, self._metrics, time.perf_counter, self._limits)
            found = self._targets[target] = (breaker, room)
        return found
