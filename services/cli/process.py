"""One running program: started on a tether, writing to its log file, ended politely or not."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from services.chassis import tether

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A log file longer than this is put aside, one generation, when its program is next started."""

COULD_NOT_START: Final = 126
"""The code of a program that could not even be run, as shells have it."""

KERNEL_HOLDS_TETHERS: Final = sys.platform == "linux"


class Process:
    """A process of ours. Made by `start`; used from the event loop that made it."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self._process = process
        self._pipe = pipe

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        kernel_holds_tether: bool = KERNEL_HOLDS_TETHERS,
    ) -> "Process":
        """Starts `argv` (its first item an absolute path), appending whatever it prints to `log`.

        It gets a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone, and dies
        with the thread that calls this. Raises OSError if the log cannot be written or no process be made.
        """
        theirs, ours = (tether.NO_PIPE, tether.NO_PIPE) if kernel_holds_tether else os.pipe()
        try:
            with _opened(log) as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(theirs), "--"),
                    *argv,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=() if theirs == tether.NO_PIPE else (theirs,),
                )
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """What it ended with, as `subprocess` says it (-9: killed by SIGKILL); None while it runs."""
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.code is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Waits for its end."""
        code = await self._process.wait()
        _close(self._pipe)
        self._pipe = tether.NO_PIPE
        return code

    async def end(self, grace_s: float) -> int:
        """Asks it to end (SIGTERM); makes it (SIGKILL) after `grace_s` seconds."""
        self.send(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()


def last_line(log: Path) -> str:
    """The last thing a program said, for people who ask why it ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _opened(log: Path) -> BinaryIO:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    return log.open("ab")


def _close(descriptor: int) -> None:
    if descriptor != tether.NO_PIPE:
        os.close(descriptor)
