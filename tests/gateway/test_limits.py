"""How often one may ask."""

import asyncio
import math
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import user_pb2
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from gateway import app, limits
from gateway.app import Settings
from gateway.counters import Counters
from gateway.errors import Refusal
from gateway.limits import Asking, BadLimit, Plan, RateLimits
from gateway.site import CannotServe
from services.chassis import contract, telemetry
from services.chassis.contract import ContractError
from services.chassis.testing import FakeClock, free_port
from services.cli import contracts
from tests.gateway.test_edge import error, reason
from tests.gateway.world import Backend, World

HOME = "203.0.113.9"


# -- counting --------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 1, tzinfo=UTC))


async def allowed(rates: RateLimits, asking: Asking, of_route: tuple[limits.Limit, ...] = ()) -> bool:
    try:
        await rates.arrived(asking.address)
        await rates.admitted(of_route, asking)
    except Refusal:
        return False
    return True


async def test_an_address_may_ask_so_often_and_again_when_time_has_passed(clock: FakeClock) -> None:
    rates = RateLimits(Plan(address="3/minute"), clock)
    answers = [await allowed(rates, Asking(HOME)) for _ in range(5)]
    assert answers == [True] * 3 + [False] * 2
    assert await allowed(rates, Asking("203.0.113.10"))
    clock.advance(120)
    assert await allowed(rates, Asking(HOME))


async def test_half_of_the_last_window_still_counts_in_the_middle_of_this_one(clock: FakeClock) -> None:
    rates = RateLimits(Plan(address="10/minute"), clock)
    for _ in range(10):
        assert await allowed(rates, Asking(HOME))
    clock.advance(90)
    answers = [await allowed(rates, Asking(HOME)) for _ in range(6)]
    assert answers == [True] * 5 + [False]


async def test_all_addresses_of_one_home_count_together(clock: FakeClock) -> None:
    rates = RateLimits(Plan(address="2/minute"), clock)
    answers = [await allowed(rates, Asking(f"2001:db8:1:2::{number}")) for number in range(1, 5)]
    assert answers == [True, True, False, False]


async def test_accounts_and_keys_have_limits_of_their_own_wherever_they_come_from(clock: FakeClock) -> None:
    rates = RateLimits(Plan(account="2/minute", key="3/minute"), clock)
    account = [await allowed(rates, Asking(f"203.0.113.{n}", "ada")) for n in range(4)]
    key = [await allowed(rates, Asking(f"203.0.113.{n}", "ada", "key")) for n in range(4)]
    assert (account, key) == ([True, True, False, False], [True, True, True, False])
    assert await allowed(rates, Asking(HOME))


async def test_who_is_exempt_is_not_counted(clock: FakeClock) -> None:
    rates = RateLimits(Plan(address="1/minute", account="1/minute", exempt=("127.0.0.0/8",)), clock)
    assert all([await allowed(rates, Asking("127.0.0.1", "ada")) for _ in range(5)])


async def test_a_route_counts_addresses_or_callers(clock: FakeClock) -> None:
    by_address = limits.Limit("Login", parse("2/minute"))
    by_caller = limits.Limit("Buy", parse("2/minute"), by_caller=True)
    rates = RateLimits(Plan(), clock)
    logins = [await allowed(rates, Asking(HOME, f"user-{n}"), (by_address,)) for n in range(3)]
    bought = [await allowed(rates, Asking(f"203.0.113.{n}", "ada"), (by_caller,)) for n in range(3)]
    by_nobody = [await allowed(rates, Asking(HOME), (by_caller,)) for _ in range(3)]
    assert logins == bought == by_nobody == [True, True, False]


async def test_whoever_has_many_addresses_does_not_fill_the_memory(clock: FakeClock) -> None:
    counters = Counters(clock, kept_max=10)
    for number in range(1000):
        assert await counters.acquire_sliding_window_entry(f"k{number}", 1, 60)
    assert len(counters.windows) == 10
    assert not await counters.acquire_sliding_window_entry("k999", 1, 60)
    await counters.clear_sliding_window("k999", 60)
    assert await counters.acquire_sliding_window_entry("k999", 1, 60)


@given(st.lists(st.integers(0, 130), max_size=200), st.integers(1, 20))
def test_no_window_ever_sees_twice_the_limit(pauses: list[int], limit: int) -> None:
    async def asked() -> list[float]:
        clock = FakeClock()
        counters = Counters(clock)
        times = []
        for pause in pauses:
            clock.advance(pause / 10)
            if await counters.acquire_sliding_window_entry("k", limit, 10):
                times.append(clock.monotonic())
        return times

    times = asyncio.run(asked())
    for begin in times:
        assert sum(begin <= time < begin + 10 for time in times) < 2 * limit + 1
    by_window: dict[int, int] = {}
    for time in times:
        by_window[math.floor(time / 10)] = by_window.get(math.floor(time / 10), 0) + 1
    assert all(count <= limit for count in by_window.values())


# -- a store that edges share ----------------------------------------------------------------------


