"""The contract compiled, a backend on a free port, and an edge in front of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from grpc_tools import protoc

from gateway import app, descriptors
from gateway.app import Settings
from tests.gateway.world import Backend, Client, World

HERE = Path(__file__).parent
PROTOS = HERE.parents[1] / "protos"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return compiled("edge.proto", tmp_path_factory)


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A contract that says much about itself."""
    return compiled("documented.proto", tmp_path_factory)


def compiled(name: str, folders: pytest.TempPathFactory) -> World:
    path = folders.mktemp("contract") / f"{name}.binpb"
    parties = (PROTOS / "third_party" / party for party in ("googleapis", "protovalidate"))
    includes = (HERE, PROTOS, *parties, Path(protoc.__file__).parent / "_proto")
    flags = [f"-I{folder}" for folder in includes]
    out = ["--include_imports", "--include_source_info", f"--descriptor_set_out={path}"]
    assert protoc.main(["", *flags, *out, name]) == 0
    files = descriptors.read(path)
    return World(path, files, descriptors.load(files)[0])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[Backend]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = Backend()
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield handler
    await server.stop(0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_edge(world: World, backend: Backend) -> AsyncIterator[Client]:
    settings = Settings(operations_port=0, body_bytes_max=64 * 1024, drain_max_s=5)
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], settings)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(app.running(gateway))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10)
        )
        assert running.operations_port is not None
        yield Client(http, backend, world, running.port, running.operations_port)


@pytest.fixture
def edge(shared_edge: Client) -> Client:
    """An edge that has seen nothing yet; tests that use it share a loop per module."""
    shared_edge.backend.forget()
    return shared_edge
