"""The same as a picture: a bar per figure, as long as it is in proportion to its target. SVG by hand."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.load import report
from tests.load.figures import Figure, Target

_WIDTH: Final = 960
_ROW: Final = 30
_TOP: Final = 74
_LEFT: Final = 400
_SCALE: Final = 170.0  # from the target's line to twice, or half, of it
_NOTHING: Final = 1e-6  # what is drawn for a figure that is nothing, or less
_BAR_MAX: Final = 2 * _SCALE
_COLOURS: Final = {"met": "#2f7d4f", "missed": "#b3423a"}


def svg(figures: Sequence[Figure], machine: str) -> str:
    """Bars of all figures that have a target; the vertical line is the target, left of it is better."""
    drawn = [figure for figure in figures if figure.target and figure.value]
    height = _TOP + _ROW * len(drawn) + 24
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">'
    )
    target_line = (
        f'<line x1="{_LEFT + _SCALE}" x2="{_LEFT + _SCALE}" y1="{_TOP - 6}" y2="{height - 18}" '
        'stroke="#333333" stroke-dasharray="4 3"/>'
    )
    parts = [
        opening,
        "<title>What it costs, against its targets</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, "What it costs, against its targets", size=17, weight=600),
        _text(16, 44, machine[:150], size=10, colour="#666666"),
        _text(_LEFT + _SCALE, 64, "target", size=11, colour="#666666", anchor="middle"),
        _text(_LEFT, 64, "better", size=11, colour="#666666"),
        _text(_LEFT + _BAR_MAX, 64, "worse", size=11, colour="#666666", anchor="end"),
        *(_bar(figure, figure.target, _TOP + _ROW * at) for at, figure in enumerate(drawn) if figure.target),
        target_line,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(figure: Figure, target: Target, top: int) -> str:
    value = max(figure.value or 0.0, _NOTHING)  # a difference of noisy runs may be below nothing
    length = _length(target.limit / value if not target.at_most else value / target.limit)
    colour = _COLOURS.get(figure.verdict, "#888888")
    label = f"{report.shown(figure)}  ({target})"
    shape = f'x="{_LEFT}" y="{top + 4}" width="{length:.1f}" height="{_ROW - 12}" rx="3"'
    return "\n".join(
        (
            _text(_LEFT - 10, top + 16, figure.name, anchor="end"),
            f'<rect {shape} fill="{colour}"/>',
            _text(_LEFT + _BAR_MAX + 12, top + 16, label, colour=colour),
        )
    )


def _length(worse_by: float) -> float:
    """1 ends at the target's line; twice as bad and half as bad are equally far from it."""
    return min(max(_SCALE * (1 + math.log2(worse_by)), 4.0), _BAR_MAX)


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 13,
    weight: int = 400,
    colour: str = "#222222",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )
