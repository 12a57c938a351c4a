"""The child's end of `tests.load.children`: says that it is ready, then answers a JSON line with another."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from services.chassis import app

Json = dict[str, Any]
Handle = Callable[[Json], Awaitable[Json]]


async def obey(handle: Handle | None = None, **ready: object) -> None:
    """Says that it is ready and obeys until standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say(ready)
    while line := await reader.readline():
        assert handle, "this program takes no commands"
        _say(await handle(json.loads(line)))


def _say(answer: Json) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


run = app.main
"""As our own programs run."""


def run_yardstick(program: Coroutine[Any, Any, None]) -> None:
    """As anybody's run who wants speed: plain uvloop, where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(program)
    else:
        uvloop.run(program)
