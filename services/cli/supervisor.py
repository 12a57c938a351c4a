"""Keeps programs running: starts them, waits until they are ready, starts them again when they die.

    async with Supervisor([Program("order", argv, ready=http_ok(...))], logs=folder) as programs:
        await programs.start()                      # returns when every one is ready
        before = programs.starts("order")
        programs.kill("order")                      # kill -9
        await programs.wait_ready("order", starts=before + 1)

For tests of faults there is more: `hold` lets a program stay down when it dies, `restart` starts it anew
with other variables (failpoints, say) for that one process, `wait_exit` waits for a death that something
else causes.

Leaving the block stops everything, stage by stage, and leaves no process behind. So does the end of this
process, whatever kills it: see services/chassis/tether.py. A supervisor belongs to one event loop, whose
thread must live as long as the programs shall.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.cli import process
from services.cli.process import Process
from services.cli.readiness import Ready
from services.cli.restarts import RestartPolicy

READY_EVERY_S: Final = 0.05
START_MAX_S: Final = 60.0  # a loaded machine with cold disks; a laptop takes a few seconds
STOP_GRACE_S: Final = 20.0  # longer than a service may take to drain


@dataclass(frozen=True, slots=True)
class Program:
    """Something to keep running."""

    name: str
    argv: Sequence[str]
    """The first is an absolute path. Never secrets: everyone on the machine can read them."""

    ready: Ready
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beyond what this process itself has."""

    stage: int = 0
    """Programs of a higher stage are stopped before those of a lower one."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people watching should see."""

    name: str
    event: str
    """`ready`, `died`, `restarting`, `stopped`, `hidden`: up, but nobody can be told where; or `stale`: it
    is not renewed."""

    detail: str = ""
    pid: int = 0


class DidNotStart(Exception):
    """A program ended, or did not get ready in time, while it was being started; the message is one line."""


class NotInTime(Exception):
    """What was waited for did not happen; the message says what, and the program's last words."""


