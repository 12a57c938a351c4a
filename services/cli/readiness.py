"""Whether a program that was started can be talked to.

Small questions over plain sockets: a supervisor should not weigh what its programs weigh.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

ANSWER_MAX_S: Final = 2.0  # longer than the checks that a service makes before it answers
Ready = Callable[[], Awaitable[bool]]
"""Asks once; False for whatever is not a clear yes."""


def http_ok(host: str, port: int, path: str) -> Ready:
    """Answers `GET path` with 200."""

    async def ask() -> bool:
        status, _, _ = (await _answer(host, port, _get(host, port, path))).partition(b"\r\n")
        return status.split(b" ")[1:2] == [b"200"]

    return ask


def edge_with_backends(host: str, port: int) -> Ready:
    """A gateway that is ready and connected to all its backends, as its operations port says."""

    async def ask() -> bool:
        answer = await _answer(host, port, _get(host, port, "/health/ready"))
        try:
            report = json.loads(answer.partition(b"\r\n\r\n")[2])
            return report["status"] == "ready" and set(report["backends"].values()) <= {"ready"}
        except (ValueError, KeyError, TypeError, AttributeError):
            return False

    return ask


def nats_with_jetstream(host: str, port: int) -> Ready:
    """Greets clients as a NATS server whose JetStream runs."""

    async def ask() -> bool:
        kind, _, greeting = (await _answer(host, port, b"")).partition(b" ")
        try:
            return kind == b"INFO" and json.loads(greeting).get("jetstream") is True
        except ValueError:
            return False

    return ask


def _get(host: str, port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()


async def _answer(host: str, port: int, request: bytes) -> bytes:
    """What the other side says to a request; its first line where there is no request.

    Empty if it does not listen, answer, or answer in time.
    """
    try:
        async with asyncio.timeout(ANSWER_MAX_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await (reader.read() if request else reader.readline())
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError):  # ValueError: a line beyond the reader's limit
        return b""
