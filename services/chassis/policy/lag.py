"""The time that a loop lost: it was busy, or its process not let run. Pure; who asks says what time it is.

Answers that came meanwhile are heard late, which is no doing of those who gave them.
"""

from collections import deque
from itertools import takewhile
from typing import Final

EVERY_S: Final = 0.05  # between two ticks: what is lost in between goes unnoticed
NOTICED_S: Final = 0.01  # less is no delay that anybody would be blamed for
KEPT: Final = 2400  # two minutes of ticks that are all late; a call lasts one at most


class Lag:
    """Is to be told of a tick every so often, by the loop."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._lost: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def ticked(self, now: float) -> None:
        late_s = self._late_s(now)
        if late_s >= NOTICED_S:
            self._lost.append((now, late_s))
        self._due = now + EVERY_S

    def lost_s(self, since: float, now: float) -> float:
        """How much of the time since then was lost."""
        ticks = takewhile(lambda tick: tick[0] > since, reversed(self._lost))
        known_s = sum(min(late_s, ticked - since) for ticked, late_s in ticks)
        return known_s + min(self._late_s(now), now - since)

    def _late_s(self, now: float) -> float:
        """Of the tick that is due."""
        return 0.0 if self._due is None else max(now - self._due, 0.0)
