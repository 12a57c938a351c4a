"""A small server for tests that need a whole process: `python -m tests.chassis.program`.

Its one method, Read, says `begun` on standard output, waits for a line on standard input, and says `ended`
when its `finally` has run.
"""

import asyncio
import sys
from typing import Any

from services.chassis import app
from services.chassis.config import ServiceSettings
from services.chassis.server.access import Everyone
from services.chassis.testing import until
from tests.chassis import playground
from tests.chassis.playground import FILE, Pong


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def run(settings: ServiceSettings) -> None:
    loop = asyncio.get_running_loop()

    async def read(request: Any, _context: Any) -> Any:
        say("begun")
        try:
            await loop.run_in_executor(None, sys.stdin.readline)
        finally:
            say("ended")
        return Pong(name=request.name)

    server = app.App(settings, access=Everyone())
    server.serve(playground.add_to_server, {"Read": read}, FILE)
    server.background("announcer", lambda: announce(server))
    await server.run()


async def announce(server: app.App) -> None:
    await until(lambda: server.health.started)
    say(f"{server.grpc_address} {server.operations_address}")


if __name__ == "__main__":
    app.main(run(app.begin(ServiceSettings, "playground")))
