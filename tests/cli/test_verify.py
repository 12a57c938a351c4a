"""`bodega verify` where no shop runs: migrated databases, read as they are."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

RUN_MAX_S = 60.0


def bodega(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "services.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_MAX_S, check=False)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "shop"
    done = bodega("migrate", "--data", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def data(tmp_path: Path, migrated: Path) -> Path:
    """A shop of one's own: migrated, never opened."""
    return shutil.copytree(migrated, tmp_path / "shop")


def test_migrating_again_changes_nothing(data: Path) -> None:
    before = {file.name: file.read_bytes() for file in (data / "databases").glob("*.db")}
    assert bodega("migrate", "--data", str(data)).returncode == 0
    assert {file.name: file.read_bytes() for file in (data / "databases").glob("*.db")} == before


def test_a_stopped_shop_is_verified_by_its_databases_and_the_rest_is_said_to_be_skipped(data: Path) -> None:
    done = bodega("verify", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, "")
    assert "the broker is not running" in done.stdout
    assert "skipped" in done.stdout.splitlines()[-1]


def test_a_violation_is_shown_with_the_ids_it_is_about(data: Path) -> None:
    with closing(sqlite3.connect(data / "databases" / "inventory.db")) as books:
        # Of a product and a warehouse that do not exist, which SQLite minds only where it is told to.
        books.execute(
            "INSERT INTO stock_levels (product_id, warehouse_id, on_hand, reserved, update_time) "
            "VALUES ('p', 'w', 5, 0, 1)"
        )
        books.commit()
    done = bodega("verify", "--data", str(data), "--settle", "0s")
    assert done.returncode == 1
    assert "VIOLATED" in done.stdout
    assert "stock.ledger: product p in w: (on_hand, reserved) is (5, 0), movements say (0, 0)" in done.stdout
    assert "checks are violated" in done.stderr


def test_databases_that_were_never_migrated_are_refused(data: Path) -> None:
    for file in (data / "databases").glob("order.db*"):
        file.unlink()
    done = bodega("verify", "--data", str(data))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "there is no shop" in line
