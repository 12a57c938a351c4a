"""The frame of the shows: what they come to, and how it is written down."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.figures import Figure
from tests.soak import notes, shows
from tests.soak.report import Report
from tests.soak.shows import Show

GOOD = Figure("answers in time", 99.5, "%", at_least=99)
BAD = Figure("requests at payment ÷ of users", 1.5, "times", at_most=1.2)


@pytest.mark.parametrize(
    ("figure", "holds", "text"),
    [
        (GOOD, True, "answers in time: 99.5 % (≥ 99 %)"),
        (BAD, False, "requests at payment ÷ of users: 1.5 times (≤ 1.2 times)"),
        (Figure("x", 3, at_least=1, at_most=2), False, "x: 3 (≥ 1 and ≤ 2)"),
        (Figure("x", 3, at_least=3, at_most=3), True, "x: 3 (≥ 3 and ≤ 3)"),
        (Figure("orders", 12_345), True, "orders: 12,345"),
    ],
)
def test_a_figure_says_whether_it_keeps_its_bound(figure: Figure, *, holds: bool, text: str) -> None:
    assert (figure.holds, str(figure)) == (holds, text)


async def played(*these: Show, folder: Path) -> list[shows.Played]:
    return await shows.played(these, folder, progress=lambda _: None, tell=lambda _: None)


def showing(name: str, *figures: Figure, error: Exception | None = None) -> Show:
    async def run(home: Path) -> Sequence[Figure]:
        assert home.name == name
        if error:
            raise error
        return figures

    return Show(name, f"what {name} does", run)


async def test_a_show_that_fails_keeps_no_other_from_being_played(tmp_path: Path) -> None:
    first, second, third = await played(
        showing("broken", error=AssertionError("an order is lost")),
        showing("good", GOOD),
        showing("bad", GOOD, BAD),
        folder=tmp_path,
    )
    assert (first.holds, second.holds, third.holds) == (False, True, False)
    assert first.failure == "AssertionError: an order is lost"


async def test_the_report_tells_every_figure_twice(tmp_path: Path) -> None:
    results = await played(showing("bad", GOOD, BAD), showing("broken", error=OSError("no")), folder=tmp_path)
    notes.write(tmp_path / "new" / "soak.md", results, Report(1, 2, deeds=Counter(buy=3)))
    text = (tmp_path / "new" / "soak.md").read_text()
    assert "## bad: NOT HELD" in text
    assert "| requests at payment ÷ of users | 1.5 times | ≤ 1.2 times | NOT HELD |" in text
    assert "Failed: OSError: no" in text
    assert "## shopping while programs die: held" in text
    written = json.loads((tmp_path / "new" / "soak.json").read_text())
    assert [show["held"] for show in written["shows"]] == [False, False]
    assert written["shows"][0]["figures"][1]["at_most"] == 1.2
    assert written["soak"]["deeds"] == {"buy": 3}


def test_shows_are_chosen_by_name() -> None:
    there = [showing("one"), showing("two")]
    assert shows.named("all", there) == there
    assert shows.named("none", there) == []
    assert shows.named("two", there) == [there[1]]
    with pytest.raises(ValueError, match="no show three; there are one, two"):
        shows.named("one,three", there)
