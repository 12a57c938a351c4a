"""Keys are exchanged for tokens: seldom, once for all, and never for long."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from gateway.api_keys import BEFORE_EXPIRY_S, KEY_CHARS_MAX, REFUSAL_KEPT_S, ApiKeys, InvalidApiKey
from services.chassis.testing import FakeClock
from services.kernel.recent import Recent

GOOD_FOR_S = 300.0


class Exchange:
    """Gives a new token each time; refuses with `code` if there is one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.code: grpc.StatusCode | None = None
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, key: str) -> tuple[str, float]:
        self.asked.append(key)
        self.arrived.set()
        await self.open.wait()
        if self.code is not None:
            raise AioRpcError(self.code, Metadata(), Metadata())
        return f"token-{len(self.asked)}", GOOD_FOR_S


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def keys(exchange: Exchange, clock: FakeClock) -> ApiKeys:
    return ApiKeys(exchange, clock)


async def test_a_key_is_exchanged_until_shortly_before_its_token_expires(
    keys: ApiKeys, exchange: Exchange, clock: FakeClock
) -> None:
    assert await keys.token("k") == "token-1"
    clock.advance(GOOD_FOR_S - BEFORE_EXPIRY_S - 1)
    assert await keys.token("k") == "token-1"
    clock.advance(1)
    assert await keys.token("k") == "token-2"
    assert exchange.asked == ["k", "k"]


async def test_all_who_come_at_once_share_one_exchange(keys: ApiKeys, exchange: Exchange) -> None:
    exchange.open.clear()
    waiting = [asyncio.create_task(keys.token("k")) for _ in range(20)]
    async with asyncio.timeout(5):
        await exchange.arrived.wait()
    waiting[0].cancel()  # the one that leaves takes nothing from the others
    exchange.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert set(answers[1:]) == {"token-1"}
    assert len(exchange.asked) == 1


async def test_a_refusal_is_kept_for_a_few_seconds(
    keys: ApiKeys, exchange: Exchange, clock: FakeClock
) -> None:
    exchange.code = grpc.StatusCode.UNAUTHENTICATED
    for _ in range(3):
        with pytest.raises(InvalidApiKey):
            await keys.token("k")
    assert len(exchange.asked) == 1
    clock.advance(REFUSAL_KEPT_S)
    exchange.code = None
    assert await keys.token("k") == "token-2"


async def test_the_weather_is_no_refusal(keys: ApiKeys, exchange: Exchange) -> None:
    exchange.code = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(AioRpcError):
        await keys.token("k")
    exchange.code = None
    assert await keys.token("k") == "token-2"


@pytest.mark.parametrize("key", ["", "x" * (KEY_CHARS_MAX + 1)])
async def test_what_can_be_no_key_is_not_asked_about(keys: ApiKeys, exchange: Exchange, key: str) -> None:
    with pytest.raises(InvalidApiKey):
        await keys.token(key)
    assert exchange.asked == []


async def test_guesses_do_not_fill_the_memory(
    keys: ApiKeys, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_kept", Recent(10))
    for number in range(50):
        await keys.token(f"k{number}")
    kept: dict[Any, Any] = vars(keys)["_kept"]
    assert len(kept) == 10
    assert await keys.token("k49") == "token-50"
    assert b"k49" not in kept  # keys themselves are not kept at all
