"""What is remembered while no message gets through, whoseever it is. Pure.

All wait then, and one asks on their behalf whether it is over: a mail server that was away for a night finds
every message still pending, in order, and until then is asked once a minute instead of once a message.
"""

from collections.abc import Callable
from typing import Final

from services.chassis.policy.backoff import Backoff

BACKOFF: Final = Backoff(first_s=1.0, max_s=60.0)
"""Who has mended something wants to see mail leave within a minute."""


class Outage:
    """Of all that is needed to send anything."""

    def __init__(self, *, monotonic: Callable[[], float], random: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._random = random
        self._failures = 0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return self._failures > 0

    def rest_s(self) -> float:
        """Seconds during which nothing is to be tried."""
        return max(0.0, self._until - self._monotonic()) if self.is_on else 0.0

    def sends_max(self, usual: int) -> int:
        """So many may be tried at once."""
        if not self.is_on:
            return usual
        return 0 if self.rest_s() else 1

    def failed(self) -> bool:
        """A message did not get through, for no reason of its own. Whether that is news.

        Of those under way together, the others say nothing more.
        """
        if self.rest_s():
            return False
        self._failures += 1
        self._until = self._monotonic() + BACKOFF.delay_s(self._failures, self._random)
        return True

    def over(self) -> None:
        """Something got through."""
        self._failures = 0
