"""A small server for tests that need a whole process: `python -m tests.chassis.program`.

Its method Read says `begun` on standard output, waits for a line on standard input, and says `ended` when its
`finally` has run. Write answers after a moment, with the process's id.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any, Final

from services.chassis import app
from services.chassis.config import ServiceSettings
from services.chassis.server.access import Everyone
from services.chassis.testing import until
from tests.chassis import playground
from tests.chassis.playground import FILE, Pong

MOMENT_S: Final = 0.02  # so that some calls are always in flight
START_MAX_S: Final = 45.0


async def started(port: int) -> Process:
    """A process of it, once it serves guests at this port. Whoever asks for it ends it."""
    told = {"BODEGA_PLAYGROUND__GUESTS_PLAINTEXT": "true", "BODEGA_PLAYGROUND__GRPC_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chassis.program",
        stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env={**os.environ, **told},
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), START_MAX_S), "it did not start"
    return process


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

    async def write(_request: Any, _context: Any) -> Any:
        await asyncio.sleep(MOMENT_S)
        return Pong(name=str(os.getpid()))

    server = app.App(settings, access=Everyone())
    server.serve(playground.add_to_server, {"Read": read, "Write": write}, FILE)
    server.background("announcer", lambda: announce(server))
    await server.run()


async def announce(server: app.App) -> None:
    await until(lambda: server.health.started)
    say(f"{server.grpc_address} {server.operations_address}")


if __name__ == "__main__":
    app.main(run(app.begin(ServiceSettings, "playground")))
