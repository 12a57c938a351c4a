"""Programs under measurement, each a process of its own that is told what to do a JSON line at a time.

A child ends when its standard input does, hence also when the harness dies.
"""

import asyncio
import json
import os
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
START_MAX_S: Final = 60.0
ANSWER_MAX_S: Final = 300.0
STOP_MAX_S: Final = 10.0

Json = dict[str, Any]


class ChildFailed(Exception):
    """A program ended, or did not answer in time; the message has its last words."""


class Child:
    """A running program that said it is ready."""

    def __init__(self, process: subprocess.Process, log: Path, *, stop_by_signal: bool = False) -> None:
        self._process = process
        self._log = log
        self._stop_by_signal = stop_by_signal
        self.ready: Json = {}
        """What it said when it was ready, such as its port."""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, **command: object) -> Json:
        """Its answer to a command. Raises ChildFailed."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answer(ANSWER_MAX_S)

    async def answer(self, within_s: float) -> Json:
        """The next line it says. Raises ChildFailed."""
        assert self._process.stdout
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), within_s)
        except TimeoutError:
            raise ChildFailed(f"{self._log.stem}: no answer in {within_s:g} s") from None
        if not line:
            raise ChildFailed(f"{self._log.stem} ended: {self._last_words()}")
        answer: Json = json.loads(line)
        return answer

    async def stop(self) -> None:
        """Has it end: politely, then not."""
        assert self._process.stdin
        self._process.stdin.close()
        if self._stop_by_signal and self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_MAX_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(lines[-3:])


@asynccontextmanager
async def running(
    folder: Path, module: str, *arguments: object, name: str = "", environment: dict[str, str] | None = None
) -> AsyncIterator[Child]:
    """`python -m module arguments…`, ready; stopped on leaving. Its errors go to a log in `folder`."""
    command = (sys.executable, "-m", module, *map(str, arguments))
    async with speaking(folder, command, name or module.rpartition(".")[2], environment) as child:
        child.ready = await child.answer(START_MAX_S)
        yield child


@asynccontextmanager
async def speaking(
    folder: Path,
    command: Sequence[str],
    name: str,
    environment: dict[str, str] | None = None,
    *,
    stop_by_signal: bool = False,
) -> AsyncIterator[Child]:
    """Any program; one that does not watch its standard input is stopped by SIGTERM."""
    log = folder / f"{name}.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
    child = Child(process, log, stop_by_signal=stop_by_signal)
    try:
        yield child
    finally:
        await child.stop()
