"""Counters of a sliding window, kept in this process: a store for the `limits` library.

Its own memory store looks through all that it has whenever it counts, which is what someone with many
addresses would like; this one does the same work whatever it holds, and holds only so much.
"""

from dataclasses import dataclass
from math import floor
from typing import Final

from limits.aio.storage import MemoryStorage

from services.kernel.clock import Clock

KEPT_MAX: Final = 100_000  # some 20 MB; the oldest go first


@dataclass(slots=True)
class _Counter:
    window: int
    """Which one since the beginning of time `current` is about; `previous`: the one before."""

    current: int = 0
    previous: int = 0


class Counters(MemoryStorage):
    """Two counters per key: this window's, and the last one's for as much of it as is still in sight."""

    STORAGE_SCHEME = []  # noqa: RUF012  # it is not made by URL

    def __init__(self, clock: Clock, *, kept_max: int = KEPT_MAX) -> None:
        super().__init__()
        self._now = clock.now
        self._kept_max = kept_max
        self._counters: dict[str, _Counter] = {}

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        counter, elapsed_s = self._at_present(key, expiry)
        seen = counter.previous * (expiry - elapsed_s) / expiry + counter.current
        if floor(seen) + amount > limit:
            return False
        counter.current += amount
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        counter, elapsed_s = self._at_present(key, expiry)
        left_s = expiry - elapsed_s
        return counter.previous, left_s if counter.previous else 0.0, counter.current, left_s + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        del expiry
        self._counters.pop(key, None)

    def _at_present(self, key: str, expiry: int) -> tuple[_Counter, float]:
        window, elapsed_s = divmod(self._now().timestamp(), expiry)
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= self._kept_max:
                del self._counters[next(iter(self._counters))]
            counter = self._counters[key] = _Counter(int(window))
        elif (passed := int(window) - counter.window) > 0:
            counter.previous = counter.current if passed == 1 else 0
            counter.window, counter.current = int(window), 0
        return counter, elapsed_s
