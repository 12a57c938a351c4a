"""The harness itself: its arithmetic, and one tiny run of it. Never how fast anything is."""

import os
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.load import __main__ as bench
from tests.load import procfs, report
from tests.load.figures import OURS, YARDSTICK, Figure, Pace, Run, Target, alternate, compared, cpu_us, in_us
from tests.load.load import H2load, LoadFailed


def test_a_run_knows_its_rate_and_its_cpu_per_request() -> None:
    run = Run(requests=200, elapsed_s=4.0, cpu_s=0.1)
    assert run.per_second == 50
    assert run.cpu_us == pytest.approx(500)


async def test_runs_alternate_and_take_turns_at_going_first() -> None:
    order: list[str] = []

    async def measure(side: str) -> Run:
        order.append(side)
        return Run(1, 1.0)

    rounds = await alternate(3, ("a", "b"), measure)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert len(rounds) == 3


def test_ratios_are_taken_within_rounds() -> None:
    # The machine became ten times slower after the first round; the ratio of each round did not change.
    rounds = [{OURS: Run(10, 1.0, cpu), YARDSTICK: Run(10, 1.0, 2 * cpu)} for cpu in (0.1, 1.0, 1.0)]
    figure = compared("ours ÷ theirs", Target(0.4), rounds, cpu_us, show=in_us, conditions="")
    assert figure.value == pytest.approx(0.5)
    assert figure.spread == pytest.approx((0.5, 0.5))
    assert (figure.ours, figure.yardstick) == ("100,000 µs", "200,000 µs")
    assert figure.verdict == "missed"


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Target(1.3), 1.3, "met"),
        (Target(1.3), 1.31, "missed"),
        (Target(20, at_most=False), 20, "met"),
        (Target(20, at_most=False), 19.9, "missed"),
        (Target(20, at_most=False), None, "skipped"),
        (None, 5.0, ""),
    ],
)
def test_targets_are_met_or_missed(target: Target | None, value: float | None, verdict: str) -> None:
    assert Figure("", target, value).verdict == verdict


def test_counts_are_never_none_and_fill_all_workers() -> None:
    assert Pace(1, 0.0).count(8_000) == 32
    assert Pace(1, 0.5).count(8_000) == 4_000


def test_h2load_is_not_believed_when_replies_weigh_too_little() -> None:
    sent = H2load((), reply_bytes_min=400)
    said = (
        "finished in 500.00ms, 200 req/s\nstatus codes: 100 2xx, 0 3xx\ntraffic: 9KB (9000) total, ({}) data"
    )
    assert sent.seconds(said.format(40_500), 100) == pytest.approx(0.5)
    with pytest.raises(LoadFailed, match="39000 bytes"):
        sent.seconds(said.format(39_000), 100)  # errors of gRPC have status 200 and no body
    with pytest.raises(LoadFailed, match="100 of 101"):
        sent.seconds(said.format(40_500), 101)


def test_the_kernel_counts_our_own_work() -> None:
    before = procfs.cpu_s(os.getpid())
    give_up = time.monotonic() + 30
    while procfs.cpu_s(os.getpid()) == before:
        assert time.monotonic() < give_up
    memory = procfs.memory(os.getpid())
    assert memory.rss >= memory.pss > 1e6


async def test_a_tiny_run_ends_in_a_table_and_a_picture(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    figures = await bench.measured(data, ["server"], Pace(rounds=1, scale=0.0), Console(quiet=True))
    bench.write(tmp_path, figures, "a machine", "python -m tests.load")
    assert [figure.name for figure in figures] == ["server onion ÷ bare echo, CPU"]
    written = (tmp_path / "performance.md").read_text()
    assert all(line in written for line in report.table(figures))
    assert "a machine" in written
    drawn = ET.parse(tmp_path / "performance.svg").getroot()  # noqa: S314 (we have just made it)
    assert any(text.text == figures[0].name for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
