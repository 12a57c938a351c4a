"""Sends orders as JSON over HTTP/1.1, each connection one at a time, each order with a key of its own.

python -m tests.load.programs.http_calls PORT BODY_FILE [TEXT_THAT_EVERY_REPLY_HAS]

What `authorization` a command names goes with each.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.load.programs import commands
from tests.load.programs.commands import Json

CONNECT_MAX_S = 10.0
_END = b"\r\n\r\n"


class Caller:
    """What it takes to send one kind of order, and what went wrong."""

    def __init__(self, port: int, body: bytes, expected: bytes) -> None:
        self._port = port
        self._body = body
        self._expected = expected
        self.authorization = ""
        self.failures = 0
        self.said = ""

    async def timed(self, requests: int, in_flight: int) -> float:
        connections = [await self._connect() for _ in range(in_flight)]
        left = iter(range(requests))
        begun = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as workers:
                for reader, writer in connections:
                    workers.create_task(self._work(left, reader, writer))
            return time.perf_counter() - begun
        finally:
            for _, writer in connections:
                writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_MAX_S):
            return await asyncio.open_connection("127.0.0.1", self._port)

    async def _work(
        self, left: Iterator[int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for _ in left:
            writer.write(self._request())
            head = await reader.readuntil(_END)
            body = await reader.readexactly(_content_length(head))
            if not head.startswith(b"HTTP/1.1 2") or self._expected not in body:
                self.failures += 1
                self.said = (head[:40] + body[:300]).decode(errors="replace")

    def _request(self) -> bytes:
        head = (
            "POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\nIdempotency-Key: {uuid.uuid4()}\r\n"
        )
        if self.authorization:
            head += f"Authorization: {self.authorization}\r\n"
        return f"{head}\r\n".encode() + self._body


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"no content-length in {head!r}")


async def main(port: int, body: bytes, expected: str) -> None:
    caller = Caller(port, body, expected.encode())

    async def handle(command: Json) -> Json:
        caller.failures, caller.authorization = 0, command.get("authorization", "")
        elapsed_s = await caller.timed(command["requests"], command["in_flight"])
        return {"elapsed_s": elapsed_s, "failures": caller.failures, "said": caller.said}

    await commands.obey(handle)


if __name__ == "__main__":
    commands.run(
        main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), sys.argv[3] if len(sys.argv) > 3 else "")
    )
