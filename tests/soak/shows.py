"""Shows: one thing goes wrong in a whole shop for as long as it is stated, and what comes of it is measured.

The same shows run in `make test` with outages of seconds (`tests/faults/`). A new one is a line in SHOWS.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests import postgres_server
from tests.faults.figures import Figure, missed
from tests.faults.shows import deadlines, failing, hung, network, overload, replicas, storage, traced
from tests.faults.wired import Wired, wired

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Show:
    """Something that goes wrong."""

    name: str
    done: str
    """What is done, for the report."""

    run: Callable[[Path], Awaitable[Sequence[Figure]]]
    """In a folder of its own; what was measured. It fails, with an error, if an invariant does not hold."""


def _in_a_shop(
    play: Callable[[Wired], Awaitable[Sequence[Figure]]],
) -> Callable[[Path], Awaitable[Sequence[Figure]]]:
    """In a new shop, in which every invariant must hold in the end."""

    async def run(home: Path) -> Sequence[Figure]:
        async with wired(home, is_hasty=False) as stage:
            figures = await play(stage)
            await stage.scene.everything_holds()
            return figures

    return run


def _in_a_shop_on_postgresql(
    play: Callable[[Wired], Awaitable[Sequence[Figure]]],
) -> Callable[[Path], Awaitable[Sequence[Figure]]]:
    """The same with its databases on a server that is started for it."""

    async def run(home: Path) -> Sequence[Figure]:
        with postgres_server.running() as administrator:
            async with wired(home, server=administrator.rpartition("/")[0], is_hasty=False) as stage:
                return await play(stage)

    return run


_FAILING: Final = failing.Lengths(before_s=20, outage_s=60, after_s=30)
_HUNG: Final = hung.Lengths(before_s=20, hang_s=60, after_s=20)

SHOWS: Final[tuple[Show, ...]] = (
    Show(
        "payment-fails",
        "Payment answers UNAVAILABLE to every call of the order service for 60 s; people order and look.",
        _in_a_shop(lambda stage: failing.fails(stage, failing.PAYMENT, _FAILING)),
    ),
    Show(
        "inventory-fails",
        "Inventory answers UNAVAILABLE to every call of the order service for 60 s; people order and look.",
        _in_a_shop(lambda stage: failing.fails(stage, failing.INVENTORY, _FAILING)),
    ),
    Show(
        "payment-hangs",
        "For 60 s nothing gets from the order service to payment or back; people order and look.",
        _in_a_shop(lambda stage: hung.hangs(stage, hung.PAYMENT_OF_ORDER, _HUNG)),
    ),
    Show(
        "order-hangs",
        "For 60 s nothing gets from the edge to the order service or back; people look at products, too.",
        _in_a_shop(lambda stage: hung.hangs(stage, hung.ORDER_OF_EDGE, _HUNG)),
    ),
    Show(
        "budgets",
        "People say how long they wait; order and payment are seen to get what is left of it.",
        _in_a_shop(lambda stage: deadlines.shrink(stage, chains=300)),
    ),
    Show(
        "leaving",
        "People leave while payment works for them; the calls along the way are seen to end.",
        _in_a_shop(lambda stage: deadlines.stop(stage, calls=500)),
    ),
    Show(
        "too-late",
        "A server that stalls again and again is asked by people with hardly any time.",
        lambda _home: deadlines.late(calls=2000),
    ),
    Show(
        "overload",
        "For 60 s a server is asked for three times what it can do, by callers who wait two seconds.",
        overload.shown,
    ),
    Show(
        "overload-edge",
        "For 30 s a shop is asked for products three times as often as it can tell of them, by 600 callers.",
        _in_a_shop(overload.at_the_edge),
    ),
    Show(
        "bad-network",
        "Every way between programs breaks, stalls and drags for 60 s, now here and now there; people buy.",
        _in_a_shop(lambda stage: network.is_bad(stage, seconds=60, seed=5)),
    ),
    Show(
        "broker-hangs",
        "For 10 s nothing gets to the broker or back; people order.",
        _in_a_shop(lambda stage: storage.broker_hangs(stage, before_s=20, hang_s=10)),
    ),
    Show(
        "database-stalls",
        "For 20 s no commit of the order service comes back; people order and look.",
        _in_a_shop(
            lambda stage: storage.database_is_gone(stage, storage.stalled(stage), before_s=20, gone_s=20)
        ),
    ),
    Show(
        "database-hangs",
        "For 20 s nothing gets to PostgreSQL or back; people order and look.",
        _in_a_shop_on_postgresql(
            lambda stage: storage.database_is_gone(stage, storage.unreachable(stage), before_s=20, gone_s=20)
        ),
    ),
    Show(
        "traced",
        "An order loses its driver; then come 1,000 more. Everything is sampled and looked for.",
        lambda home: traced.shown(home, orders=1000),
    ),
    Show(
        "replicas",
        "Of two order and two inventory services on PostgreSQL one is frozen for 30 s, each is replaced,"
        " one is killed; people order and look.",
        replicas.shown,
    ),
)


@dataclass(slots=True)
class Played:
    """What a show came to."""

    show: Show
    seconds: float = 0.0
    figures: Sequence[Figure] = field(default_factory=list)
    failure: str = ""
    """Why there are no figures."""

    @property
    def holds(self) -> bool:
        return not self.failure and not missed(self.figures)

    def lines(self) -> Iterator[str]:
        yield f"## {self.show.name}: {'held' if self.holds else 'NOT HELD'}"
        yield ""
        yield f"{self.show.done} ({self.seconds:.0f} s)"
        yield ""
        if self.failure:
            yield f"Failed: {self.failure}"
            return
        yield "| what | measured | bound | |"
        yield "|---|---|---|---|"
        for figure in self.figures:
            verdict = ("held" if figure.holds else "NOT HELD") if figure.bound else ""
            yield f"| {figure.what} | {figure.text} | {figure.bound} | {verdict} |"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.show.name,
            "done": self.show.done,
            "seconds": round(self.seconds, 1),
            "held": self.holds,
            "failure": self.failure,
            "figures": [
                {
                    "what": figure.what,
                    "measured": figure.measured,
                    "unit": figure.unit,
                    "at_most": figure.at_most,
                    "at_least": figure.at_least,
                    "held": figure.holds,
                }
                for figure in self.figures
            ],
        }


async def played(shows: Sequence[Show], folder: Path, *, progress: Tell, tell: Tell) -> list[Played]:
    """One after the other, whatever comes of each."""
    results = []
    for show in shows:
        progress(f"show {show.name}: {show.done}")
        result = Played(show)
        began = time.monotonic()
        try:
            home = folder / show.name
            home.mkdir(parents=True)
            result.figures = await show.run(home)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (it is told, and the other shows go on)
            result.failure = f"{type(error).__name__}: {error}"
        result.seconds = time.monotonic() - began
        tell(f"show {show.name}: {'held' if result.holds else 'NOT HELD'} ({result.seconds:.0f} s)")
        for line in filter(None, (result.failure, *missed(result.figures))):
            tell(f"  {line}")
        results.append(result)
    return results


def named(names: str, shows: Sequence[Show] = SHOWS) -> list[Show]:
    """From `all`, `none` or names with commas between. Raises ValueError for a show that there is not."""
    if names in ("all", "none"):
        return list(shows) if names == "all" else []
    by_name = {show.name: show for show in shows}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in by_name]:
        raise ValueError(f"there is no show {', '.join(unknown)}; there are {', '.join(by_name) or 'none'}")
    return [by_name[name] for name in wanted]
