"""What a soak came to, for people and for notes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

VIOLATIONS_MAX = 20  # enough to start looking; the count of all is shown


@dataclass(slots=True)
class Report:
    """The figures of a soak, and every promise that was broken."""

    seed: int
    shoppers: int
    seconds: float = 0.0
    orders: Counter[str] = field(default_factory=Counter)
    """By state."""

    deeds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    verifications: int = 0
    invariants: dict[str, dict[str, int]] = field(default_factory=dict)
    """Figures of each check at the last verification."""

    slowest_settling_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.violations

    @property
    def verdict(self) -> str:
        return "all holds" if self.holds else f"VIOLATED: {len(self.violations)} promises"

    @property
    def figures(self) -> str:
        return (
            f"{self.seconds / 60:.1f} min, {self.orders.total():,} orders, {self.deeds.total():,} deeds, "
            f"{self.blows.total():,} blows"
        )

    def lines(self) -> Iterator[str]:
        """The report, a line each."""
        yield f"soak: {self.shoppers} shoppers, seed {self.seed}: {self.figures}"
        yield f"orders    {_counted(self.orders)}"
        yield f"deeds     {_counted(self.deeds)}"
        yield f"refused   {_counted(self.refusals)}"
        yield f"answers   {_counted(self.answers)}"
        yield f"blows     {_counted(self.blows)}"
        yield (
            f"verified  {self.verifications} times, {len(self.invariants)} checks each; "
            f"settled within {self.slowest_settling_s:.1f} s"
        )
        for name, figures in sorted(self.invariants.items()):
            yield f"  {name:<22} {_counted(figures, by_size=False)}"
        yield from self.violations[:VIOLATIONS_MAX]
        yield self.verdict


def _counted(counts: Mapping[str, int], *, by_size: bool = True) -> str:
    items = sorted(counts.items(), key=lambda item: -item[1]) if by_size else counts.items()
    return ", ".join(f"{name} {number:,}" for name, number in items) or "nothing"
