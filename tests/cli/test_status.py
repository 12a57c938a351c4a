"""`bodega status` of shops where something is amiss, and how it words what it found."""

import asyncio
import math
from pathlib import Path

import grpc
import pytest

from services.chassis import app, client
from services.chassis.config import ServiceSettings
from services.chassis.policy.circuit import Limits
from services.chassis.server.access import Everyone
from services.cli import observation, status
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.observation import Observation
from tests.chassis.playground import FILE, SERVICE, Ping, Stub

NOWHERE = ServiceEndpoint(grpc="127.0.0.1:1", http="127.0.0.1:1", pid=1, database="")


def shop(**services: ServiceEndpoint) -> Endpoints:
    return Endpoints(gateway="http://127.0.0.1:1", nats="nats://127.0.0.1:1", services=services)


def test_programs_that_do_not_answer_are_not_serving() -> None:
    found = {seen.name: seen for seen in status.observed(shop(order=NOWHERE))}
    assert {name: seen.health for name, seen in found.items()} == {
        "gateway": "NO ANSWER",
        "order": "UNAVAILABLE",
        "nats": "NO ANSWER",
    }
    assert not any(seen.is_serving for seen in found.values())
    assert found["order"].missing == ("operations port: no answer",)


@pytest.mark.parametrize(
    ("required", "health", "serving"), [(False, "DEGRADED", True), (True, "NOT_SERVING", False)]
)
async def test_a_service_says_what_it_lacks(required: bool, health: str, serving: bool) -> None:  # noqa: FBT001
    server = app.App(ServiceSettings(service="order", guests_plaintext=True), access=Everyone())

    async def away() -> bool:
        return False

    server.check("events", away, required=required)
    async with server.running():
        at = ServiceEndpoint(server.grpc_address, server.operations_address, 7, "")
        seen = await asyncio.to_thread(observation.service, "order", at)
    assert (seen.health, seen.is_serving, seen.missing) == (health, serving, ("events: not there",))


async def test_a_service_says_whom_it_leaves_alone(capsys: pytest.CaptureFixture[str]) -> None:
    server = app.App(ServiceSettings(service="order", guests_plaintext=True), access=Everyone())
    once = Limits(consecutive_failures=1, open_s=3600)
    async with (
        client.connect("127.0.0.1:1", FILE, metrics=server.metrics, circuits=once) as channel,
        server.running(),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await Stub(channel).Fire(Ping())
        at = ServiceEndpoint(server.grpc_address, server.operations_address, 7, "")
        seen = await asyncio.to_thread(observation.service, "order", at)
    assert seen.left_alone == (f"{SERVICE}/Fire at 127.0.0.1:1 (circuit open)",)
    status._show([seen])
    assert f"order leaves alone {SERVICE}/Fire" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (200_000, "2d 7h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


def test_what_is_unknown_is_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Observation("notification", "SERVING", consumer_lags={"a": math.nan, "b": 3.0})
    status._show([seen])
    assert "a ?, b 3" in capsys.readouterr().out


def test_a_shop_is_needed(tmp_path: Path) -> None:
    from services.cli.refusal import Refused

    with pytest.raises(Refused, match="no shop is running"):
        status.status(tmp_path)
