"""What was measured, and the arithmetic on it: medians of alternating runs, ratios within a round.

Absolute figures drift with the machine's mood; a ratio of two runs that followed each other hardly does.
So every comparison is made round by round, and its figure is the median of the rounds.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

OURS: Final = "ours"
YARDSTICK: Final = "yardstick"
TIMES: Final = "×"  # noqa: RUF001 (a ratio reads so)


@dataclass(frozen=True, slots=True)
class Run:
    """One short run of one side."""

    requests: int
    elapsed_s: float
    cpu_s: float = 0.0
    """User and system time of the processes under measurement, and of nobody else."""

    @property
    def per_second(self) -> float:
        return self.requests / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """CPU per request, in microseconds."""
        return self.cpu_s * 1e6 / self.requests


Measure = Callable[[str], Awaitable[Run]]
"""Makes one run of the side named."""

Rounds = Sequence[Mapping[str, Run]]
Of = Callable[[Run], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is measured: rounds of a comparison, and the size of a run against the full one."""

    rounds: int
    scale: float

    def count(self, full: int) -> int:
        """Requests in a run that has `full` of them at full pace; a multiple of 32, never none."""
        return max(1, round(full * self.scale / 32)) * 32


FULL: Final = Pace(rounds=7, scale=1.0)
QUICK: Final = Pace(rounds=1, scale=0.08)


async def alternate(rounds: int, sides: Iterable[str], measure: Measure) -> list[dict[str, Run]]:
    """A B, B A, A B …: whoever goes second does so as often as the others."""
    names = list(sides)
    return [
        {name: await measure(name) for name in (names if number % 2 == 0 else reversed(names))}
        for number in range(rounds)
    ]


def typical(rounds: Rounds, side: str, of: Of) -> float:
    """The median over the rounds."""
    return median(of(measured[side]) for measured in rounds)


def ratios(rounds: Rounds, of: Of, *, ours: str = OURS, yardstick: str = YARDSTICK) -> list[float]:
    """Ours ÷ the yardstick, round by round."""
    return [of(measured[ours]) / of(measured[yardstick]) for measured in rounds]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be."""

    limit: float
    at_most: bool = True

    def is_met_by(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    target: Target | None
    value: float | None
    """None if it could not be measured here; the note says why."""

    unit: str = TIMES
    spread: tuple[float, float] | None = None
    """Lowest and highest round."""

    ours: str = ""
    yardstick: str = ""
    conditions: str = ""
    note: str = ""
    failed: bool = False
    """Whether it should have been measured and could not be."""

    @property
    def verdict(self) -> str:
        if self.failed:
            return "failed"
        if self.value is None:
            return "skipped"
        if self.target is None:
            return ""
        return "met" if self.target.is_met_by(self.value) else "missed"


def compared(
    name: str, target: Target | None, rounds: Rounds, of: Of, *, show: Callable[[float], str], conditions: str
) -> Figure:
    """The figure of a comparison: ours ÷ the yardstick."""
    found = ratios(rounds, of)
    return Figure(
        name,
        target,
        median(found),
        spread=(min(found), max(found)),
        ours=show(typical(rounds, OURS, of)),
        yardstick=show(typical(rounds, YARDSTICK, of)),
        conditions=conditions,
    )


def cpu_us(run: Run) -> float:
    return run.cpu_us


def per_second(run: Run) -> float:
    return run.per_second


def in_us(value: float) -> str:
    return f"{value:,.0f} µs"


def in_rate(value: float) -> str:
    return f"{value:,.0f}/s"
