"""Two order and two inventory services on one database: one freezes, dies or gives way, and people buy on."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.chassis.client import balancing
from tests import postgres_server
from tests.faults.crowd import DETAILS, LOOK, ORDER, PRODUCT, Crowd, Visit
from tests.faults.figures import Figure
from tests.faults.scene import Scene, shop_in

SERVICES: Final = ("order", "inventory")

FOUND_S: Final = (balancing.PING_AFTER_MS + balancing.PING_ANSWERED_WITHIN_MS) / 1000
DEADLINE_S: Final = 2.0  # of most calls: whoever was caught is told by then
ON_TIME_S: Final = 0.5  # between what we do to a process and what its callers notice of it, on a busy machine

# What a deploy leaves between two: callers look for who went away every two seconds, give or take a fifth.
STEADY_S: Final = 4.0

PEOPLE: Final = 6
PAUSE_S: Final = 0.15


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long everything takes."""

    before_s: float
    away_s: float
    after_s: float


LONG: Final = Lengths(before_s=10, away_s=30, after_s=20)


async def shown(home: Path) -> Sequence[Figure]:
    """All of it, one after the other, on a PostgreSQL server of its own; after each every invariant holds."""
    figures: list[Figure] = []
    with postgres_server.running() as server:
        async with replicated(home, server) as scene:
            for program in ("inventory-1", "order-1"):
                figures += await freezes(scene, program, LONG)
                await scene.everything_holds()
            figures += await give_way(scene)
            await scene.everything_holds()
            for program in ("inventory-2", "order-2"):
                figures += await dies(scene, program, LONG)
                await scene.everything_holds()
    return figures


@asynccontextmanager
async def replicated(home: Path, server: str) -> AsyncIterator[Scene]:
    """A new shop with two of each, a buyer, and something to buy; `server` is any database's URL there."""
    replicas = dict.fromkeys(SERVICES, 2)
    scene = Scene(shop_in(home, database=server.rpartition("/")[0], replicas=replicas), home)
    try:
        await scene.open()
        await scene.furnish()
        yield scene
    finally:
        await scene.close()


async def freezes(scene: Scene, program: str, lengths: Lengths) -> Sequence[Figure]:
    """One process stops in mid-air, with its connections, leases and leads, and goes on later."""
    crowd = Crowd(scene, PEOPLE, PAUSE_S)
    async with crowd.at_home(), crowd.about(ORDER, PRODUCT, LOOK, DETAILS):
        await asyncio.sleep(lengths.before_s)
        scene.shop.programs.kill(program, signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            await asyncio.sleep(lengths.away_s)
        finally:
            scene.shop.programs.kill(program, signal.SIGCONT)
        woken = time.monotonic()
        await asyncio.sleep(lengths.after_s)
    lost = _unanswered(crowd.since(frozen - DEADLINE_S, woken))
    return [
        Figure(f"requests while {program} was frozen", len(crowd.since(frozen, woken))),
        Figure("of these, or caught by it, not answered", len(lost)),
        Figure("longest wait of one of them", _longest(lost), "s"),
        Figure(
            "freezing until the last request was begun that got no answer",
            _last_begun(lost, frozen),
            "s",
            at_most=FOUND_S + DEADLINE_S,
        ),
        Figure("requests not answered after it woke", len(_unanswered(crowd.since(woken))), at_most=0),
    ]


async def give_way(scene: Scene, *, unanswered_max: int = 0) -> Sequence[Figure]:
    """Each process is replaced by a new one, as in a deploy."""
    crowd = Crowd(scene, PEOPLE, PAUSE_S)
    async with crowd.at_home(), crowd.about(ORDER, PRODUCT, LOOK, DETAILS):
        began = time.monotonic()
        for service in SERVICES:
            for program in scene.shop.instances(service):
                await scene.shop.programs.restart(program)
                await asyncio.sleep(STEADY_S)
        ended = time.monotonic()
    visits = crowd.since(began)
    return [
        Figure("requests while each of four was replaced", len(visits)),
        Figure("all of it took", ended - began, "s"),
        Figure("of these not answered", len(_unanswered(visits)), at_most=unanswered_max),
        Figure("longest answer", _longest(visits), "s"),
    ]


async def dies(scene: Scene, program: str, lengths: Lengths) -> Sequence[Figure]:
    """One process is killed and stays away for a while."""
    crowd = Crowd(scene, PEOPLE, PAUSE_S)
    async with crowd.at_home(), crowd.about(ORDER, PRODUCT, LOOK, DETAILS):
        await asyncio.sleep(lengths.before_s)
        killed = time.monotonic()
        await scene.kill(program)
        await asyncio.sleep(lengths.away_s)
        await scene.revive(program)
        await asyncio.sleep(lengths.after_s)
    lost = _unanswered(crowd.since(killed - DEADLINE_S))
    return [
        Figure(f"requests while {program} was away", len(crowd.since(killed))),
        Figure("not answered: what it had begun", len(lost), at_most=PEOPLE),
        Figure(
            "death until the last request was begun that got no answer",
            _last_begun(lost, killed),
            "s",
            at_most=ON_TIME_S,
        ),
    ]


def _unanswered(visits: Sequence[Visit]) -> list[Visit]:
    return [one for one in visits if not one.is_answered]


def _longest(visits: Sequence[Visit]) -> float:
    return max((one.took_s for one in visits), default=0.0)


def _last_begun(visits: Sequence[Visit], since: float) -> float:
    return max((one.began - since for one in visits), default=0.0)
