"""deploy/prepare.py, run as somebody types it."""

import subprocess
import sys
from pathlib import Path

from tests.deploy.compose import DEPLOY

END_MAX_S = 60.0


def prepare(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # -S -I: it must not need anything that is installed.
    command = [sys.executable, "-I", "-S", str(DEPLOY / "prepare.py"), "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=END_MAX_S, check=False)


def prepared(folder: Path, database: str) -> Path:
    """The folder of secrets of a shop that is ready for `docker compose up`."""
    done = prepare(folder, "--database", database)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "secrets"
