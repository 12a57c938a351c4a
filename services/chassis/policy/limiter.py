"""How many calls a server works on at once: as many as keep their usual pace.

What is beyond its capacity only waits, and in the end is late with all else: a server without a limit does
worse the more is asked of it. The limit is learned, for nobody knows it beforehand. Each method has a usual
time; where calls take longer than is tolerable against it, the limit shrinks in proportion, and where there
is use for more at a good pace, it grows by its square root. After Netflix's concurrency-limits
(`Gradient2Limit`, https://github.com/Netflix/concurrency-limits), which is TCP Vegas for servers.

Differences, and why:

- A usual time per method, since calls of a millisecond and of a second meet here. What counts is the *median*
  over methods, by calls: a server that has too much to do slows them all, a slow neighbour only its own.
- A tenth of a second more is always tolerable. Against a usual millisecond any queue would seem long.
- Usual times follow what is slower only while there is room, so that an overload does not become the usual.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bodega.policy.v1 import policy_pb2

from services.chassis.contract import Method

WINDOW_S: Final = 0.25  # between two looks: recovery takes some tens of them
SAMPLES_MIN: Final = 10  # fewer say more of chance than of load

TOLERANCE: Final = 2.0  # times its usual time a call may take; queues differ that much on good days
SLACK_S: Final = 0.1  # and this much longer always: nobody notices

SHRINKING_MAX: Final = 0.5  # at most halved at a time, as TCP does

FASTER_S: Final = 1.0  # how long a usual time takes to follow what is faster,
SLOWER_S: Final = 15.0  # what is slower while there is room,
SLOWER_FULL_S: Final = 1800.0  # and what is slower while there is none: a new release may be slower for good


OVERLOADED: Final = "OVERLOADED"
"""The reason that those read who are refused."""


class Priority(IntEnum):
    """Who is refused last comes first."""

    CRITICAL = 0
    NORMAL = 1
    SHEDDABLE = 2


# Times the limit. Critical calls finish what was begun; that alone may be twice what keeps the pace, and is
# bounded all the same. Listings leave a third to those who order.
SHARES: Final = {Priority.CRITICAL: 2.0, Priority.NORMAL: 1.0, Priority.SHEDDABLE: 0.67}


@dataclass(frozen=True, slots=True)
class Range:
    """Within which the limit is looked for."""

    first: int = 512
    """Generous: the first to be refused should not be so for want of experience."""

    least: int = 32
    """So many share a server well even where each has to wait for a disk."""

    most: int = 4096
    """Memory: some ten KiB for each."""


class Pace:
    """How fast one method usually is, and was of late."""

    __slots__ = ("calls", "is_critical", "seconds", "usual_s")

    def __init__(self, priority: Priority = Priority.NORMAL) -> None:
        self.is_critical = priority is Priority.CRITICAL
        self.usual_s = 0.0
        """0: not known yet."""

        self.calls = 0
        self.seconds = 0.0

    def judge(self, elapsed_s: float, *, is_full: bool) -> tuple[float, int]:
        """How slow the calls since the last time were, of what is tolerable, and how many."""
        mean_s, calls = self.seconds / self.calls, self.calls
        self.calls, self.seconds = 0, 0.0
        if not self.usual_s:
            self.usual_s = mean_s
        slowness = mean_s / max(self.usual_s * TOLERANCE, self.usual_s + SLACK_S)
        within_s = FASTER_S if mean_s < self.usual_s else SLOWER_FULL_S if is_full else SLOWER_S
        self.usual_s += (mean_s - self.usual_s) * -math.expm1(-elapsed_s / within_s)
        return slowness, calls


class Limiter:
    """Counts calls in and out, at a fraction of a microsecond each. Belongs to one event loop."""

    def __init__(self, within: Range | None = None) -> None:
        self._range = within or Range()
        self.is_enforced = True
        self.is_slow = False
        """Whether most of what ended of late took longer than is tolerable."""

        self.in_flight = 0
        self.critical_in_flight = 0
        self.refused = dict.fromkeys(Priority, 0)
        self._limit = float(self._range.first)
        self._room = self._shared_out()
        self._paces: list[Pace] = []
        self._peak = 0
        self._calls = 0
        self._window_began = -math.inf

    @property
    def limit(self) -> int:
        return int(self._limit)

    def enforce(self, is_enforced: bool) -> None:  # noqa: FBT001 (a flag applies it)
        """Whether anyone is refused. While nobody is, the limit is still learned."""
        self.is_enforced = is_enforced
        self._room = self._shared_out()

    def pace(self, priority: Priority = Priority.NORMAL) -> Pace:
        """That of one more method."""
        made = Pace(priority)
        self._paces.append(made)
        return made

    def has_room(self, priority: Priority, coming: int = 0) -> bool:
        """Whether one more would be let in beside those who are coming; one that is not counts as refused."""
        if self.in_flight + coming < self._room[priority]:
            return True
        if priority is Priority.CRITICAL and self.critical_in_flight + coming < self._room[priority]:
            return True  # what was let in before the limit fell is not held against it
        self.refused[priority] += 1
        return False

    def enter(self, priority: Priority) -> bool:
        """Whether a call is let in; it must `leave` then."""
        if not self.has_room(priority):
            return False
        self.in_flight += 1
        if priority is Priority.CRITICAL:
            self.critical_in_flight += 1
        if self.in_flight > self._peak:  # noqa: PLR1730 (max() would be a call)
            self._peak = self.in_flight
        return True

    def leave(self, pace: Pace) -> None:
        """A call that tells nothing: one refused for itself is fast, whose client went away took any time."""
        self.in_flight -= 1
        if pace.is_critical:
            self.critical_in_flight -= 1

    def leave_after(self, pace: Pace, duration_s: float, now: float) -> None:
        """A call that was done, or was late, after this long."""
        self.leave(pace)
        pace.calls += 1
        pace.seconds += duration_s
        self._calls += 1
        if now - self._window_began >= WINDOW_S and self._calls >= SAMPLES_MIN:
            self._learn(now)

    def _learn(self, now: float) -> None:
        limit, within = self._limit, self._range
        is_full = self._peak >= limit / 2  # else it is not the limit that makes calls slow, or holds them up
        elapsed_s = min(now - self._window_began, SLOWER_S)
        slowness = _median(pace.judge(elapsed_s, is_full=is_full) for pace in self._paces if pace.calls)
        self.is_slow = slowness > 1
        if self.is_slow:
            # Where callers give up before there are so many, a limit far above them would never be felt.
            felt = limit / slowness if is_full else 2.0 * self._peak
            limit = max(limit * SHRINKING_MAX, felt)
        elif is_full:
            limit += math.sqrt(limit)
        self._limit = min(max(limit, within.least), within.most)
        self._room = self._shared_out()
        self._window_began = now
        self._calls = 0
        self._peak = self.in_flight

    def _shared_out(self) -> tuple[float, ...]:
        if not self.is_enforced:
            return (math.inf,) * len(Priority)
        return tuple(math.ceil(self._limit * SHARES[priority]) for priority in Priority)


def priority_of(method: Method) -> Priority:
    """What the contract says; others' methods are normal."""
    said = policy_pb2.PRIORITY_UNSPECIFIED if method.policy is None else method.policy.priority
    return _PRIORITIES.get(said, Priority.NORMAL)


_PRIORITIES: Final = {
    policy_pb2.PRIORITY_CRITICAL: Priority.CRITICAL,
    policy_pb2.PRIORITY_SHEDDABLE: Priority.SHEDDABLE,
}


def waits(number: int, mean_s: float) -> tuple[float, ...]:
    """So many different waits for those who are refused, half to one and a half times the mean.

    The golden ratio spreads any run of them evenly: those refused together do not come back together.
    """
    golden = (math.sqrt(5) - 1) / 2
    return tuple(mean_s * (0.5 + n * golden % 1) for n in range(number))


def _median(judged: Iterable[tuple[float, int]]) -> float:
    """The slowness of the call in the middle."""
    by_slowness = sorted(judged)
    left = sum(calls for _, calls in by_slowness) / 2
    for slowness, calls in by_slowness:
        left -= calls
        if left <= 0:
            return slowness
    return 0.0