class _Kept:
    """One program and its present process."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: Process | None = None
        self.starts = 0
        self.exits: list[int] = []
        self.exits_before = 0
        self.ready = False
        self.held = False
        self.is_ending = False
        self.restart_at_once = False
        self.once: Mapping[str, str] = {}
        self.keeper: asyncio.Task[None] | None = None

    @property
    def is_kept(self) -> bool:
        return self.keeper is not None and not self.keeper.done()


class Supervisor:
    """Keeps programs running; see the module."""

    def __init__(
        self,
        programs: Iterable[Program],
        *,
        logs: Path,
        restarts: RestartPolicy | None = None,
        on_notice: Callable[[Notice], None] = lambda _notice: None,
        start_max_s: float = START_MAX_S,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._kept = {program.name: _Kept(program, logs / f"{program.name}.log") for program in programs}
        self._restarts = restarts or RestartPolicy()
        self._on_notice = on_notice
        self._start_max_s = start_max_s
        self._stop_grace_s = stop_grace_s
        self._changed = asyncio.Condition()
        self._starting: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Starting and stopping

    async def start(self, *names: str) -> None:
        """Starts the programs named, or all, side by side; returns when every one is ready.

        Raises DidNotStart as soon as one ends instead; what else was started keeps running until `stop`.
        """
        wanted = names or tuple(self._kept)
        self._starting.update(wanted)
        try:
            for name in wanted:
                kept = self._kept[name]
                if not kept.is_kept:
                    kept.exits_before = len(kept.exits)
                    kept.held = kept.is_ending = False
                    kept.keeper = asyncio.create_task(self._keep(kept), name=f"keep-{name}")
            await self._until(lambda: self._started(wanted), self._start_max_s)
        except TimeoutError:
            late = ", ".join(name for name in wanted if not self._kept[name].ready)
            raise DidNotStart(f"{late} not ready after {self._start_max_s:g} s") from None
        finally:
            self._starting.difference_update(wanted)

    async def stop(self) -> None:
        """Ends all programs, higher stages first, each politely if it can; leaves no process behind."""
        failures: list[BaseException] = []
        for stage in sorted({kept.program.stage for kept in self._kept.values()}, reverse=True):
            ends = (self._end(kept) for kept in self._kept.values() if kept.program.stage == stage)
            ended = await asyncio.gather(*ends, return_exceptions=True)
            failures += [failure for failure in ended if failure is not None]
        if failures:
            raise failures[0]

    def kill_all(self) -> None:
        """Kill -9 to everything at once, as a power cut would; nothing is restarted.

        `stop` waits for the end.
        """
        for kept in self._kept.values():
            kept.is_ending = True
            if kept.process is not None:
                kept.process.send(signal.SIGKILL)

    # One program

    def pid(self, name: str) -> int:
        """Of the present process, or the last one; 0 before the first."""
        found = self._kept[name].process
        return found.pid if found else 0

    def starts(self, name: str) -> int:
        """How many processes the program has had."""
        return self._kept[name].starts

    def exits(self, name: str) -> int:
        """How many of them have ended."""
        return len(self._kept[name].exits)

    def is_ready(self, name: str) -> bool:
        """Whether the present process has said once that it is ready, and still runs."""
        return self._kept[name].ready

    def last_words(self, name: str) -> str:
        """The last line of its log."""
        return process.last_line(self._kept[name].log)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal, kill -9 by default. After a deadly one the program is not ready from now on."""
        kept = self._kept[name]
        if kept.process is not None:
            kept.process.send(number)
            if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
                kept.ready = False

    def hold(self, name: str) -> None:
        """When it dies, it stays down until `start` or `restart`, which take this back."""
        self._kept[name].held = True

    def release(self, name: str) -> None:
        """Takes `hold` back; a program that is down already stays so until it is started."""
        self._kept[name].held = False

    async def restart(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Ends the present process politely, if there is one, and waits until the next one is ready.

        `environment` is for that next process alone; those that follow run without it.
        """
        kept = self._kept[name]
        kept.held = False
        kept.once = environment or {}
        if not kept.is_kept:
            await self.start(name)
            return
        before = kept.starts
        kept.restart_at_once = True
        if kept.process is not None:
            kept.ready = False
            await kept.process.end(self._stop_grace_s)
        await self.wait_ready(name, starts=before + 1)

    async def wait_ready(self, *names: str, starts: int = 0, timeout_s: float = START_MAX_S) -> None:
        """Waits until all named, or all there are, are ready, each with at least its `starts`-th process.

        Raises NotInTime.
        """
        wanted = [self._kept[name] for name in names or self._kept]
        try:
            await self._until(lambda: all(kept.ready and kept.starts >= starts for kept in wanted), timeout_s)
        except TimeoutError:
            late = next(kept for kept in wanted if not (kept.ready and kept.starts >= starts))
            raise NotInTime(_not_in_time(late, "ready", timeout_s)) from None

    async def wait_exit(self, name: str, *, exits: int = 1, timeout_s: float = START_MAX_S) -> int:
        """Waits until so many processes of the program have ended; the code of that one. Raises NotInTime."""
        kept = self._kept[name]
        try:
            await self._until(lambda: len(kept.exits) >= exits, timeout_s)
        except TimeoutError:
            raise NotInTime(_not_in_time(kept, "at its end", timeout_s)) from None
        return kept.exits[exits - 1]

    # What keeps it running

    async def _keep(self, kept: _Kept) -> None:
        """Runs one process after the other until the program is to stay down."""
        deaths = 0
        while True:
            began = time.monotonic()
            code = await self._live(kept)
            kept.exits.append(code)
            await self._tell()
            if kept.is_ending or kept.program.name in self._starting:
                return
            if kept.restart_at_once:
                kept.restart_at_once = False
                continue
            self._on_notice(Notice(kept.program.name, "died", _how(code), self.pid(kept.program.name)))
            if kept.held:
                return
            deaths = self._restarts.deaths_in_a_row(deaths, time.monotonic() - began)
            delay_s = self._restarts.delay_s(deaths, random.random)
            self._on_notice(Notice(kept.program.name, "restarting", f"in {delay_s:.1f} s"))
            await asyncio.sleep(delay_s)
            if kept.is_ending:
                return

    async def _live(self, kept: _Kept) -> int:
        """One process from its start to its end; what it ended with."""
        environment = {**os.environ, **kept.program.environment, **kept.once}
        kept.once = {}
        kept.starts += 1
        try:
            kept.process = await Process.start(kept.program.argv, environment=environment, log=kept.log)
        except OSError:
            return process.COULD_NOT_START
        probing = asyncio.create_task(self._until_ready(kept), name=f"probe-{kept.program.name}")
        try:
            return await kept.process.wait()
        finally:
            kept.ready = False
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing

    async def _until_ready(self, kept: _Kept) -> None:
        asked = kept.process
        while not await kept.program.ready():  # noqa: ASYNC110 (nobody tells us; we have to ask)
            await asyncio.sleep(READY_EVERY_S)
        if asked is not None and asked.code is None:
            kept.ready = True
            self._on_notice(Notice(kept.program.name, "ready", pid=asked.pid))
            await self._tell()

    async def _end(self, kept: _Kept) -> None:
        if not kept.is_kept:
            return
        assert kept.keeper is not None
        kept.is_ending = True
        kept.restart_at_once = False
        if kept.process is not None:
            await kept.process.end(self._stop_grace_s)
        kept.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await kept.keeper
        if kept.process is not None and kept.process.code is None:
            await kept.process.end(self._stop_grace_s)  # started while its predecessor was being ended
        self._on_notice(Notice(kept.program.name, "stopped"))

    def _started(self, wanted: Iterable[str]) -> bool:
        """Whether all are ready. Raises DidNotStart for one that has ended."""
        for name in wanted:
            kept = self._kept[name]
            if len(kept.exits) > kept.exits_before:
                raise DidNotStart(_in_one_line(name, _how(kept.exits[-1]), self.last_words(name)))
        return all(self._kept[name].ready for name in wanted)

    async def _until(self, predicate: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(predicate)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _not_in_time(kept: _Kept, what: str, timeout_s: float) -> str:
    words = process.last_line(kept.log)
    return _in_one_line(kept.program.name, f"is not {what} after {timeout_s:g} s", words)


def _in_one_line(name: str, what: str, last_words: str) -> str:
    return f"{name} {what}" + (f": {last_words}" if last_words else "")
