"""A dependency that fails every call, and comes back."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

import grpc

from services.chassis.policy import budget, circuit
from tests.faults import books
from tests.faults.books import Life
from tests.faults.crowd import DETAILS, ORDER, Crowd, peak_per_s, unanswered
from tests.faults.figures import Figure
from tests.faults.wired import Way, Wired
from tests.faults.witness import Seen

# What the product promises.
AMPLIFICATION_MAX: Final = 1.2  # requests at the innermost service, for each request of a user
RECOVERY_MAX_S: Final = 10.0
WINDOW_S: Final = circuit.DEFAULT.buckets * circuit.DEFAULT.bucket_s
HERD_MAX: Final = 4.0  # times the busiest second before: what waited may come, but not all of it at once

DRAINED_MAX_S: Final = 60.0  # half a minute until the last is due, and what a minute left is gone in another
FRESH_SLOWER_MAX: Final = 3.0  # times as long as before, beside what waited,
FRESH_QUICK_S: Final = 0.1  # or as this, if that was less

PEOPLE: Final = 6
PAUSE_S: Final = 0.15

CHANGES: Final = "grpc_client_circuit_changes_total"


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long everything takes."""

    before_s: float
    outage_s: float
    after_s: float
    is_brief: bool = False
    """So short that the failures by which circuits open would outweigh everything else."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Who answers UNAVAILABLE, to whom, and who is answered all the same."""

    way: Way
    answered: tuple[str, ...]


PAYMENT: Final = Failing(("order", "payment"), answered=(ORDER, DETAILS))
INVENTORY: Final = Failing(("order", "inventory"), answered=(DETAILS,))  # without prices there are no orders


async def fails(stage: Wired, what: Failing, lengths: Lengths) -> Sequence[Figure]:
    """One service answers UNAVAILABLE to all that order asks; people buy and look at what they bought."""
    callee = what.way[1]
    crowd = Crowd(stage.scene, PEOPLE, PAUSE_S)
    async with (
        stage.witnessed(what.way) as innermost,
        crowd.at_home(),
        crowd.about(ORDER, DETAILS, DETAILS),
    ):
        began = time.monotonic()
        await asyncio.sleep(lengths.before_s)
        openings = await _openings(stage, what.way)
        failed, failed_at = time.monotonic(), datetime.now(UTC)
        innermost.refuses = grpc.StatusCode.UNAVAILABLE
        opening = asyncio.create_task(_opened(stage, what.way, openings))
        await asyncio.sleep(lengths.outage_s)
        opened = await opening  # on a machine short of breath a brief outage has too few calls for it
        innermost.refuses = None
        returned, returned_at = time.monotonic(), datetime.now(UTC)
        await asyncio.sleep(lengths.after_s)
        ended = time.monotonic()
    lives = await stage.scene.until(lambda: books.lives(stage.scene.shop), lambda known: known is not None)
    assert lives is not None
    asked, users = innermost.since(failed, returned), crowd.since(failed, returned)
    refused = next(seen.at for seen in asked if seen.code == "UNAVAILABLE")
    bad = [one.began + one.took_s for one in crowd.since(returned, ended) if not one.is_good]
    before, after = innermost.since(began, failed), innermost.since(returned, ended)
    return [
        Figure(f"requests of users while {callee} failed", len(users)),
        Figure(f"requests at {callee} meanwhile", len(asked)),
        Figure(
            f"requests at {callee} for each of a user",
            (len(asked) - (_openers(asked) if lengths.is_brief else 0)) / len(users),
            at_most=AMPLIFICATION_MAX,
        ),
        Figure(
            f"busiest second at {callee} in the second half of this",
            peak_per_s(seen.at for seen in asked if seen.at > (failed + returned) / 2),
            "requests",
            at_most=2 * circuit.DEFAULT.probes * len({seen.method for seen in asked}),
        ),
        Figure("orders accepted meanwhile", sum(one.is_good for one in users if one.kind == ORDER)),
        unanswered(one for one in users if one.kind in what.answered),
        Figure(
            "first failure until the circuit was seen open", max(opened - refused, 0.0), "s", at_most=WINDOW_S
        ),
        Figure(
            "return until all answers were whole again",
            max(bad, default=returned) - returned,
            "s",
            at_most=RECOVERY_MAX_S,
        ),
        Figure(f"busiest second at {callee} before", peak_per_s(seen.at for seen in before), "requests"),
        Figure(
            "busiest second after the return, for each in the busiest before",
            peak_per_s(seen.at for seen in after) / peak_per_s(seen.at for seen in before),
            at_most=HERD_MAX,
        ),
        Figure(
            "return until the last order that waited was settled",
            _last([life for life in lives if failed_at <= life.placed < returned_at], returned_at),
            "s",
            at_most=DRAINED_MAX_S,
        ),
        *_fresh(lives, failed_at, returned_at, is_brief=lengths.is_brief),
    ]


def _last(waited: Sequence[Life], returned: datetime) -> float:
    return max(((life.moved - returned).total_seconds() for life in waited), default=0.0)


def _fresh(
    lives: Sequence[Life], failed: datetime, returned: datetime, *, is_brief: bool
) -> Sequence[Figure]:
    """Those that never had to wait; in brief shows most after the return still met an open circuit."""
    before_s = median(life.took_s for life in lives if life.placed < failed)
    after_s = median(life.took_s for life in lives if life.placed >= returned)
    at_most_s = FRESH_SLOWER_MAX * max(before_s, FRESH_QUICK_S)
    return (
        Figure("orders before: median until settled", before_s * 1000, "ms"),
        Figure(
            "orders after the return: median until settled",
            after_s * 1000,
            "ms",
            at_most=None if is_brief else at_most_s * 1000,
        ),
    )


def _openers(asked: Sequence[Seen]) -> float:
    """As many calls as it takes to find out: failures enough for each method, and the retries saved up."""
    methods = len({seen.method for seen in asked})
    return circuit.DEFAULT.consecutive_failures * methods + budget.RESERVE


async def _opened(stage: Wired, way: Way, before: float) -> float:
    """When the caller was first seen to leave one more method alone."""
    await stage.scene.until(lambda: _openings(stage, way), lambda now: now > before)
    return time.monotonic()


async def _openings(stage: Wired, way: Way) -> float:
    """How often the caller has opened a circuit of this way."""
    caller, _ = way
    return sum((await stage.figures(caller)).of(CHANGES, target=stage.ways[way].address, to="open"))
