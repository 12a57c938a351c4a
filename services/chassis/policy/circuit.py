"""Whether to call what keeps failing: a circuit breaker. Pure; whoever asks it says what time it is.

Closed, everything passes and is counted. Too many failures open it: nothing passes for a while. Then it is
half open, and a few probes are let through: when all of them succeed it closes, with the first that fails it
opens anew.
(M. Nygard, Release It!, 2nd edition, ch. 5; https://martinfowler.com/bliki/CircuitBreaker.html.)
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """As metrics show it: the larger, the worse."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """When a circuit opens, and how it closes again."""

    consecutive_failures: int = 10
    """In a row. Not fewer: the calls that a restarting neighbour drops all at once are no trend."""

    failure_rate: float = 0.5
    """Of the calls in the window: a neighbour that fails half of them serves nobody well."""

    calls_min: int = 20
    """In the window; the rate of fewer is chance."""

    bucket_s: float = 1.0
    buckets: int = 10
    """The window: long enough for rarely called methods, short enough to forget last minute's trouble."""

    open_s: float = 1.0
    """Long enough for a neighbour to get some air, and a wait that callers hardly notice once it is back."""

    probes: int = 3
    """One success may be luck; and three calls bring nobody down."""

    def __post_init__(self) -> None:
        assert min(self.consecutive_failures, self.calls_min, self.buckets, self.probes) >= 1
        assert 0 < self.failure_rate <= 1
        assert min(self.bucket_s, self.open_s) > 0


DEFAULT: Final = Limits()


class Circuit:
    """The circuit of one method of one target.

    `admit` before each call and `ended` after it, whatever came of it; `now` is monotonic seconds.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.state = State.CLOSED
        self._limits = limits
        self._era = 0
        self._window = Window(limits.bucket_s, limits.buckets)
        self._in_a_row = 0
        self._opens_until = 0.0
        self._probes = 0
        self._passed = 0

    def admit(self, now: float) -> int | None:
        """What to tell `ended` of a call that may be made now; None if it must not be made."""
        if self.state is State.CLOSED:
            return self._era
        if self.state is State.OPEN:
            if now < self._opens_until:
                return None
            self._enter(State.HALF_OPEN)
        if self._probes >= self._limits.probes:
            return None
        self._probes += 1
        return self._era

    def refuses(self, now: float) -> bool:
        """Whether `admit` would say no; asking changes nothing."""
        if self.state is State.OPEN:
            return now < self._opens_until
        return self.state is State.HALF_OPEN and self._probes >= self._limits.probes

    def ended(self, era: int, *, failed: bool | None, now: float) -> None:
        """A call that was admitted is over; `failed` is None if it says nothing about the neighbour."""
        if era != self._era:
            return  # begun before the last change: old news
        if self.state is State.HALF_OPEN:
            self._probed(failed, now)
        elif failed is not None:
            self._counted(failed, now)

    def retry_in_s(self, now: float) -> float:
        """Seconds until a call that is refused now may be admitted; 0 when closed."""
        if self.state is State.CLOSED:
            return 0.0
        if self.state is State.OPEN:
            return max(self._opens_until - now, 0.0)
        return self._limits.open_s  # the probes are out, and nobody knows for how long

    def state_at(self, now: float) -> State:
        """The state that a call made now would find."""
        if self.state is State.OPEN and now >= self._opens_until:
            return State.HALF_OPEN
        return self.state

    def _counted(self, failed: bool, now: float) -> None:  # noqa: FBT001
        window, limits = self._window, self._limits
        window.add(failed, now)
        if not failed:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        too_many = window.calls >= limits.calls_min and window.failures >= limits.failure_rate * window.calls
        if too_many or self._in_a_row >= limits.consecutive_failures:
            self._open(now)

    def _probed(self, failed: bool | None, now: float) -> None:  # noqa: FBT001
        if failed is None:
            self._probes -= 1  # another one shall find out
        elif failed:
            self._open(now)
        else:
            self._passed += 1
            if self._passed >= self._limits.probes:
                self._enter(State.CLOSED)

    def _open(self, now: float) -> None:
        self._opens_until = now + self._limits.open_s
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self.state = state
        self._era += 1
        self._in_a_row = self._probes = self._passed = 0
        self._window.clear()


class Window:
    """Counts calls and failures of the last so many seconds, bucket by bucket."""

    def __init__(self, bucket_s: float, buckets: int) -> None:
        self._bucket_s = bucket_s
        self._size = buckets
        self._newest = 0
        self.clear()

    def clear(self) -> None:
        self.calls = self.failures = 0
        self._calls = [0] * self._size
        self._failures = [0] * self._size

    def add(self, failed: bool, now: float) -> None:  # noqa: FBT001
        """One more call, ended now. The totals are those of the window that ends now."""
        bucket = int(now / self._bucket_s)
        if bucket != self._newest:
            self._turn_to(bucket)
        place = bucket % self._size
        self.calls += 1
        self._calls[place] += 1
        if failed:
            self.failures += 1
            self._failures[place] += 1

    def _turn_to(self, bucket: int) -> None:
        for passed in range(max(self._newest + 1, bucket - self._size + 1), bucket + 1):
            place = passed % self._size
            self.calls -= self._calls[place]
            self.failures -= self._failures[place]
            self._calls[place] = self._failures[place] = 0
        self._newest = bucket
