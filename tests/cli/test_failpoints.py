"""`bodega failpoints`: which services are asked, as whom, and what is said when they refuse."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from bodega.operator.v1 import failpoint_pb2
from bodega.operator.v1.failpoint_pb2_grpc import add_FailpointServiceServicer_to_server

from services.chassis import app
from services.chassis.config import ServiceSettings
from services.chassis.failpoint_servicer import FailpointServicer
from services.chassis.identity.tokens import Tokens
from services.chassis.identity.workload import workload_of
from services.chassis.server.access import Access
from services.cli import failpoints
from services.cli.certificates import Certificates
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.refusal import Refused
from services.kernel.clock import SystemClock

pytestmark = pytest.mark.usefixtures("quiet_failpoints")

SLEEP = "server.call.before[Nothing]=hang"


@asynccontextmanager
async def a_shop(folder: Path) -> AsyncIterator[Endpoints]:
    """Of an order service alone; whom it does not know it does not let in."""
    certificates = Certificates(folder)
    certificates.renew()
    settings = ServiceSettings(
        service="order",
        guests_plaintext=True,
        tls={"certificate": certificates.of("order"), "authorities": certificates.authorities("order")},
    )
    server = app.App(settings, access=Access(Tokens(SystemClock()), workload_of))
    servicer = FailpointServicer(production=False)
    server.serve(add_FailpointServiceServicer_to_server, servicer, failpoint_pb2.DESCRIPTOR)
    async with server.running():
        at = ServiceEndpoint(server.grpc_address, server.operations_address, 7, "", mesh=server.mesh_address)
        yield Endpoints("http://127.0.0.1:1", "nats://127.0.0.1:1", {"order": at}, certificates=str(folder))


@pytest.mark.parametrize("names", [[], ["order"]])
async def test_what_is_set_stands_until_it_is_cleared(tmp_path: Path, names: list[str]) -> None:
    async with a_shop(tmp_path) as shop:
        made = await failpoints.set_in(shop, SLEEP, names)
        assert failpoints._lines(made["order"]) == [f"{SLEEP}  0 of 0 visits"]
        assert (await failpoints.standing(shop, names))["order"] == made["order"]
        assert not (await failpoints.cleared(shop, names))["order"].failpoints


async def test_replicas_are_asked_each_and_by_name(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        one = shop.services["order"]
        both = replace(shop, services={"order": replace(one, replicas={"order-1": one, "order-2": one})})
        assert set(await failpoints.set_in(both, SLEEP, [])) == {"order-1", "order-2"}
        assert set(await failpoints.standing(both, ["order-2"])) == {"order-2"}
        assert set(await failpoints.cleared(both, ["order"])) == {"order-1", "order-2"}


async def test_nobody_but_the_operator_is_heard(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        disguised = replace(shop, certificates=str(tmp_path / "others"))
        (tmp_path / "others").mkdir()
        (tmp_path / "others" / "operator").symlink_to(tmp_path / "payment")
        with pytest.raises(Refused, match="not allowed"):
            await failpoints.set_in(disguised, SLEEP, ["order"])
        assert not (await failpoints.standing(shop, []))["order"].failpoints


@pytest.mark.parametrize(
    ("text", "names", "why"),
    [
        ("order.nowhere=exit", [], r"no service has a place called order\.nowhere"),
        ("server.call.before=explode", [], "explode"),
        ("order.nowhere=exit", ["order"], r"order: no place is called order\.nowhere"),
        (SLEEP, ["orders"], "there is no service orders, only order"),
    ],
)
async def test_what_cannot_be_set_is_refused_in_a_line(
    tmp_path: Path, text: str, names: list[str], why: str
) -> None:
    async with a_shop(tmp_path) as shop:
        with pytest.raises(Refused, match=why):
            await failpoints.set_in(shop, text, names)


async def test_a_service_that_is_away_is_named(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        pass
    with pytest.raises(Refused, match=r"^order: "):
        await failpoints.cleared(shop, [])


async def test_without_certificates_there_is_no_operator(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        with pytest.raises(Refused, match="mesh port"):
            await failpoints.standing(replace(shop, certificates=""), [])
