import asyncio

from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.chassis import health, telemetry
from services.chassis.health import Health, State

WAIT_S = 5.0


class Dependency:
    """Something that answers or does not."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0

    async def ping(self) -> None:
        self.asked += 1
        if not self.up:
            raise ConnectionError("password=hunter2")


async def announced(*checks: tuple[str, Dependency, bool]) -> Health:
    made = Health()
    for name, dependency, required in checks:
        made.check(name, dependency.ping, required=required)
    made.announce(["shop.v1.Shop"])
    return made


def shown(found: Health, service: str = "shop.v1.Shop") -> int:
    return found.grpc.statuses[service]


async def test_nothing_serves_before_its_checks_have_passed() -> None:
    database = Dependency()
    database.up = False
    found = await announced(("database", database, True))
    assert shown(found) == shown(found, "") == HealthCheckResponse.NOT_SERVING
    assert await found.refresh() is State.STARTING
    assert not found.started
    database.up = True
    assert await found.refresh() is State.SERVING
    assert found.started
    assert shown(found) == shown(found, "") == HealthCheckResponse.SERVING


async def test_a_dependency_that_says_no_is_as_good_as_lost() -> None:
    async def ready() -> bool:
        return False

    found = Health()
    found.check("events", ready, required=False)
    assert await found.refresh() is State.DEGRADED
    assert [check.problem for check in found.found] == ["not there"]


async def test_what_a_check_tells_in_words_degrades_even_where_it_is_required() -> None:
    words = "a little old"

    async def ready() -> str:
        return words

    found = Health()
    found.check("database", ready)
    assert await found.refresh() is State.DEGRADED
    (told,) = found.report()["checks"].values()
    assert (told["problem"], told["required"]) == ("a little old", False)
    words = ""
    assert await found.refresh() is State.SERVING


async def test_a_lost_dependency_is_told_and_so_is_its_return() -> None:
    database = Dependency()
    found = await announced(("database", database, True))
    await found.refresh()
    database.up = False
    with telemetry.captured() as lines:
        assert await found.refresh() is State.NOT_READY
        await found.refresh()
    assert shown(found) == HealthCheckResponse.NOT_SERVING
    assert found.started, "having started is for ever"
    assert [line["state"] for line in lines] == ["not_ready"], "told once, when it changes"
    assert "hunter2" not in str(found.report())
    assert found.report()["checks"]["database"]["problem"] == "ConnectionError"
    database.up = True
    assert await found.refresh() is State.SERVING


async def test_without_what_it_can_do_without_it_is_degraded_and_serves() -> None:
    broker = Dependency()
    broker.up = False
    found = await announced(("database", Dependency(), True), ("broker", broker, False))
    assert await found.refresh() is State.DEGRADED
    assert shown(found) == HealthCheckResponse.SERVING


async def test_a_check_that_hangs_has_failed() -> None:
    found = Health()
    found.check("tar", asyncio.Event().wait)
    health_check_timeout_s = health.CHECK_TIMEOUT_S
    health.CHECK_TIMEOUT_S = 0.01  # type: ignore[misc]
    try:
        assert await found.refresh() is State.STARTING
    finally:
        health.CHECK_TIMEOUT_S = health_check_timeout_s  # type: ignore[misc]
    assert "no answer" in found.report()["checks"]["tar"]["problem"]


async def test_those_who_ask_at_once_share_one_answer() -> None:
    database = Dependency()
    found = await announced(("database", database, True))
    await asyncio.gather(*(found.refresh() for _ in range(20)))
    assert database.asked == 1


async def test_one_who_stops_asking_does_not_stop_the_others() -> None:
    go = asyncio.Event()
    found = Health()
    found.check("slow", go.wait)
    impatient = asyncio.ensure_future(found.refresh())
    patient = asyncio.ensure_future(found.refresh())
    await asyncio.sleep(0)
    impatient.cancel()
    go.set()
    assert await asyncio.wait_for(patient, WAIT_S) is State.SERVING


async def test_draining_is_for_ever() -> None:
    found = await announced(("database", Dependency(), True))
    await found.refresh()
    found.drain()
    assert await found.refresh() is State.DRAINING
    assert shown(found) == HealthCheckResponse.NOT_SERVING


async def test_a_lost_database_shows_within_two_seconds_and_its_return_within_five() -> None:
    """In time between checks, beside which a check itself may take as long as it may."""
    passed_s = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds
        await asyncio.sleep(0)

    found, database = Health(sleep), Dependency()
    found.check("database", database.ping)
    found.announce(["shop.v1.Shop"])
    await found.refresh()
    assert shown(found) == HealthCheckResponse.SERVING

    async def shows(status: int, within_s: float) -> None:
        begun_s = passed_s
        while shown(found) != status:
            await asyncio.sleep(0)
            assert passed_s - begun_s + health.CHECK_TIMEOUT_S <= within_s

    running = asyncio.create_task(found.run())
    database.up = False  # perhaps just after it was looked at
    await asyncio.wait_for(shows(HealthCheckResponse.NOT_SERVING, health.LOST_WITHIN_S), WAIT_S)
    database.up = True
    await asyncio.wait_for(shows(HealthCheckResponse.SERVING, 5.0), WAIT_S)
    running.cancel()


async def test_what_is_degraded_says_by_what_and_how_long_each_check_took() -> None:
    broker = Dependency()
    broker.up = False
    found = await announced(("database", Dependency(), True), ("broker", broker, False))
    await found.refresh()
    report = found.report()
    assert report["status"] == "degraded"
    assert report["checks"]["broker"]["problem"] == "ConnectionError"
    assert not report["checks"]["broker"]["required"]
    assert report["checks"]["database"]["ok"]
    assert all(check["duration_ms"] >= 0 for check in report["checks"].values())
