"""The operator's RPCs at a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from bodega.operator.v1 import failpoint_pb2 as pb
from bodega.operator.v1.failpoint_pb2_grpc import (
    FailpointServiceStub,
    add_FailpointServiceServicer_to_server,
)

from services.chassis import failpoints, status, telemetry
from services.chassis.failpoint_servicer import FailpointServicer
from services.chassis.testing import serving, until
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

pytestmark = pytest.mark.usefixtures("quiet_failpoints")


@asynccontextmanager
async def operated(*, production: bool = False) -> AsyncIterator[tuple[FailpointServiceStub, Stub]]:
    async def echo(request: Any, _context: Any) -> Any:
        return Pong(name=request.name)

    async with serving(
        (add_FailpointServiceServicer_to_server, FailpointServicer(production=production)),
        (playground.add_to_server, {"Fire": echo}),
        files=[pb.DESCRIPTOR, playground.FILE],
    ) as channel:
        yield FailpointServiceStub(channel), Stub(channel)


def asking(text: str) -> pb.SetFailpointsRequest:
    return pb.SetFailpointsRequest(failpoints=text)


async def refused(call: Any) -> tuple[str, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code().name, status.reason(raised.value)


async def test_what_is_set_is_played_counted_and_cleared() -> None:
    async with operated() as (operator, stub):
        await operator.SetFailpoints(asking("server.call.before[Fire]=error(UNAVAILABLE)*1"))
        assert (await refused(stub.Fire(Ping())))[0] == "UNAVAILABLE"
        await stub.Fire(Ping())
        standing = await operator.GetFailpoints(pb.GetFailpointsRequest())
        assert [*standing.failpoints] == [
            pb.Failpoint(place="server.call.before[Fire]", fault="error(UNAVAILABLE)*1", visits=2, plays=1)
        ]
        assert "storage.commit.before" in standing.sites or "server.reply.before" in standing.sites
        assert list(standing.sites) == sorted(failpoints.sites())
        assert not (await operator.ClearFailpoints(pb.ClearFailpointsRequest())).failpoints
    assert failpoints.standing() == []


@pytest.mark.parametrize(
    "text", ["server.call.befor=hang", "server.call.before=explode", "server.call.before=drop-reply", ";;="]
)
async def test_what_cannot_be_set_is_refused_and_what_stood_stays(text: str) -> None:
    async with operated() as (operator, _):
        await operator.SetFailpoints(asking("server.call.before[Nothing]=hang"))
        assert await refused(operator.SetFailpoints(asking(text))) == ("INVALID_ARGUMENT", "BAD_FAILPOINTS")
        assert len((await operator.GetFailpoints(pb.GetFailpointsRequest())).failpoints) == 1


async def test_the_operator_is_heard_while_everything_hangs() -> None:
    async with operated() as (operator, stub):
        await operator.SetFailpoints(asking("server.call.before=hang;server.reply.before=drop-reply"))
        hanging = asyncio.ensure_future(stub.Fire(Ping(name="hi")))
        await until(lambda: failpoints.standing()[0].plays)
        standing = await operator.GetFailpoints(pb.GetFailpointsRequest())
        assert [it.visits for it in standing.failpoints] == [1, 0]
        await operator.ClearFailpoints(pb.ClearFailpointsRequest())
        assert (await hanging).name == "hi"


async def test_production_refuses_to_play() -> None:
    async with operated(production=True) as (operator, _):
        for call in (
            operator.GetFailpoints(pb.GetFailpointsRequest()),
            operator.SetFailpoints(asking("server.call.before=hang")),
            operator.ClearFailpoints(pb.ClearFailpointsRequest()),
        ):
            assert await refused(call) == ("FAILED_PRECONDITION", "NO_FAILPOINTS_IN_PRODUCTION")
    assert not failpoints.are_on()


async def test_it_is_told_in_the_log() -> None:
    with telemetry.captured() as lines:
        async with operated() as (operator, _):
            await operator.SetFailpoints(asking("server.call.before[Nothing]=hang"))
            await operator.ClearFailpoints(pb.ClearFailpointsRequest())
    told = [line["failpoints"] for line in lines if line["event"] == "failpoints set"]
    assert told == ["server.call.before[Nothing]=hang", "none"]
