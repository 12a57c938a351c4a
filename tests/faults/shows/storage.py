"""The broker hangs, a database takes nothing: nobody waits for long, and all is done and told in the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import httpx

from services.chassis.health import LOST_WITHIN_S
from tests.faults.crowd import DETAILS, LOOK, ORDER, Crowd, Visit, bad, median, percentile, told
from tests.faults.figures import Figure
from tests.faults.proxy import trouble
from tests.faults.shows.hung import ANSWER_S, DEADLINES_S, QUICK_S, SLOWER_MAX
from tests.faults.wired import DATABASE, EVERYONE, NATS, Wired

BACK_WITHIN_S: Final = 5.0
RECOVERY_MAX_S: Final = 10.0
AFTER_S: Final = 2.0  # of shopping, to see that all is well again
ASK_MAX_S: Final = 3.0
OK: Final = 200
CAUGHT_UP_MAX_S: Final = 30.0  # until every order is settled and every consumer has heard of it

COMMIT: Final = "storage.commit.before"

PEOPLE: Final = 6
PAUSE_S: Final = 0.15


async def broker_hangs(stage: Wired, *, before_s: float, hang_s: float) -> Sequence[Figure]:
    """Nothing gets to the broker or back, while people order."""
    crowd = Crowd(stage.scene, PEOPLE, PAUSE_S)
    way = stage.ways[EVERYONE, NATS]
    async with crowd.at_home(), crowd.about(ORDER, DETAILS):
        began = time.monotonic()
        await asyncio.sleep(before_s)
        hung = time.monotonic()
        async with trouble(way, way.hang):
            await asyncio.sleep(hang_s)
            woken = time.monotonic()
    await stage.scene.everything_holds()
    caught_up = time.monotonic()
    before, meanwhile = crowd.since(began, hung, kind=ORDER), crowd.since(hung, woken, kind=ORDER)
    return [
        Figure("orders placed while the broker hung", len(meanwhile)),
        bad(meanwhile),
        Figure("median before", median(one.took_s for one in before) * 1000, "ms"),
        _no_slower("median meanwhile", before, meanwhile, 50),
        _no_slower("95 % of answers meanwhile", before, meanwhile, 95),
        Figure(
            "return until every order was settled and every consumer had heard of it",
            caught_up - woken,
            "s",
            at_most=CAUGHT_UP_MAX_S,
        ),
    ]


async def database_is_gone(
    stage: Wired,
    gone: AbstractAsyncContextManager[None],
    *,
    before_s: float,
    gone_s: float,
    lost_within_s: float = LOST_WITHIN_S,
) -> Sequence[Figure]:
    """For the time of `gone` the order service's database takes no transactions; people order and look."""
    crowd = Crowd(stage.scene, PEOPLE, PAUSE_S)
    async with crowd.at_home(), crowd.about(ORDER, LOOK):
        await asyncio.sleep(before_s)
        lost = time.monotonic()
        async with gone:
            losing = asyncio.create_task(_ready(stage, is_ready=False))
            await asyncio.sleep(gone_s)
            returned = time.monotonic()
        seen_lost = await losing
        seen_back = await _ready(stage, is_ready=True)
        await asyncio.sleep(AFTER_S)
        ended = time.monotonic()
    await stage.scene.everything_holds()
    settled = time.monotonic()
    meanwhile, after = crowd.since(lost, returned), crowd.since(returned, ended)
    return [
        Figure(
            "until the order service said that it is not ready", seen_lost - lost, "s", at_most=lost_within_s
        ),
        told("requests meanwhile", meanwhile),
        *(
            Figure(
                f"{kind}: slowest answer",
                max(one.took_s for one in meanwhile if one.kind == kind),
                "s",
                at_most=DEADLINES_S[kind] + ANSWER_S,
            )
            for kind in (ORDER, LOOK)
        ),
        Figure("return until it said that it is ready", seen_back - returned, "s", at_most=BACK_WITHIN_S),
        Figure(
            "return until all answers were good again",
            max((one.began + one.took_s for one in after if not one.is_good), default=returned) - returned,
            "s",
            at_most=RECOVERY_MAX_S,
        ),
        Figure("end until everything was settled", settled - ended, "s", at_most=CAUGHT_UP_MAX_S),
    ]


@asynccontextmanager
async def stalled(stage: Wired) -> AsyncIterator[None]:
    """Commits of the order service do not come back."""
    stage.scene.slow("order", f"{COMMIT}=hang")
    try:
        yield
    finally:
        stage.scene.disarm("order")


def unreachable(stage: Wired) -> AbstractAsyncContextManager[None]:
    """Nothing gets to the database server or back."""
    way = stage.ways[EVERYONE, DATABASE]
    return trouble(way, way.hang)


async def _ready(stage: Wired, *, is_ready: bool) -> float:
    """When the order service was first seen to be so."""
    at = stage.scene.shop.endpoints.services["order"].http
    async with httpx.AsyncClient(timeout=ASK_MAX_S) as client:

        async def says() -> bool:
            return (await client.get(f"http://{at}/health/ready")).status_code == OK

        await stage.scene.until(says, lambda seen: seen is is_ready)
    return time.monotonic()


def _no_slower(what: str, before: Sequence[Visit], meanwhile: Sequence[Visit], percent: int) -> Figure:
    before_s, meanwhile_s = (
        percentile((one.took_s for one in visits), percent) for visits in (before, meanwhile)
    )
    return Figure(what, meanwhile_s * 1000, "ms", at_most=max(before_s, QUICK_S) * SLOWER_MAX * 1000)
