"""What the kernel knows of a process: its CPU time and its memory (Linux)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12  # behind the name, see proc(5)
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in RAM."""

    rss: int
    """All of the process's pages."""

    pss: int
    """The same, with pages shared by n processes counted as an n-th."""


class Meter:
    """What processes use of the CPU from now on."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._before_s = cpu_s(*pids)

    @property
    def used_s(self) -> float:
        """Seconds; what is too short for the kernel's clock counts as one tick of it."""
        return max(cpu_s(*self._pids) - self._before_s, 1 / _TICKS_PER_S)


def cpu_s(*pids: int) -> float:
    """User and system time that the processes have used so far, all their threads included."""
    return sum(_cpu_s(pid) for pid in pids)


def memory(pid: int) -> Memory:
    found = dict(_kib(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()))
    return Memory(rss=found["Rss"] * _KIB, pss=found["Pss"] * _KIB)


def _cpu_s(pid: int) -> float:
    # The name, in parentheses, may itself hold blanks and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S


def _kib(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            yield name, int(value.split()[0])
