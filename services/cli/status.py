"""`bodega status`: how every program of a running shop is doing."""

import math
import sys
import time
from typing import TYPE_CHECKING

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, DataFolder
from services.cli.migrate import DataOption

if TYPE_CHECKING:
    from services.cli.endpoints import Endpoints
    from services.cli.observation import Observation

WIDTH_WITHOUT_TERMINAL = 160
_COLUMNS = ("program", "health", "version", "up", "pid", "outbox", "consumers", "writer")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_UNKNOWN = "?"


def status(data: DataOption = DEFAULT) -> None:
    """Show every program's health, version, age and lag. Exit 1 if one is not serving."""
    shop = endpoints.read(DataFolder(data))

    from rich.console import Console  # noqa: PLC0415 (heavy)

    with Console(stderr=True).status("asking"):  # who is silent is waited for
        found = observed(shop)
    _show(found)
    down = [seen.name for seen in found if not seen.is_serving]
    if down:
        typer.echo(f"bodega: not serving: {', '.join(down)}", err=True)
        raise typer.Exit(1)


def observed(shop: "Endpoints") -> "list[Observation]":
    """Asks all programs side by side, so that a silent one holds up nobody else's answer."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (with what is heavy)

    from services.cli import observation  # noqa: PLC0415 (heavy)

    with ThreadPoolExecutor(len(shop.programs) + 2) as askers:
        asked = [
            askers.submit(observation.gateway, shop),
            *(askers.submit(observation.service, name, at) for name, at in shop.programs.items()),
            askers.submit(observation.nats, shop),
        ]
        return [answer.result() for answer in asked]


def duration(seconds: float) -> str:
    """`2d 3h`, `4m 10s`, `3s`: the two largest units that say anything."""
    left, parts = int(seconds), list[str]()
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _show(found: "list[Observation]") -> None:
    from rich.console import Console  # noqa: PLC0415 (heavy)
    from rich.table import Table  # noqa: PLC0415 (heavy)

    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for seen in found:
        table.add_row(*_row(seen))
    console.print(table)
    for seen in found:
        for missing in seen.missing:
            console.print(f"{seen.name} lacks {missing}", style="yellow", markup=False, soft_wrap=True)
        for method in seen.left_alone:
            console.print(f"{seen.name} leaves alone {method}", style="yellow", markup=False, soft_wrap=True)


def _row(seen: "Observation") -> tuple[str, ...]:
    up = "" if seen.started_at is None else duration(max(0.0, time.time() - seen.started_at))
    writer = "" if seen.writer_transactions is None else f"{seen.writer_transactions:.0f} under way"
    consumers = ", ".join(f"{name} {_count(lag)}" for name, lag in seen.consumer_lags.items())
    pid = "" if seen.pid is None else str(seen.pid)
    return (seen.name, _health(seen), seen.version, up, pid, _outbox(seen), consumers, writer)


def _health(seen: "Observation") -> str:
    if not seen.is_serving:
        return f"[bold red]{seen.health}[/]"
    return f"[yellow]{seen.health}[/]" if seen.missing else f"[green]{seen.health}[/]"


def _outbox(seen: "Observation") -> str:
    if seen.outbox_rows is None:
        return ""
    if not seen.outbox_rows:
        return "0"
    return f"{seen.outbox_rows:.0f}, oldest {seen.outbox_oldest_age_s or 0:.1f} s"


def _count(number: float) -> str:
    return _UNKNOWN if math.isnan(number) else f"{number:.0f}"