async def test_a_store_that_is_away_stops_nobody_and_opens_nothing(clock: FakeClock) -> None:
    pytest.importorskip("redis")
    rates = RateLimits(Plan(address="2/minute", store=f"redis://127.0.0.1:{free_port()}"), clock)
    with telemetry.captured() as lines:
        answers = [await allowed(rates, Asking(HOME)) for _ in range(4)]
    await rates.aclose()
    assert answers == [True, True, False, False]
    assert [line["event"] for line in lines] == ["limits are counted here alone"]


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[str]:
    pytest.importorskip("redis")
    if not (binary := shutil.which("redis-server")):
        pytest.skip("no redis-server here")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), "--save", "", stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(10):
        while not _listens(port):  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.02)
    yield f"redis://127.0.0.1:{port}"
    process.terminate()
    await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_edges_that_share_a_store_count_together(redis: str, clock: FakeClock) -> None:
    edges = [RateLimits(Plan(address="4/hour", store=redis), clock) for _ in range(2)]
    answers = [await allowed(edges[n % 2], Asking(HOME)) for n in range(6)]
    for edge in edges:
        await edge.aclose()
    assert answers == [True] * 4 + [False] * 2


# -- what contracts and commands say ---------------------------------------------------------------


def limited(*rates: policy_pb2.RateLimit) -> contract.Method:
    found = next(iter(contract.methods(user_pb2.DESCRIPTOR)))
    return replace(found, policy=policy_pb2.MethodPolicy(rate_limits=rates))


def rate(requests: int, seconds: int, by: str = "BY_UNSPECIFIED", nanos: int = 0) -> policy_pb2.RateLimit:
    made = policy_pb2.RateLimit(requests=requests, by=policy_pb2.RateLimit.By.Value(by))
    made.per.seconds, made.per.nanos = seconds, nanos
    return made


def test_a_contract_names_limits_by_address_and_by_caller() -> None:
    found = limits.of(limited(rate(5, 60), rate(100, 3600, "BY_CALLER")))
    assert [(limit.item.amount, limit.item.get_expiry(), limit.by_caller) for limit in found] == [
        (5, 60, False),
        (100, 3600, True),
    ]
    assert len({limit.name for limit in found}) == 2


@pytest.mark.parametrize("wrong", [rate(0, 60), rate(5, 0), rate(5, 1, nanos=1)], ids=str)
def test_a_limit_that_makes_no_sense_stops_the_start(wrong: policy_pb2.RateLimit) -> None:
    with pytest.raises(ContractError, match="rate limit"):
        limits.of(limited(wrong))


@pytest.mark.parametrize(
    "plan", [Plan(address="often"), Plan(exempt=("here",)), Plan(store="oracle://x"), Plan(key="5/fortnight")]
)
def test_what_is_no_limit_is_refused(plan: Plan, world: World, clock: FakeClock) -> None:
    with pytest.raises(BadLimit):
        RateLimits(plan, clock)
    with pytest.raises(CannotServe):
        app.build(world.files, ["127.0.0.1:1"], Settings(rates=plan))


# -- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(world: World) -> descriptor_pb2.FileDescriptorSet:
    """The world's contract, where shelves are made twice a minute at most."""
    files = descriptor_pb2.FileDescriptorSet.FromString(world.files.SerializeToString())
    for file in files.file:
        for service in file.service:
            for method in service.method:
                if method.name == "CreateShelf":
                    method.options.Extensions[policy_pb2.method].rate_limits.append(rate(2, 3600))
    return files


@pytest.mark.asyncio(loop_scope="module")
async def test_too_much_is_429_and_says_when_to_come_back(
    narrow: descriptor_pb2.FileDescriptorSet, backend: Backend
) -> None:
    backend.forget()
    gateway = app.build(narrow, [f"127.0.0.1:{backend.port}"], Settings(rates=Plan(), operations_port=0))
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
        url = f"http://127.0.0.1:{running.port}/v1/shelves"
        answers = [await http.post(url, json={}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        _is_told_in_full(answers[-1])
        assert (await http.get(f"{url}/1")).status_code == 200  # only that route
        metrics = (await http.get(f"http://127.0.0.1:{running.operations_port}/metrics")).text
        assert 'http_server_rate_limited_total{limit="CreateShelf"} 1.0' in metrics
    assert len(backend.calls) == 3


def _is_told_in_full(response: httpx.Response) -> None:
    assert reason(response) == "RATE_LIMITED"
    wait_s = int(response.headers["retry-after"])
    assert 1 <= wait_s <= 3600
    retry: dict[str, Any] = next(d for d in error(response)["details"] if d["@type"].endswith("RetryInfo"))
    assert retry["retryDelay"] == f"{wait_s}s"
    assert response.headers["ratelimit-policy"] == '"CreateShelf";q=2;w=3600'
    assert response.headers["ratelimit"] == f'"CreateShelf";r=0;t={wait_s}'


@pytest.mark.asyncio(loop_scope="module")
async def test_what_leads_nowhere_counts_too(world: World, backend: Backend) -> None:
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(rates=Plan(address="3/hour")))
    async with app.running(gateway) as running, httpx.AsyncClient(timeout=10) as http:
        answers = [await http.get(f"http://127.0.0.1:{running.port}/nothing") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]


def test_what_strangers_may_change_is_limited_by_its_contract() -> None:
    api = descriptor_pb2.FileDescriptorSet.FromString(contracts.descriptor_set())
    gateway = app.build(api, ["127.0.0.1:1"])
    by_name = {route.method.name: route.rates for route in gateway.site.routes}
    for name in ("RegisterUser", "ActivateUser", "CreateSession", "RefreshSession", "RevokeSession"):
        assert by_name[name], name
        assert not any(limit.by_caller for limit in by_name[name])
