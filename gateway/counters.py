"""Counters of a sliding window, kept in this process: a store for the `limits` library.

Its own memory store looks through all that it has whenever it counts, which is what someone with many
addresses would like; the chassis' windows do the same work whatever they hold.
"""

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage

from services.chassis.policy.rates import KEPT_MAX, Windows
from services.kernel.clock import Clock


class Counters(MemoryStorage):
    """The windows, as the library asks for them."""

    STORAGE_SCHEME = []  # noqa: RUF012  # it is not made by URL

    def __init__(self, clock: Clock, *, kept_max: int = KEPT_MAX) -> None:
        super().__init__()
        self._now = clock.now
        self.windows = Windows(kept_max)

    def counts(self, item: RateLimitItem, key: str) -> bool:
        """Counts one by this limit, without the library; False if that is too many."""
        return self.windows.admit(key, item.amount, item.get_expiry(), self._now().timestamp())

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.windows.admit(key, limit, expiry, self._now().timestamp(), amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        seen = self.windows.seen(key, expiry, self._now().timestamp())
        left_s = expiry - seen.elapsed_s
        return seen.previous, left_s if seen.previous else 0.0, seen.current, left_s + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        del expiry
        self.windows.forget(key)
