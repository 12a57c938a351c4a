"""Time as an argument, so that tests and simulation own it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Where programs read the time."""

    def now(self) -> datetime:
        """The wall-clock time, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    # The function itself, not one around it: each call that is served reads the time thrice.
    monotonic = staticmethod(time.monotonic)


def to_micros(at: datetime) -> int:
    """Microseconds since 1970, as databases here store time: exact, sortable, the same on every engine."""
    return (at - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time of `to_micros`."""
    return EPOCH + timedelta(microseconds=micros)
