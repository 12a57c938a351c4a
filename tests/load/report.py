"""The figures as a table: in the terminal, and as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Final

from tests.load.figures import Figure

_METHOD: Final = (
    "Each figure compares alternating short runs of both sides within one run of this command: the median of "
    "the rounds, with their lowest and highest. CPU is user and system time of the processes under "
    "measurement ÷ requests."
)

HEAD: Final = ("", "target", "measured", "", "rounds", "ours", "yardstick", "conditions")


def cells(figure: Figure) -> tuple[str, ...]:
    """One line of the table, in the order of HEAD."""
    return (
        figure.name,
        f"{figure.target} {figure.unit}" if figure.target else "",
        shown(figure),
        figure.verdict,
        "" if figure.spread is None else "…".join(number(value) for value in figure.spread),
        figure.ours,
        figure.yardstick,
        "; ".join(part for part in (figure.conditions, figure.note) if part),
    )


def shown(figure: Figure) -> str:
    return "" if figure.value is None else f"{number(figure.value)} {figure.unit}"


def number(value: float) -> str:
    """Three figures at most."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def markdown(figures: Sequence[Figure], machine: str, command: str) -> str:
    lines = [
        "# What it costs",
        "",
        _METHOD,
        "",
        f"Machine: {machine}",
        "",
        f"Command: `{command}`",
        "",
        "![What it costs, against its targets](performance.svg)",
        "",
        *table(figures),
        "",
    ]
    return "\n".join(lines)


def table(figures: Iterable[Figure]) -> list[str]:
    """Markdown lines."""
    ruler = "|".join(("", *("---" for _ in HEAD), ""))
    return [_line(HEAD), ruler, *(_line(cells(figure)) for figure in figures)]


def _line(found: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in found)} |"
