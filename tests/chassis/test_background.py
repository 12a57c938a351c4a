import asyncio

from services.chassis import background, telemetry
from services.chassis.background import Background
from services.chassis.testing import FakeClock

WAIT_S = 5.0


async def test_what_crashes_is_logged_and_begun_again() -> None:
    begun: list[int] = []
    third = asyncio.Event()
    waits: list[float] = []

    async def work() -> None:
        begun.append(1)
        if len(begun) < 3:
            raise ValueError("oh no")
        third.set()
        await asyncio.Event().wait()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    owner = Background(FakeClock(), sleep)
    owner.add("relay", work)
    with telemetry.captured() as lines:
        async with owner:
            await asyncio.wait_for(third.wait(), WAIT_S)
    assert [line["work"] for line in lines] == ["relay", "relay"]
    assert "oh no" in lines[0]["stack"]
    assert waits[0] <= background.RESTARTS.limit_s(1)
    assert waits[1] <= background.RESTARTS.limit_s(2)


async def test_a_long_calm_forgives_earlier_crashes() -> None:
    clock = FakeClock()
    failures: list[int] = []
    enough = asyncio.Event()

    async def work() -> None:
        clock.advance(background.CALM_S)
        raise ValueError

    async def sleep(seconds: float) -> None:
        failures.append(1)
        assert seconds <= background.RESTARTS.limit_s(1)
        if len(failures) > 20:
            enough.set()
            await asyncio.Event().wait()

    owner = Background(clock, sleep)
    owner.add("sweeper", work)
    with telemetry.captured():
        async with owner:
            await asyncio.wait_for(enough.wait(), WAIT_S)


async def test_leaving_cancels_and_awaits() -> None:
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    owner = Background(FakeClock())
    owner.add("consumer", work)
    async with owner:
        await asyncio.wait_for(begun.wait(), WAIT_S)
    assert cleaned.is_set()


async def test_work_that_returns_is_done() -> None:
    begun: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        begun.append(1)
        done.set()

    owner = Background(FakeClock())
    owner.add("once", work)
    async with owner:
        await asyncio.wait_for(done.wait(), WAIT_S)
        await asyncio.wait_for(owner._tasks[0], WAIT_S)
    assert begun == [1]
