"""An edge whose backend is a mesh port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gateway import app
from gateway.app import Settings
from services.chassis.client import line
from services.chassis.identity.workload import workload_of
from services.chassis.tls import Identity, TlsFiles
from tests.chassis.papers import Papers
from tests.gateway.world import Backend, World

WAIT_S = 15.0


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path / "certificates")


@asynccontextmanager
async def mesh(shown: TlsFiles) -> AsyncIterator[Backend]:
    """A backend that speaks to workloads alone."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = Backend()
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_secure_port("127.0.0.1:0", Identity(shown).for_server(asks_who_calls=True))
    await server.start()
    try:
        yield handler
    finally:
        await server.stop(0)


@asynccontextmanager
async def edge(world: World, backend: Backend, shown: TlsFiles) -> AsyncIterator[httpx.AsyncClient]:
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(mesh=shown))
    async with (
        app.running(gateway) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=WAIT_S) as http,
    ):
        yield http


async def test_it_calls_as_the_workload_of_its_certificate_and_takes_up_a_new_one_unnoticed(
    world: World, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    callers: set[tuple[str, bytes]] = set()

    async def note(context: Any, _seen: Any) -> bytes:
        callers.add((workload_of(context), context.auth_context()["x509_pem_cert"][0]))
        return b""

    async with mesh(papers.of("edge")) as backend, edge(world, backend, papers.of("gateway")) as http:
        backend.answers["GetShelf"] = note
        assert (await http.get("/v1/shelves/1")).status_code == 200
        papers.of("gateway")
        async with asyncio.timeout(WAIT_S):
            while len(callers) < 2:
                assert (await http.get("/v1/shelves/1")).status_code == 200
    assert {workload for workload, _ in callers} == {"gateway"}


async def test_a_backend_that_is_another_workload_is_sent_nothing(world: World, papers: Papers) -> None:
    async with mesh(papers.of("order")) as backend, edge(world, backend, papers.of("gateway")) as http:
        assert (await http.get("/v1/shelves/1")).status_code == 503
    assert backend.calls == []
