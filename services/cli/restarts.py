"""When a program that died is started again. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.chassis.policy.backoff import Backoff

DEFAULT: Final = Backoff(first_s=0.5, max_s=15.0)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At once at first, then ever more slowly; a program that lived for a while begins anew."""

    backoff: Backoff = DEFAULT

    healthy_after_s: float = 30.0
    """Whoever lived this long did not die of their start."""

    def deaths_in_a_row(self, before: int, lived_s: float) -> int:
        """The count that includes a death now, after so many seconds of life."""
        return 1 if lived_s >= self.healthy_after_s else before + 1

    def delay_s(self, deaths_in_a_row: int, random: Callable[[], float]) -> float:
        """How long to wait after so many deaths (1 or more); `random` as `random.random`."""
        if deaths_in_a_row <= 1:
            return 0.0
        return self.backoff.delay_s(deaths_in_a_row - 1, random)
