"""A server of a known capacity, for storms: `python -m tests.faults.workshop`.

So many hands, each busy with a call for so long; who comes beyond waits for a hand. That bounds it, not the
processor, which on the machines that tests run on belongs to others, too.
"""

import asyncio
import sys
from typing import Any, Final

from services.chassis import app
from services.chassis.config import ServiceSettings
from services.chassis.server.access import Everyone
from services.chassis.testing import until
from tests.chassis import playground
from tests.chassis.playground import FILE, Pong

HANDS: Final = 5
WORK_S: Final = 0.1


async def run(settings: ServiceSettings) -> None:
    hands = asyncio.Semaphore(HANDS)

    async def work(request: Any, _context: Any) -> Any:
        async with hands:
            await asyncio.sleep(WORK_S)
        return Pong(name=request.name)

    async def hang(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    server = app.App(settings, access=Everyone())
    handlers = {"Write": work, "Fire": work, "Read": work, "Recite": hang}
    server.serve(playground.add_to_server, handlers, FILE)
    server.background("announcer", lambda: announce(server))
    await server.run()


async def announce(server: app.App) -> None:
    await until(lambda: server.health.started)
    sys.stdout.write(f"{server.grpc_address} {server.operations_address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    app.main(run(app.begin(ServiceSettings, "playground")))
