import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from grpc_health.v1 import health_pb2

from services.cli import probe
from services.cli.refusal import Refused

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
CHECK = HEALTH.methods_by_name["Check"]


@pytest.fixture
def channel() -> Any:
    return grpc_testing.channel([HEALTH], grpc_testing.strict_fake_time(time.time()))


def asking(channel: Any, service: str = "") -> tuple[Future[str], Any, Any]:
    """A probe under way, the request it has sent, and the means to answer it."""
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(probe.check, channel, service)
    _, request, call = channel.take_unary_unary(CHECK)
    pool.shutdown(wait=False)
    return answer, request, call


def replied(channel: Any, status: Any) -> str:
    answer, _, call = asking(channel)
    reply = health_pb2.HealthCheckResponse(status=status)
    call.terminate(reply, (), grpc.StatusCode.OK, "")
    return answer.result(timeout=10)


def test_a_serving_server_is_reported_as_serving(channel: Any) -> None:
    assert replied(channel, health_pb2.HealthCheckResponse.SERVING) == probe.SERVING


def test_a_draining_server_is_reported_as_what_it_says(channel: Any) -> None:
    assert replied(channel, health_pb2.HealthCheckResponse.NOT_SERVING) == "NOT_SERVING"


def test_the_service_asked_about_is_the_one_named(channel: Any) -> None:
    answer, request, call = asking(channel, "bodega.order.v1.OrderService")
    call.terminate(health_pb2.HealthCheckResponse(), (), grpc.StatusCode.OK, "")
    answer.result(timeout=10)
    assert request.service == "bodega.order.v1.OrderService"


def test_a_service_the_server_does_not_know_is_reported_by_its_code(channel: Any) -> None:
    answer, _, call = asking(channel)
    call.terminate(None, (), grpc.StatusCode.NOT_FOUND, "unknown service")
    assert answer.result(timeout=10) == "NOT_FOUND"


def test_a_server_that_is_not_there_is_reported_as_unavailable() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as nowhere:
        assert probe.check(nowhere, timeout_s=5.0) == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("24h", 86_400.0),
        ("7d", 604_800.0),
        ("1.5", 1.5),
        ("0s", 0.0),
    ],
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    assert probe.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "soon", "infs", "nan", "1y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="not a duration"):
        probe.seconds(text)
