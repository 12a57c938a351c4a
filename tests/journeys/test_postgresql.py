"""A whole shop on a PostgreSQL server: a shopper's day in it, after which everything holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.shop import Shop
from tests.databases import SERVER, only_postgresql

DAY_MAX_S = 90


@only_postgresql
@pytest.mark.usefixtures("databases")
async def test_a_day_in_a_shop_on_a_server_ends_with_every_check_held(tmp_path: Path) -> None:
    async with Shop(tmp_path / "data", database=SERVER.rpartition("/")[0]):
        for command in ("demo", "verify"):
            said = subprocess.run(  # noqa: ASYNC221 (the shop is other processes)
                [sys.executable, "-m", "services.cli", command, "--data", str(tmp_path / "data")],
                capture_output=True,
                text=True,
                timeout=DAY_MAX_S,
                check=False,
            )
            assert said.returncode == 0, said.stdout + said.stderr
    assert "all holds" in said.stdout
