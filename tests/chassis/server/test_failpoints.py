"""Every RPC can be made to fail, hang and lose its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.chassis import failpoints, status, telemetry
from services.chassis.testing import serving, until
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.playground import SERVICE, Ping, Pong

pytestmark = pytest.mark.usefixtures("quiet_failpoints")

WAIT_S = 5.0


class ShelfEmpty(errors.WrongState):
    """Shelf {shelf} is empty."""


class Player:
    """Answers everything, or refuses it; counts."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.calls = 0
        self._refuses = refuses

    async def answer(self, request: Any, _context: Any) -> Any:
        self.calls += 1
        if self._refuses:
            raise ShelfEmpty(shelf="A7")
        return Pong(name=request.name)

    async def watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        self.calls += 1
        yield Pong(name=request.name)


@asynccontextmanager
async def playing(player: Player) -> AsyncIterator[grpc.aio.Channel]:
    """The bare channel: nothing retries."""
    handlers = {"Read": player.answer, "Write": player.answer, "Quick": player.answer, "Watch": player.watch}
    async with serving((playground.add_to_server, handlers), files=[playground.FILE]) as channel:
        yield channel.raw


async def call(channel: grpc.aio.Channel, name: str, timeout_s: float | None = WAIT_S) -> Any:
    return await channel.unary_unary(f"/{SERVICE}/{name}")(
        Ping(name="hi").SerializeToString(), timeout=timeout_s
    )


async def failure(
    channel: grpc.aio.Channel, name: str, timeout_s: float | None = WAIT_S
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(channel, name, timeout_s)
    return raised.value


def play(text: str) -> None:
    failpoints.configure(text, production=False)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"])
async def test_an_error_before_a_call_is_the_weathers_and_no_work_is_done(code: str) -> None:
    async with playing(player := Player()) as channel:
        play(f"server.call.before[Write]=error({code})")
        error = await failure(channel, "Write")
        await call(channel, "Read")
    assert error.code().name == code
    assert (status.reason(error) or "").startswith("FAILPOINT_")
    assert player.calls == 1


async def test_a_bug_that_is_played_says_no_more_than_a_real_one() -> None:
    with telemetry.captured() as lines:
        async with playing(Player()) as channel:
            play("server.call.before=error(INTERNAL)")
            error = await failure(channel, "Read")
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert any("server.call.before" in line.get("stack", "") for line in lines)


async def test_an_error_before_a_reply_comes_after_the_work() -> None:
    async with playing(player := Player()) as channel:
        play("server.reply.before=error(UNAVAILABLE)*1")
        assert (await failure(channel, "Write")).code() is grpc.StatusCode.UNAVAILABLE
        await call(channel, "Write")
    assert player.calls == failpoints.standing()[0].visits == 2


async def test_a_dropped_reply_looks_like_a_connection_that_broke_after_the_work() -> None:
    async with playing(player := Player()) as channel:
        play("server.reply.before=drop-reply@1")
        error = await failure(channel, "Write")
        await call(channel, "Write")
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert status.parse(error) is None
    assert not error.trailing_metadata()
    assert player.calls == 2


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("drop-reply", "UNAVAILABLE", None), ("error(ABORTED)", "ABORTED", "FAILPOINT_STALE"),
     ("delay(0)", "FAILED_PRECONDITION", "SHELF_EMPTY")],
)  # fmt: skip
async def test_a_refusal_is_an_answer_that_can_be_lost(kind: str, code: str, reason: str | None) -> None:
    async with playing(Player(refuses=True)) as channel:
        play(f"server.reply.before={kind}")
        error = await failure(channel, "Read")
    assert (error.code().name, status.reason(error)) == (code, reason)
    assert failpoints.standing()[0].visits == 1


@pytest.mark.parametrize("site", ["server.call.before", "server.reply.before"])
async def test_a_hang_ends_with_the_deadline_of_the_caller(site: str) -> None:
    async with playing(Player()) as channel:
        play(f"{site}=hang")
        error = await failure(channel, "Read", timeout_s=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("site", ["server.call.before", "server.reply.before"])
async def test_a_hang_ends_with_the_deadline_of_the_contract(site: str) -> None:
    async with playing(Player()) as channel:
        play(f"{site}=hang")
        error = await failure(channel, "Quick", timeout_s=None)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_hang_ends_when_the_failpoints_are_cleared() -> None:
    async with playing(player := Player()) as channel:
        play("server.call.before=hang")
        calling = asyncio.ensure_future(call(channel, "Read"))
        await until(lambda: failpoints.standing()[0].plays)
        assert player.calls == 0
        play("")
        await calling
    assert player.calls == 1


async def test_streams_fail_like_any_call() -> None:
    async with playing(player := Player()) as channel:
        watch: Any = channel.unary_stream(f"/{SERVICE}/Watch")
        play("server.call.before[Watch]=error(UNAVAILABLE)@1;server.reply.before[Watch]=drop-reply")
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await watch(Ping(name="hi").SerializeToString(), timeout=WAIT_S).read()
        assert player.calls == 0
        stream = watch(Ping(name="hi").SerializeToString(), timeout=WAIT_S)
        assert Pong.FromString(await stream.read()).name == "hi"
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await stream.read()
