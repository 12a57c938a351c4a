"""One backend and one edge for all cases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from gateway import app
from gateway.app import Gateway, Settings
from tests.gateway.conformance.echo import Echo
from tests.gateway.conformance.table import Contract


@dataclass
class Bench:
    """Where cases are tried."""

    contract: Contract
    echo: Echo
    gateway: Gateway
    port: int

    @asynccontextmanager
    async def in_front_of(self, backend: int) -> AsyncIterator["Bench"]:
        """Another edge, before whatever listens there."""
        gateway = app.build(self.contract.files, [f"127.0.0.1:{backend}"])
        async with app.running(gateway) as running:
            yield Bench(self.contract, self.echo, gateway, running.port)


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    return Contract(tmp_path_factory.mktemp("conformance"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_bench(contract: Contract) -> AsyncIterator[Bench]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.aio.server(options=[*options, ("grpc.so_reuseport", 0)])
    echo = Echo(contract)
    server.add_generic_rpc_handlers((echo,))
    backend = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway = app.build(contract.files, [f"127.0.0.1:{backend}"], Settings(drain_max_s=5))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, 0)
        running = await stack.enter_async_context(app.running(gateway))
        yield Bench(contract, echo, gateway, running.port)


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """The shared one, with nothing called yet."""
    shared_bench.echo.calls.clear()
    return shared_bench
