"""How fast work that had to wait is taken up again: beside what comes anew, not in its place.

While a neighbour is away everything waits for it, and all of it is due when the neighbour is back: a
thundering herd, on somebody who has just got up. So it is let go from a token bucket whose rate follows what
comes anew, for that is what the neighbour is built for. What comes of it teaches more, as in TCP's slow start
(RFC 5681): whatever comes through makes room for more, what fails halves that. Pure; whoever asks says what
time it is.

An outage of t seconds leaves t times the usual rate, which with the limits below is gone in 100 ln(1 + t/200)
seconds: that of a minute in half of one, of an hour in five minutes, of a day in ten.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is let go at a time."""

    share: float = 2.0
    """Times what comes anew: three times the usual in all, and enough where a neighbour fails half its calls,
    which makes every order with two calls wait twice."""

    least_per_s: float = 20.0
    """Where hardly anything comes anew, or nobody has counted yet: no neighbour is brought down by that."""

    growth: float = 0.01
    """More each second for one that came through: doubles the rate in 70 s, however high it is."""

    burst_s: float = 0.25
    """What may be let go together; if so much waits, half of it at least: one commit for all of that."""

    under_way_max: int = 32
    """Let go and not ended; of slow ones fewer go, and there are hands left for what comes anew."""

    usual_s: float = 30.0
    """Over how long what comes anew is averaged."""


DEFAULT: Final = Limits()


class Ending(Enum):
    """What came of something that was let go."""

    THROUGH = auto()
    FAILED = auto()
    UNSENT = auto()
    """It never reached the neighbour, and so cost nobody anything: another may go in its place."""


class Pacer:
    """Decides how much may go. `now` is monotonic seconds."""

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._usual_per_s = 0.0
        self._more_per_s = 0.0
        self._tokens = 0.0
        self._at = -math.inf
        self._under_way = 0

    @property
    def per_s(self) -> float:
        """How much is let go each second."""
        limits = self._limits
        return max(limits.least_per_s, limits.share * self._usual_per_s) + self._more_per_s

    def came_anew(self, now: float) -> None:
        """One more began that did not have to wait."""
        self._pass(now)
        self._usual_per_s += 1 / self._limits.usual_s

    def room(self, now: float) -> int:
        """How many may go now; none while there are few tokens."""
        self._pass(now)
        if self._tokens < self._worthwhile:
            return 0
        return min(int(self._tokens), self._limits.under_way_max - self._under_way)

    def ready_in_s(self, now: float) -> float:
        """Seconds until there may be room, unless something ends before that; 0 if there is."""
        if self.room(now) > 0:
            return 0.0
        return max(self._worthwhile - self._tokens, 0.0) / self.per_s or self._limits.burst_s

    def let_go(self, number: int) -> None:
        """So many went."""
        self._tokens -= number
        self._under_way += number

    def ended(self, ending: Ending) -> None:
        """One of those is over."""
        self._under_way -= 1
        if ending is Ending.THROUGH:
            self._more_per_s += self._limits.growth
        elif ending is Ending.FAILED:
            self._more_per_s /= 2
        else:
            self._tokens = min(self._tokens + 1, self._size)

    def nothing_waits(self) -> None:
        """All that was due has gone: what was learned was about this backlog, and the next begins anew."""
        self._more_per_s = 0.0

    @property
    def _size(self) -> float:
        return max(self.per_s * self._limits.burst_s, 1.0)

    @property
    def _worthwhile(self) -> float:
        return max(self._size / 2, 1.0)

    def _pass(self, now: float) -> None:
        elapsed_s = now - self._at
        self._at = now
        self._usual_per_s *= math.exp(-elapsed_s / self._limits.usual_s)
        self._tokens = min(self._tokens + elapsed_s * self.per_s, self._size)
