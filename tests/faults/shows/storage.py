"""The broker hangs, the database stalls: orders are taken all the same, and all of it is told in the end."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.faults.crowd import DETAILS, LOOK, ORDER, Crowd, Visit, median, percentile
from tests.faults.figures import Figure
from tests.faults.proxy import trouble
from tests.faults.shows.hung import ANSWER_S, DEADLINES_S, QUICK_S, SLOWER_MAX
from tests.faults.wired import EVERYONE, NATS, Wired

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
        Figure("of these not accepted", sum(not one.is_good for one in meanwhile), at_most=0),
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


async def database_stalls(stage: Wired, *, before_s: float, stall_s: float) -> Sequence[Figure]:
    """Order's next commit takes that long, and whatever is to be written waits behind it; people read on."""
    crowd = Crowd(stage.scene, PEOPLE, PAUSE_S)
    writers, readers = crowd, Crowd(stage.scene, PEOPLE, PAUSE_S)
    async with writers.at_home(), readers.at_home(), writers.about(ORDER), readers.about(LOOK):
        began = time.monotonic()
        await asyncio.sleep(before_s)
        stalled = time.monotonic()
        stage.scene.slow("order", f"{COMMIT}=delay({stall_s:g})@1")
        await asyncio.sleep(stall_s)
        over = time.monotonic()
    stage.scene.disarm("order")
    await stage.scene.everything_holds()
    settled = time.monotonic()
    orders = writers.since(stalled, over)
    before, meanwhile = readers.since(began, stalled), readers.since(stalled, over)
    return [
        Figure("orders placed while nothing could be written", len(orders), at_least=1),
        Figure("of these not accepted", sum(not one.is_good for one in orders), at_most=0),
        Figure(
            "slowest of these",
            max(one.took_s for one in orders),
            "s",
            at_least=stall_s / 2,  # else nothing stalled
            at_most=DEADLINES_S[ORDER] + ANSWER_S,
        ),
        Figure("reads meanwhile", len(meanwhile)),
        Figure("reads that failed", sum(not one.is_good for one in meanwhile), at_most=0),
        Figure("median of reads before", median(one.took_s for one in before) * 1000, "ms"),
        _no_slower("median of reads meanwhile", before, meanwhile, 50),
        _no_slower("95 % of reads meanwhile", before, meanwhile, 95),
        Figure("end until everything was settled", settled - over, "s", at_most=CAUGHT_UP_MAX_S),
    ]


def _no_slower(what: str, before: Sequence[Visit], meanwhile: Sequence[Visit], percent: int) -> Figure:
    before_s, meanwhile_s = (
        percentile((one.took_s for one in visits), percent) for visits in (before, meanwhile)
    )
    return Figure(what, meanwhile_s * 1000, "ms", at_most=max(before_s, QUICK_S) * SLOWER_MAX * 1000)
