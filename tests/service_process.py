"""A service of the house as a process of its own, for what only whole processes show."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from services.chassis import failpoints
from services.chassis.testing import free_port
from tests.chassis.proofs import Proofs

ROOT: Final = Path(__file__).parents[1]
START_MAX_S: Final = 60.0  # for what takes a second or two on a machine that has nothing else to do


def environment(proofs: Proofs, service: str, **settings: object) -> dict[str, str]:
    """What such a process is told."""
    told = {f"BODEGA_{service}__{name}".upper(): str(value) for name, value in settings.items()}
    return {**os.environ, **proofs.environment(service), **told}


@asynccontextmanager
async def running(
    proofs: Proofs, service: str, *, failpoint: str = "", **settings: object
) -> AsyncIterator[tuple[str, Process]]:
    """Where workloads call it, and the process, once it is ready. There is no broker: it serves without."""
    mesh_port, operations_port = free_port(), free_port()
    told = environment(
        proofs,
        service,
        mesh_port=mesh_port,
        operations_port=operations_port,
        nats_url=f"nats://127.0.0.1:{free_port()}",
        **settings,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}"),
        cwd=ROOT,
        env={**told, failpoints.VARIABLE: failpoint},
        stderr=DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operations_port}") as operations:
            async with asyncio.timeout(START_MAX_S):
                while not await _is_ready(operations, process):  # noqa: ASYNC110 (it tells nobody)
                    await asyncio.sleep(0.02)
        yield f"127.0.0.1:{mesh_port}", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _is_ready(operations: httpx.AsyncClient, process: Process) -> bool:
    assert process.returncode is None, "it does not start"
    try:
        return (await operations.get("/health/ready")).is_success
    except httpx.TransportError:
        return False
