"""How often one may ask: a sliding window of two counters each. Pure; whoever asks says what time it is.

This window's calls, and the last one's for as much of it as is still in sight, stand for the calls of the
time just past: never wrong by more than how unevenly the last window's were spread, and two numbers for each
(https://blog.cloudflare.com/counting-things-a-lot-of-different-things/).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from math import floor
from typing import Final

from bodega.policy.v1 import policy_pb2

from services.chassis.contract import ContractError, Method

KEPT_MAX: Final = 100_000  # some 20 MB; the oldest go first


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds."""

    name: str
    requests: int
    per_s: int
    by_caller: bool
    """Of one account, else of one address."""


def rates_of(method: Method) -> tuple[Rate, ...]:
    """Those that a method's contract names. Raises ContractError."""
    given = () if method.policy is None else method.policy.rate_limits
    found = []
    for number, limit in enumerate(given, 1):
        if not limit.requests or limit.per.seconds < 1 or limit.per.nanos:
            raise ContractError(f"{method.path}: a rate limit needs requests, and whole seconds")
        name = method.name if len(given) == 1 else f"{method.name}-{number}"
        by_caller = limit.by == policy_pb2.RateLimit.BY_CALLER
        found.append(Rate(name, limit.requests, limit.per.seconds, by_caller))
    return tuple(found)


@dataclass(slots=True)
class _Counter:
    window: int
    """Which one since the beginning of time `current` is about; `previous`: the one before."""

    current: int = 0
    previous: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was counted, so many seconds into the present window."""

    previous: int
    current: int
    elapsed_s: float


class Windows:
    """The counters of all who ask: the same work however many there are, and there are only so many."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._counters: dict[Hashable, _Counter] = {}

    def __len__(self) -> int:
        return len(self._counters)

    def admit(self, key: Hashable, requests: int, per_s: int, now: float, amount: int = 1) -> bool:
        """Whether one more may ask, who is then counted; `now` in seconds since whenever."""
        counter, elapsed_s = self._at(key, per_s, now)
        seen = counter.previous * (per_s - elapsed_s) / per_s + counter.current
        if floor(seen) + amount > requests:
            return False
        counter.current += amount
        return True

    def retry_in_s(self, key: Hashable, requests: int, per_s: int, now: float) -> float:
        """Seconds until one more may ask, if nobody does meanwhile."""
        seen = self.seen(key, per_s, now)
        if seen.current >= requests:  # only in the next window, when these are the previous ones
            return per_s - seen.elapsed_s + _faded_s(seen.current, requests, per_s)
        return max(_faded_s(seen.previous, requests - seen.current, per_s) - seen.elapsed_s, 0.0)

    def seen(self, key: Hashable, per_s: int, now: float) -> Seen:
        counter, elapsed_s = self._at(key, per_s, now)
        return Seen(counter.previous, counter.current, elapsed_s)

    def forget(self, key: Hashable) -> None:
        self._counters.pop(key, None)

    def _at(self, key: Hashable, per_s: int, now: float) -> tuple[_Counter, float]:
        window, elapsed_s = divmod(now, per_s)
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= self._kept_max:
                del self._counters[next(iter(self._counters))]
            counter = self._counters[key] = _Counter(int(window))
        elif (passed := int(window) - counter.window) > 0:
            counter.previous = counter.current if passed == 1 else 0
            counter.window, counter.current = int(window), 0
        return counter, elapsed_s


def _faded_s(previous: int, room: int, per_s: int) -> float:
    """Seconds into a window until there is room for one beside what is in sight of the previous one."""
    return per_s * max(1 - room / previous, 0.0) if previous else 0.0
