"""A network that breaks, stalls and drags, now here and now there: everything asked is done once."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final

from tests.faults.figures import Figure
from tests.faults.proxy import Proxy, trouble
from tests.faults.wired import Wired

BUYERS: Final = 3
SETTLED_MAX_S: Final = 30.0  # after the network is well again
PATIENCE_S: Final = 120.0  # who meets with trouble eight times in a row may wait half a minute for the ninth

TROUBLE_MAX_S: Final = 0.5
PEACE_MAX_S: Final = 0.6  # between two troubles of one way
FAR_S: Final = 0.05
THIN_BYTES_PER_S: Final = 20_000

TROUBLES: Final[Mapping[str, Callable[[Proxy], None]]] = {
    "reset": Proxy.reset,
    "drop": Proxy.drop,
    "refuse": Proxy.refuse,
    "hang": Proxy.hang,
    "far": lambda way: way.delay(there_s=FAR_S, back_s=FAR_S),
    "thin": lambda way: way.limit(THIN_BYTES_PER_S),
}


async def is_bad(stage: Wired, *, seconds: float, seed: int) -> Sequence[Figure]:
    """Every way has troubles of its own, while patient people buy."""
    scene = stage.scene
    known = await scene.orders()
    troubles: Counter[str] = Counter()
    bought: list[str] = []
    is_over = False

    async def buy() -> None:
        while not is_over:
            bought.append((await scene.buy(within_s=PATIENCE_S))["orderId"])

    async def weather(way: Proxy, random: Random) -> None:
        while not is_over:
            await asyncio.sleep(random.uniform(0, PEACE_MAX_S))
            kind = random.choice(list(TROUBLES))
            troubles[kind] += 1
            async with trouble(way, partial(TROUBLES[kind], way)):
                await asyncio.sleep(random.uniform(0, TROUBLE_MAX_S))

    async with asyncio.TaskGroup() as tasks:
        for number, way in enumerate(stage.ways.values()):
            tasks.create_task(weather(way, Random(f"{seed} {number}")))  # noqa: S311 (to be repeated)
        for _ in range(BUYERS):
            tasks.create_task(buy())
        await asyncio.sleep(seconds)
        is_over = True
    over = time.monotonic()
    await scene.everything_holds()
    settled_s = time.monotonic() - over
    made = await scene.orders() - known
    return [
        *(Figure(f"troubles: {kind}", count) for kind, count in sorted(troubles.items())),
        Figure("orders bought", len(bought), at_least=1),
        Figure("orders that nobody was told of", len(made - set(bought)), at_most=0),
        Figure("orders told of twice", len(bought) - len(set(bought)), at_most=0),
        Figure("end until everything was settled", settled_s, "s", at_most=SETTLED_MAX_S),
    ]
