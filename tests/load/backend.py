"""What stands behind an edge under measurement: the fastest echo there is here.

nghttpd, a server of files written in C, passes for a gRPC server of one fixed reply: the file is the framed
message, the trailer says OK. Where it is not installed, our bare echo stands in.
"""

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.chassis.testing import free_port
from tests.load import children, envoy, messages

START_MAX_S: Final = 10.0
LOOK_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Backend:
    port: int
    name: str


@asynccontextmanager
async def echoing(folder: Path) -> AsyncIterator[Backend]:
    """Answers every order request with the same order."""
    nghttpd = shutil.which("nghttpd")
    if nghttpd is None:
        async with children.running(folder, "tests.load.programs.echo", "bare", name="backend") as echo:
            yield Backend(echo.ready["port"], "python echo behind")
        return
    root = folder / "backend"
    reply = root / messages.CREATE_ORDER.removeprefix("/")
    reply.parent.mkdir(parents=True)
    wire = messages.reply().SerializeToString()
    reply.write_bytes(struct.pack(">BI", 0, len(wire)) + wire)
    port = free_port()
    command = (
        nghttpd,
        "--no-tls",
        "-a",
        "127.0.0.1",
        "-d",
        str(root),
        "--trailer",
        "grpc-status: 0",
        str(port),
    )
    async with children.speaking(folder, command, "nghttpd", stop_by_signal=True):
        async with asyncio.timeout(START_MAX_S):
            while not await envoy.listens(port):  # noqa: ASYNC110 (we have to ask)
                await asyncio.sleep(LOOK_EVERY_S)
        yield Backend(port, "nghttpd (C++) behind")
