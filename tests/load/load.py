"""Where requests come from: h2load, which is written in C, or our own client where it is not installed."""

import asyncio
import re
import shutil
import struct
from asyncio import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.load import children, identity, messages
from tests.load.children import Child

H2LOAD_MAX_S: Final = 300.0
IN_FLIGHT: Final = 32

_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s)\b")
_STATUS = re.compile(r"status codes: (\d+) 2xx")
_DATA = re.compile(r"\((\d+)\) data")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class LoadFailed(Exception):
    """Not every request was answered as it should be; the message says how many were."""


class Load(Protocol):
    """Sends requests to one server."""

    async def send(self, requests: int) -> float:
        """Seconds that this many requests took. Raises LoadFailed."""
        ...


def h2load() -> str | None:
    return shutil.which("h2load")


def tool() -> str:
    """What makes the load here, for the conditions of a figure."""
    return "h2load" if h2load() else "own client"


@dataclass(frozen=True, slots=True)
class H2load:
    """h2load, and what each reply must weigh at least: it counts gRPC errors as successes."""

    arguments: Sequence[str]
    reply_bytes_min: int

    async def send(self, requests: int) -> float:
        process = await asyncio.create_subprocess_exec(
            h2load() or "h2load", "-n", str(requests), "-t1", *self.arguments, stdout=subprocess.PIPE
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), H2LOAD_MAX_S)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return self.seconds(output.decode(), requests)

    def seconds(self, said: str, requests: int) -> float:
        """What h2load said it took. Raises LoadFailed unless every request was answered in full."""
        finished, status, data = (pattern.search(said) for pattern in (_FINISHED, _STATUS, _DATA))
        if not finished or not status or not data:
            raise LoadFailed(f"h2load said {said[-300:]!r}")
        if int(status[1]) != requests or int(data[1]) < requests * self.reply_bytes_min:
            raise LoadFailed(f"{status[1]} of {requests} answered, {data[1]} bytes")
        return float(finished[1]) * _SECONDS[finished[2]]


@dataclass(frozen=True, slots=True)
class OwnClient:
    """A child that makes the requests."""

    child: Child

    async def send(self, requests: int, *, authorization: str = "") -> float:
        answer = await self.child.ask(
            requests=requests, in_flight=IN_FLIGHT, as_load=True, authorization=authorization
        )
        if answer.get("failures"):
            raise LoadFailed(f"{answer['failures']} of {requests} failed: {answer.get('said')}")
        return float(answer["elapsed_s"])


@asynccontextmanager
async def grpc_load(folder: Path, port: int) -> AsyncIterator[Load]:
    """Order requests by gRPC, 32 in flight."""
    async with children.running(
        folder, "tests.load.programs.calls", f"127.0.0.1:{port}", "bare", name=f"calls-{port}"
    ) as child:  # which has made a call already and looked at the answer
        if not h2load():
            yield OwnClient(child)
            return
        body = folder / "request.grpc"
        wire = messages.request().SerializeToString()
        body.write_bytes(struct.pack(">BI", 0, len(wire)) + wire)
        headers = ("content-type: application/grpc", "te: trailers", "grpc-timeout: 10S")
        arguments = (
            *("-c4", "-m8", f"-d{body}"),
            *(f"-H{header}" for header in (*headers, ": ".join(messages.TRACEPARENT))),
            f"-H{': '.join(identity.authorization())}",
            f"http://127.0.0.1:{port}{messages.CREATE_ORDER}",
        )
        yield H2load(arguments, len(messages.reply().SerializeToString()))


@asynccontextmanager
async def http_load(folder: Path, port: int) -> AsyncIterator[Load]:
    """Orders as JSON by HTTP/1.1, on 32 connections."""
    body = folder / "request.json"
    body.write_text(messages.request_json())
    url = f"http://127.0.0.1:{port}/api/v1/orders"
    async with AsyncExitStack() as stack:
        if not h2load():
            child = await stack.enter_async_context(
                children.running(folder, "tests.load.programs.http_calls", port, body, name=f"http-{port}")
            )
            yield OwnClient(child)
            return
        headers = ("content-type: application/json", "idempotency-key: 0199a1b2-0000-7000-8000-00000000ffff")
        arguments = (
            "--h1",
            f"-c{IN_FLIGHT}",
            "-m1",
            f"-d{body}",
            *(f"-H{header}" for header in headers),
            url,
        )
        yield H2load(arguments, 300)
