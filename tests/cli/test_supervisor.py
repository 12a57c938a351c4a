"""The supervisor with tiny programs instead of a shop."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from services.chassis.policy.backoff import Backoff
from services.cli import ports
from services.cli.process import Process
from services.cli.readiness import http_ok
from services.cli.restarts import RestartPolicy
from services.cli.supervisor import DidNotStart, Notice, NotInTime, Program, Supervisor

PROGRAM = Path(__file__).parent / "program.py"
QUICK = RestartPolicy(Backoff(first_s=0.01, max_s=0.05))
WAIT_MAX_S = 20.0


def program(name: str, *fault: str, stage: int = 0) -> Program:
    (port,) = ports.free(1)
    return Program(
        name,
        (sys.executable, str(PROGRAM), str(port), *fault),
        ready=http_ok("127.0.0.1", port, "/"),
        environment={"PORT": str(port)},
        stage=stage,
    )


def supervising(tmp_path: Path, *programs: Program, **settings: object) -> Supervisor:
    settings = {"restarts": QUICK, "stop_grace_s": 5.0, "start_max_s": WAIT_MAX_S, **settings}
    return Supervisor(programs, logs=tmp_path, **settings)  # type: ignore[arg-type]


async def asked(of: Program, path: str) -> str:
    url = f"http://127.0.0.1:{of.environment['PORT']}{path}"

    def get() -> str:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())

    return await asyncio.to_thread(get)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until(fact: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_MAX_S
    while not fact():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def test_starting_returns_when_every_program_is_ready(tmp_path: Path) -> None:
    a, b = program("a"), program("b")
    async with supervising(tmp_path, a, b) as programs:
        await programs.start()
        assert [programs.is_ready(name) for name in ("a", "b")] == [True, True]
        assert await asked(a, "/env/PORT") == a.environment["PORT"]


async def test_leaving_ends_every_program(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a"), program("b")) as programs:
        await programs.start()
        pids = [programs.pid("a"), programs.pid("b")]
    assert [alive(pid) for pid in pids] == [False, False]


async def test_programs_of_a_higher_stage_are_stopped_first(tmp_path: Path) -> None:
    stopped = []

    def noticed(notice: Notice) -> None:
        if notice.event == "stopped":
            stopped.append(notice.name)

    programs = [program("broker", stage=0), program("edge", stage=2), program("service", stage=1)]
    async with supervising(tmp_path, *programs, on_notice=noticed) as supervisor:
        await supervisor.start()
    assert stopped == ["edge", "service", "broker"]


async def test_a_program_that_does_not_heed_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a", "stubborn"), stop_grace_s=0.2) as programs:
        await programs.start()
        pid = programs.pid("a")
    assert not alive(pid)


async def test_a_program_that_ends_while_starting_is_reported_with_its_last_words(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a"), program("b", "dies")) as programs:
        with pytest.raises(DidNotStart, match=r"^b ended with code 1: I shall not start$"):
            await programs.start()


async def test_a_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    missing = Program("a", ("/nowhere/program",), ready=http_ok("127.0.0.1", 1, "/"))
    async with supervising(tmp_path, missing) as programs:
        with pytest.raises(DidNotStart, match="a ended with code 126: /nowhere/program: No such file"):
            await programs.start()


async def test_a_program_that_never_gets_ready_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a", "never-ready"), start_max_s=0.5) as programs:
        with pytest.raises(DidNotStart, match=r"a not ready after 0.5 s"):
            await programs.start()


async def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    notices: list[Notice] = []
    async with supervising(tmp_path, program("a"), on_notice=notices.append) as programs:
        await programs.start()
        before = programs.pid("a")
        programs.kill("a")
        assert not programs.is_ready("a")
        await programs.wait_ready("a", starts=2)
        assert programs.pid("a") != before
        assert await programs.wait_exit("a") == -signal.SIGKILL
    assert [notice.event for notice in notices] == ["ready", "died", "restarting", "ready", "stopped"]
    assert notices[1].detail == "killed by SIGKILL"


async def test_a_program_that_dies_of_its_start_is_tried_until_it_lives(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text("")
    async with supervising(tmp_path, program("a", f"dies-once={flag}")) as programs:
        await programs.start()
        flag.unlink()
        programs.kill("a")
        await programs.wait_ready("a", starts=3)
        assert programs.exits("a") == 2


async def test_a_program_that_is_held_stays_down_until_it_is_started(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a")) as programs:
        await programs.start()
        programs.hold("a")
        programs.kill("a")
        await programs.wait_exit("a")
        with pytest.raises(NotInTime, match=r"a is not ready after 0.3 s"):
            await programs.wait_ready("a", timeout_s=0.3)
        programs.release("a")
        await programs.start("a")
        assert programs.is_ready("a")


async def test_a_restart_gives_variables_to_that_one_process(tmp_path: Path) -> None:
    a = program("a")
    async with supervising(tmp_path, a) as programs:
        await programs.start()
        await programs.restart("a", {"FAULT_FOR_ONCE": "yes"})
        assert await asked(a, "/env/FAULT_FOR_ONCE") == "yes"
        programs.kill("a")
        await programs.wait_ready("a", starts=3)
        assert await asked(a, "/env/FAULT_FOR_ONCE") == ""


async def test_everything_can_be_killed_at_once_and_started_again(tmp_path: Path) -> None:
    async with supervising(tmp_path, program("a"), program("b")) as programs:
        await programs.start()
        programs.kill_all()
        await programs.stop()
        for name in ("a", "b"):
            assert await programs.wait_exit(name) == -signal.SIGKILL
        await programs.start()
        assert (programs.starts("a"), programs.starts("b")) == (2, 2)


SUPERVISOR_TO_KILL = """
import asyncio, sys
from pathlib import Path
from services.cli import process

async def main():
    argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    held_by_kernel = sys.argv[2] == "kernel"
    child = await process.Process.start(
        argv, environment={}, log=Path(sys.argv[1]), kernel_holds_tether=held_by_kernel)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("holder", ["kernel", "watcher"])
async def test_a_killed_supervisor_takes_its_programs_along(tmp_path: Path, holder: str) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(  # noqa: ASYNC220 (forking takes a millisecond)
        [sys.executable, "-c", SUPERVISOR_TO_KILL, str(log), holder], stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(await asyncio.to_thread(supervisor.stdout.readline))
        await until(lambda: log.read_text() == "up\n")
        assert alive(pid)
        supervisor.kill()
    await until(lambda: not alive(pid))


async def test_a_watched_program_can_be_ended_politely_and_its_watcher_goes_with_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    log = tmp_path / "log"
    child = await Process.start(argv, environment={}, log=log, kernel_holds_tether=False)
    await until(lambda: log.exists() and log.read_text() == "up\n")
    assert await child.end(WAIT_MAX_S) == -signal.SIGTERM
    await until(lambda: not group_exists(child.pid))


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_long_log_is_put_aside_when_its_program_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.process.LOG_BYTES_MAX", 10)
    log = tmp_path / "a.log"
    log.write_text("more than ten bytes")
    child = await Process.start([sys.executable, "-c", "print('new')"], environment={}, log=log)
    await child.wait()
    assert (log.read_text(), log.with_suffix(".log.1").read_text()) == ("new\n", "more than ten bytes")
