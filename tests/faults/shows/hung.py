"""A dependency that takes calls and does not answer, and wakes up again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.crowd import DETAILS, LOOK, ORDER, PRODUCT, Crowd, Visit, bad, median, percentile
from tests.faults.figures import Figure
from tests.faults.proxy import trouble
from tests.faults.wired import GATEWAY, Way, Wired
from tests.load import procfs

# By the contracts, and what an answer needs to get back to whoever asked.
DEADLINES_S: Final = {ORDER: 10.0, DETAILS: 3.0, PRODUCT: 2.0, LOOK: 2.0}
ANSWER_S: Final = 0.5

SLOWER_MAX: Final = 3.0  # times what it was before: without a bulkhead it would be as slow as what hangs
QUICK_S: Final = 0.1  # below that, times of a machine with other things to do are chance
RECOVERY_MAX_S: Final = 10.0
GROWTH_MAX_MIB: Final = 24  # what calls that wait for nothing may hold, and what Python keeps of it

PEOPLE: Final = 6
PAUSE_S: Final = 0.15
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long everything takes."""

    before_s: float
    hang_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Hang:
    """What hangs, who needs it, and who does not."""

    way: Way
    hurt: tuple[str, ...]
    spared: tuple[str, ...]


PAYMENT_OF_ORDER: Final = Hang(("order", "payment"), hurt=(DETAILS,), spared=(ORDER, PRODUCT))
ORDER_OF_EDGE: Final = Hang((GATEWAY, "order"), hurt=(DETAILS,), spared=(PRODUCT,))


async def hangs(stage: Wired, what: Hang, lengths: Lengths) -> Sequence[Figure]:
    """Nothing moves on that way, while people ask for what needs it and for what does not."""
    crowd = Crowd(stage.scene, PEOPLE, PAUSE_S)
    caller, _ = what.way
    pid = stage.pid(caller)
    async with crowd.at_home(), crowd.about(*what.hurt, *what.spared):
        await asyncio.sleep(lengths.before_s / 2)  # those who were the first of their kind do not count
        began, before_bytes = time.monotonic(), procfs.memory(pid).rss
        await asyncio.sleep(lengths.before_s / 2)
        way = stage.ways[what.way]
        hung = time.monotonic()
        async with trouble(way, way.hang):
            await asyncio.sleep(lengths.hang_s)
            woken, hung_bytes = time.monotonic(), procfs.memory(pid).rss
        await asyncio.sleep(lengths.after_s)
        ended = time.monotonic()
    broken = [one.began + one.took_s for one in crowd.since(woken, ended) if not one.is_good]
    figures = [
        _within_deadline(kind, crowd.since(hung, woken, kind=kind)) for kind in (*what.hurt, *what.spared)
    ]
    for kind in what.spared:
        before, meanwhile = crowd.since(began, hung, kind=kind), crowd.since(hung, woken, kind=kind)
        figures += [
            Figure(f"{kind}: requests, which do not need it", len(meanwhile)),
            bad(meanwhile),
            *_slower(kind, "median", median, before, meanwhile),
            *_slower(kind, "95 % of answers", _most, before, meanwhile),
        ]
    return [
        *figures,
        Figure(f"memory of {caller} before", before_bytes / MIB, "MiB"),
        Figure(
            "more at the end of the hang", (hung_bytes - before_bytes) / MIB, "MiB", at_most=GROWTH_MAX_MIB
        ),
        Figure(
            "return until all answers were whole again",
            max(broken, default=woken) - woken,
            "s",
            at_most=RECOVERY_MAX_S,
        ),
    ]


def _most(seconds: Sequence[float]) -> float:
    return percentile(seconds, 95)


def _within_deadline(kind: str, visits: Sequence[Visit]) -> Figure:
    slowest = max(one.took_s for one in visits)
    limit_s = DEADLINES_S[kind] + ANSWER_S
    return Figure(f"{kind}: slowest of {len(visits)} answers", slowest, "s", at_most=limit_s)


def _slower(
    kind: str,
    name: str,
    of: Callable[[Sequence[float]], float],
    before: Sequence[Visit],
    meanwhile: Sequence[Visit],
) -> Sequence[Figure]:
    before_s, meanwhile_s = (of([one.took_s for one in visits]) for visits in (before, meanwhile))
    return (
        Figure(f"{kind}: {name} before", before_s * 1000, "ms"),
        Figure(
            f"{kind}: {name} meanwhile",
            meanwhile_s * 1000,
            "ms",
            at_most=max(before_s, QUICK_S) * SLOWER_MAX * 1000,
        ),
    )
