"""How long to wait before trying again.

Full jitter: a random share of a doubling limit, so that those who failed together do not come back
together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`first_s` bounds the first wait; each further one may be twice as long, up to `max_s`."""

    first_s: float
    max_s: float

    def limit_s(self, failures: int) -> float:
        """The longest wait after so many failures in a row (1 or more)."""
        # 2.0 ** 1024 overflows; no limit worth having is beyond 2 ** 64 times the first.
        return min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 64))

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """The wait itself; `random` gives numbers from 0 to 1, as `random.random` does."""
        return random() * self.limit_s(failures)
