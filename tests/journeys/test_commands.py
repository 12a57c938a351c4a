"""`bodega demo` and `bodega verify` against a shop that has seen other customers."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN_MAX_S = 110.0


def bodega(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "services.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_MAX_S, check=False)


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_demo_runs_green_any_number_of_times(data: Path, time: str) -> None:
    done = bodega("demo", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for shown in ("CONFIRMED", "PAYMENT_DECLINED", "OUT_OF_STOCK", "CANCELLED", "everything as promised"):
        assert shown in done.stdout


def test_verify_finds_that_all_holds_and_shows_what_it_counted(data: Path) -> None:
    bodega("demo", "--data", str(data))
    done = bodega("verify", "--data", str(data), "--settle", "10s")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all holds" in done.stdout
    assert "skipped" not in done.stdout
    for check in (
        "money.orders",
        "stock.ledger",
        "orders.end",
        "once.requests",
        "told.published",
        "orders.replay",
    ):
        assert check in done.stdout
