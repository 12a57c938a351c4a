"""What a show measured, each figure beside the bound it was promised to keep."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. Without a bound it is told and proves nothing."""

    what: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    @property
    def bound(self) -> str:
        """As people write it, e.g. `≤ 1.2 times`; empty if there is none."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " and ".join(
            f"{sign} {_text(limit, self.unit)}" for sign, limit in bounds if limit is not None
        )

    @property
    def text(self) -> str:
        return _text(self.measured, self.unit)

    def __str__(self) -> str:
        return f"{self.what}: {self.text}" + (f" ({self.bound})" if self.bound else "")


def missed(figures: Iterable[Figure]) -> list[str]:
    """A line for each that does not keep its bound."""
    return [str(figure) for figure in figures if not figure.holds]


def _text(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()
