"""Refuses what this server cannot do in good time beside all else it does: the less important first.

What it costs decides whether it helps, so refusals are made before anyone needs them, and told of together.
A stream is refused like any call, but not counted: it lives for an hour and does next to nothing.
"""

from collections.abc import Callable
from typing import Any, Final

from services.chassis import status, telemetry
from services.chassis.context import RequestContext
from services.chassis.contract import Method
from services.chassis.policy.limiter import Limiter, priority_of, waits
from services.chassis.server.gate import Context, Guard
from services.chassis.server.telemetry import DEADLINE_EXCEEDED, OK
from services.chassis.status import Refused
from services.kernel import errors

WAIT_MEAN_S: Final = 1.0  # limits shrink and grow within seconds
REFUSALS: Final = 32  # different ones; more would not spread better
TELL_EVERY_S: Final = 1.0

TELLING: Final = frozenset({OK, DEADLINE_EXCEEDED})
"""How calls end that tell something of our pace."""

WAITS_S: Final = waits(REFUSALS, WAIT_MEAN_S)

Left = Callable[[str, float, float], None]
"""Is told how an admitted call ended: the code, the seconds that it was worked on, and the time."""

_log = telemetry.logger("shedding")


class Overloaded(errors.Unavailable):
    """There is more to do than can be done in time; the same request may succeed in a moment."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.retry_after_s = wait_s  # each another one


class Shed(Refused):
    """`Overloaded`, rendered beforehand."""

    reason = Overloaded.reason


class Refusals:
    """Those of one limiter: each has another wait, and they are told of together."""

    def __init__(self, limiter: Limiter, monotonic: Callable[[], float]) -> None:
        self._limiter = limiter
        self._monotonic = monotonic
        self._made = 0
        self._told = 0
        self._told_at = float("-inf")

    def another(self) -> int:
        """Which of the waits is told this time."""
        self._made += 1
        now = self._monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            _log.warning(
                "overloaded",
                refused=self._made - self._told,
                in_flight=self._limiter.in_flight,
                limit=self._limiter.limit,
            )
            self._told, self._told_at = self._made, now
        return self._made % REFUSALS


class Shedding:
    """The gate, and what tells it how calls end."""

    def __init__(self, monotonic: Callable[[], float], limiter: Limiter | None = None) -> None:
        self.limiter = limiter or Limiter()
        self._refusals = Refusals(self.limiter, monotonic)
        self._statuses = [status.from_error(Overloaded(wait_s)) for wait_s in WAITS_S]

    def guard(self, method: Method) -> Guard:
        limiter, priority = self.limiter, priority_of(method)

        def has_room(_request: Any, _call: RequestContext, _context: Context) -> None:
            if not limiter.has_room(priority):
                raise self._shed()

        def enters(_request: Any, call: RequestContext, _context: Context) -> None:
            if not limiter.enter(priority):
                raise self._shed()
            call.is_counted = True

        return has_room if method.is_stream else enters

    def leaving(self, method: Method) -> Left:
        """What to call when a call of this method that was counted has ended."""
        limiter, pace = self.limiter, self.limiter.pace(priority_of(method))

        def left(code: str, duration_s: float, now: float) -> None:
            if code in TELLING:
                limiter.leave_after(pace, duration_s, now)
            else:
                limiter.leave(pace)

        return left

    def _shed(self) -> Shed:
        return Shed(self._statuses[self._refusals.another()])
