"""A whole shop as people run it, one for all journeys of a test process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import endpoints
from services.cli.data_folder import DataFolder
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper
from services.cli.staff import Staff, hired
from tests.cheap_passwords import CHEAP_PASSWORDS

READY_MAX_S = 90.0
STOP_MAX_S = 60.0


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a shop that runs."""
    folder = tmp_path_factory.mktemp("journeys") / "shop"
    output = folder.with_suffix(".out")
    command = [sys.executable, "-P", "-m", "services.cli", "up", "--data", str(folder)]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [*command, "--gateway-port=0", "--grpc-port-base=0"],
            stdout=file,
            stderr=file,
            env={**os.environ, **CHEAP_PASSWORDS},
        ) as process,
    ):
        try:
            give_up = time.monotonic() + READY_MAX_S
            while "ready" not in output.read_text().splitlines():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < give_up, output.read_text()
                time.sleep(0.05)
            yield folder
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_MAX_S) == 0
            died = [line for line in output.read_text().splitlines() if " died " in line]
            assert died == []
            assert errors_logged(folder / "logs") == []
        finally:
            process.kill()


@pytest.fixture(scope="session")
def shop(data: Path) -> Endpoints:
    return endpoints.read(DataFolder(data))


@pytest.fixture(scope="session")
def staff(shop: Endpoints) -> Staff:
    return hired(shop)


@pytest.fixture
def shopper(shop: Endpoints, staff: Staff) -> Iterator[Shopper]:
    with Shopper(shop, staff=staff) as made:
        yield made


def errors_logged(logs: Path) -> list[str]:
    """Whatever any program thought was an error; no journey makes one."""
    lines = [line for log in logs.glob("*.log") for line in log.read_text().splitlines()]
    found = [line for line in lines if line.startswith("{") and json.loads(line).get("level") == "error"]
    return found + [line for line in lines if line.startswith("Traceback")]
