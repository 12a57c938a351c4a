"""What a lead is worth when its connection breaks just as it is won. (On a real server: test_postgresql.)"""

import asyncio
import threading
from typing import Any

from services.chassis.storage.leadership import Leads
from services.chassis.testing import until

WAIT_S = 10.0


class Broken(Exception):
    """What the driver says of a connection that is no more."""


class Server:
    """As much of a database as leads need: every lock is free, and answers may be held up."""

    driver_error = Broken

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def leader(self) -> "Connection":
        self.connections.append(Connection(self))
        return self.connections[-1]

    def lock_key(self, name: str) -> tuple[int, int]:
        return 0, len(name)


class Connection:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.locks = 0
        self.is_broken = False

    def execute(self, statement: str, _values: Any = None) -> "Connection":
        if self.is_broken:
            raise Broken
        if "try_advisory_lock" in statement:
            self.locks += 1
            assert self._server.go_on.wait(WAIT_S)
        return self

    def fetchone(self) -> dict[str, bool]:
        return {"ours": True}

    def close(self) -> None:
        self.is_broken = True


async def test_a_lead_that_was_lost_before_anybody_heard_that_it_was_won_is_none() -> None:
    server = Server()
    leads = Leads(server)  # type: ignore[arg-type]
    async with leads.leading("one") as one:
        server.go_on.clear()
        won: list[Any] = []

        async def leads_other() -> None:
            async with leads.leading("other"):
                won.append(server.connections[-1])
                await asyncio.Event().wait()

        other = asyncio.create_task(leads_other())
        await until(lambda: server.connections[0].locks == 2)  # it is ours, and nobody here knows yet
        server.connections[0].is_broken = True
        await asyncio.gather(one.confirm(), return_exceptions=True)
        server.go_on.set()
        await until(lambda: won)
        assert not won[0].is_broken, "it was won anew, on another connection"
        other.cancel()
        await asyncio.wait({other})


async def test_who_gives_up_a_lead_at_the_end_of_all_is_not_held_up() -> None:
    """As asyncio ends a program: by cancelling whatever still runs, all at once."""
    leads = Leads(Server())  # type: ignore[arg-type]
    led = asyncio.Event()

    async def works() -> None:
        async with leads.leading("one"):
            led.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(works())
    await asyncio.wait_for(led.wait(), WAIT_S)
    assert leads._keeper is not None
    leads._keeper.cancel()
    working.cancel()
    await asyncio.wait({working}, timeout=WAIT_S)
    assert working.cancelled()
