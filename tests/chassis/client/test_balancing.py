"""Two replicas behind one target: who is well gets the calls, and nobody waits for who is not."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.chassis import app, client
from services.chassis.client import balancing
from services.chassis.client.line import Line
from services.chassis.config import ServiceSettings
from services.chassis.server.access import Everyone
from services.chassis.testing import free_port, serving
from tests.chassis import playground
from tests.chassis.papers import Papers
from tests.chassis.playground import FILE, Ping, Pong, Stub
from tests.chassis.program import started

WAIT_S = 30.0
AT_ONCE = 8
FROZEN_FOUND_S = (balancing.PING_AFTER_MS + balancing.PING_ANSWERED_WITHIN_MS) / 1000


@dataclass
class Replica:
    """One of several servers of the playground; answers with its name."""

    name: str
    papers: Papers
    port: int = field(default_factory=free_port)
    is_well: bool = True
    server: app.App = field(init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        told = ServiceSettings(
            service="playground",
            tls=self.papers.of("playground"),
            guests_plaintext=True,
            mesh_port=self.port,
            drain_delay_s=2.0,
        )
        self.server = app.App(told, access=Everyone())
        self.server.serve(playground.add_to_server, {"Write": self._answer}, FILE)
        self.server.check("itself", self._check)
        async with self.server.running():
            yield self

    async def becomes(self, *, well: bool) -> None:
        self.is_well = well
        await self.server.health.refresh()

    async def _answer(self, _request: Any, _context: Any) -> Any:
        return Pong(name=self.name)

    async def _check(self) -> bool:
        return self.is_well


@pytest.fixture
def replicas(tmp_path: Path) -> list[Replica]:
    papers = Papers(tmp_path / "certificates")
    return [Replica(name, papers) for name in ("one", "other")]


def target_of(*ports: int) -> str:
    return f"ipv4:{','.join(f'127.0.0.1:{port}' for port in ports)}"


def channel_to(replicas: list[Replica]) -> client.Channel:
    target = target_of(*(replica.port for replica in replicas))
    return client.connect(target, FILE, tls=replicas[0].papers.of("order"))


async def answering(channel: client.Channel) -> set[str]:
    """Who answers some calls, none of which fails."""
    replies = await asyncio.gather(*(Stub(channel).Write(Ping(), timeout=WAIT_S) for _ in range(AT_ONCE)))
    return {reply.name for reply in replies}


async def until_answered_by(channel: client.Channel, *names: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while await answering(channel) != set(names):  # each look is several calls
            pass


async def test_replicas_share_the_calls(replicas: list[Replica]) -> None:
    async with replicas[0].running(), replicas[1].running(), channel_to(replicas) as channel:
        await until_answered_by(channel, "one", "other")
        names = Counter([(await Stub(channel).Write(Ping())).name for _ in range(20)])
    assert names == {"one": 10, "other": 10}


async def test_a_replica_that_is_not_ready_gets_no_calls_until_it_is(replicas: list[Replica]) -> None:
    async with replicas[0].running(), replicas[1].running(), channel_to(replicas) as channel:
        await until_answered_by(channel, "one", "other")
        await replicas[0].becomes(well=False)
        await until_answered_by(channel, "other")
        await replicas[0].becomes(well=True)
        await until_answered_by(channel, "one", "other")


async def test_a_replica_that_drains_gets_no_calls_and_one_that_comes_back_does(
    replicas: list[Replica],
) -> None:
    async with AsyncExitStack() as first, replicas[1].running(), channel_to(replicas) as channel:
        await first.enter_async_context(replicas[0].running())
        await until_answered_by(channel, "one", "other")
        leaving = asyncio.create_task(first.aclose())
        await until_answered_by(channel, "other")
        async with channel_to(replicas[:1]) as direct:
            assert await answering(direct) == {"one"}  # nobody had to fail for that
        await leaving
        assert await answering(channel) == {"other"}
        await first.enter_async_context(replicas[0].running())
        await until_answered_by(channel, "one", "other")


async def test_an_only_replica_is_asked_though_it_is_not_ready(replicas: list[Replica]) -> None:
    async with replicas[0].running(), channel_to(replicas[:1]) as channel:
        await replicas[0].becomes(well=False)
        assert await answering(channel) == {"one"}


async def test_a_server_without_health_checks_is_taken_to_be_well() -> None:
    async def answer(_request: Any, _context: Any) -> Any:
        return Pong(name="bare")

    async with (
        serving((playground.add_to_server, {"Write": answer}), files=[FILE]) as one,
        serving((playground.add_to_server, {"Write": answer}), files=[FILE]) as other,
        client.connect(f"ipv4:{one.target},{other.target}", FILE) as channel,
    ):
        assert await answering(channel) == {"bare"}


async def test_a_frozen_process_is_passed_over_as_soon_as_its_pings_are_late() -> None:
    """Its kernel keeps the connection and takes in what is sent: only the silence tells."""
    ports = [free_port(), free_port()]
    processes = [await started(port) for port in ports]
    frozen, well = (str(process.pid) for process in processes)
    target = target_of(*ports)
    line = Line(target, client.options(target), files=None)
    stub = Stub(line.raw)

    async def asked() -> set[str]:
        """Who answers; a call that is caught ends with the connection, long before its deadline."""
        calls = (stub.Write(Ping(), timeout=WAIT_S) for _ in range(AT_ONCE))
        replies = await asyncio.gather(*calls, return_exceptions=True)
        return {"" if isinstance(reply, BaseException) else reply.name for reply in replies}

    try:
        async with asyncio.timeout(WAIT_S):
            while await asked() != {frozen, well}:
                pass
        processes[0].send_signal(signal.SIGSTOP)
        begun = asyncio.get_running_loop().time()
        assert await asked() == {"", well}
        assert asyncio.get_running_loop().time() - begun < 2 * FROZEN_FOUND_S
        assert await asked() == {well}
        processes[0].send_signal(signal.SIGCONT)
        async with asyncio.timeout(WAIT_S):
            while await asked() != {frozen, well}:
                pass
    finally:
        await line.close()
        for process in processes:
            process.kill()
            await process.communicate()
