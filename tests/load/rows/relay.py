"""Messages a second into JetStream: our relay, outbox and all, against one `js.publish` after the other."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from services.chassis.events.server import NatsServer
from tests.load import children, procfs
from tests.load.figures import (
    OURS,
    YARDSTICK,
    Figure,
    Pace,
    Run,
    Target,
    alternate,
    compared,
    cpu_us,
    in_rate,
    in_us,
    per_second,
    typical,
)

MESSAGES: Final = {OURS: 8_000, YARDSTICK: 1_600}
RELAY: Final = "tests.load.programs.relay"


class LazyNatsServer(NatsServer):
    """A broker as it comes: it acknowledges first and syncs every two minutes."""

    def _config(self) -> str:
        return super()._config().replace("  sync_interval: always\n", "")


async def relay(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """Relay ÷ sequential publish, on a broker that syncs before it answers and on one that does not."""
    for kind, sync, name in (
        (NatsServer, "always", "relay ÷ sequential publish, messages/s"),
        (LazyNatsServer, "default", "the same, broker syncing every 2 min"),
    ):
        home = folder / f"nats-{sync}"
        home.mkdir()
        async with kind(home) as server:
            yield await _compared(home, server.url, pace, name, sync)


async def _compared(home: Path, url: str, pace: Pace, name: str, sync: str) -> Figure:
    async with children.running(home, RELAY, url, home / "outbox.db") as child:

        async def run(side: str, messages: int) -> Run:
            meter = procfs.Meter(child.pid)
            answer = await child.ask(kind=side, messages=messages)
            return Run(messages, answer["elapsed_s"], max(meter.used_s - answer["cpu_s"], 0.0))

        async def measure(side: str) -> Run:
            return await run(side, pace.count(MESSAGES[side]))

        sides = (OURS, YARDSTICK)
        for side in sides:
            await run(side, 64)
        rounds = await alternate(pace.rounds, sides, measure)
    cpu = " against ".join(in_us(typical(rounds, side, cpu_us)) for side in sides)
    conditions = f"real nats-server, sync_interval {sync}; window 100; CPU per message {cpu}"
    return compared(name, Target(6, at_most=False), rounds, per_second, show=in_rate, conditions=conditions)
