"""How long nobody may try to sign in, after so many failures. Pure.

Failures are counted by account, so that one account's password cannot be guessed from many places, and by
network address, so that one place cannot guess many accounts' passwords. The first few cost nothing, because
people mistype; then each costs twice the wait of the one before.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.kernel import errors

FORGOTTEN_AFTER: Final = timedelta(hours=24)
"""Without a failure for so long, the next is the first again."""

_DOUBLINGS_MAX: Final = 16  # a longer wait than any; keeps the figures small


class SignInLocked(errors.TooMuch):
    """Too many attempts to sign in have failed; try again in {retry_after_s} s."""

    def __init__(self, *, retry_after_s: float) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.retry_after_s = float(retry_after_s)  # text when it comes out of a pickle


@dataclass(frozen=True, slots=True)
class Limit:
    """How patient we are."""

    free: int
    """So many failures cost nothing."""

    first: timedelta
    longest: timedelta

    forgives: timedelta = FORGOTTEN_AFTER
    """So long without a failure makes up for one: no shorter than the longest wait."""

    def wait(self, failures: int) -> timedelta:
        """How long nobody may try after so many failures."""
        if failures <= self.free:
            return timedelta(0)
        doublings = min(failures - self.free - 1, _DOUBLINGS_MAX)
        return min(self.first * (1 << doublings), self.longest)


OF_ACCOUNT: Final = Limit(free=4, first=timedelta(seconds=30), longest=timedelta(minutes=15))
"""At the longest wait, a hundred guesses a day. Not longer, because anyone can lock out an owner by it."""

OF_ADDRESS: Final = Limit(
    free=30,
    first=timedelta(seconds=30),
    longest=timedelta(minutes=15),
    forgives=timedelta(minutes=15),
)
"""An office or a mobile network is one address to us, where never a day is without a mistyped password."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one account or one network address."""

    subject: bytes = field(repr=False)
    limit: Limit
    count: int = 0
    last_at: datetime | None = None

    def check(self, at: datetime) -> None:
        """Raises SignInLocked while nobody may try."""
        if self.last_at is None:
            return
        left = self.last_at + self.limit.wait(self.count) - at
        if left > timedelta(0):
            raise SignInLocked(retry_after_s=-(-left // timedelta(seconds=1)))

    def failed(self, at: datetime) -> "Failures":
        """One more. Attempts made while nobody may try do not count: they were not judged."""
        if self.last_at is None or at - self.last_at >= FORGOTTEN_AFTER:
            return replace(self, count=1, last_at=at)
        forgiven = max(0, (at - self.last_at) // self.limit.forgives)
        return replace(self, count=max(0, self.count - forgiven) + 1, last_at=at)
