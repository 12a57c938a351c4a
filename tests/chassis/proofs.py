"""Proof of who calls, for tests of services that run on their own: papers of workloads, tokens of people."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor

from services.chassis import client, context
from services.chassis.context import RequestContext, TraceContext
from services.chassis.events.connection import BROKER
from services.chassis.events.permissions import users
from services.chassis.events.server import NatsServer
from services.chassis.identity.caller import Caller
from services.chassis.identity.config import IdentitySettings, OidcIssuer
from services.chassis.policy.access import ROLES
from services.chassis.testing import FakeClock
from services.cli.data_folder import OPERATOR, SERVICES
from tests.chassis.identity.issuer import AUDIENCE, TestIssuer
from tests.chassis.papers import Papers

_ISSUER: Final = "https://people.example"


class Proofs:
    """An authority, and an issuer outside the shop, both of which services with these settings believe."""

    def __init__(self, folder: Path, issuer: TestIssuer, jwks_url: str) -> None:
        self.papers = Papers(folder)
        self._issuer = issuer
        self._outside = OidcIssuer.model_validate(
            {
                "issuer": issuer.name,
                "jwks_url": jwks_url,
                "audience": AUDIENCE,
                "roles": {role: role for role in ROLES},
                "user_claim": "sub",
            }
        )

    def settings(self, service: str) -> dict[str, Any]:
        """What a service made here is told."""
        identity = IdentitySettings(oidc=(self._outside,))
        return {
            "service": service,
            "tls": self.papers.of(service),
            "guests_plaintext": True,
            "identity": identity,
        }

    def environment(self, service: str) -> dict[str, str]:
        """The same for a service in a process of its own."""
        tls = self.papers.of(service)
        told = {
            "tls__certificate": str(tls.certificate),
            "tls__authorities": str(tls.authorities),
            "guests_plaintext": "true",
            "identity__oidc": f"[{self._outside.model_dump_json()}]",
        }
        return {f"BODEGA_{service}__{name}".upper(): value for name, value in told.items()}

    def broker(self, folder: Path) -> NatsServer:
        """One that knows services by their papers."""
        allowed = users(SERVICES, operator=OPERATOR)
        return NatsServer(folder, tls=self.papers.of(BROKER), users=allowed)

    def connect(self, mesh_address: str, *files: FileDescriptor, workload: str) -> client.Channel:
        """A channel of a workload's to a mesh port."""
        return client.connect(mesh_address, *files, tls=self.papers.of(workload))

    @contextmanager
    def asking(self, user_id: str, *roles: str) -> Iterator[None]:
        """What is called inside is called with a token of this user's."""
        token = self._issuer.token(sub=user_id, roles=roles)
        caller = Caller(user_id, frozenset(roles), token=token)
        with context.working_on(RequestContext(TraceContext.fresh(), caller=caller)):
            yield


@asynccontextmanager
async def proving(folder: Path) -> AsyncIterator[Proofs]:
    """Services that believe these proofs can ask for the issuer's keys while inside."""
    issuer = TestIssuer(FakeClock(datetime.now(UTC)), _ISSUER)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        keys = await issuer.fetch()
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(keys)}\r\n\r\n".encode() + keys)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Proofs(folder / "papers", issuer, f"http://{host}:{port}/keys")
