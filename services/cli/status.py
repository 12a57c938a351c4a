"""`bodega status`: how every program of a running shop is doing."""

import asyncio
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, OPERATOR, DataFolder
from services.cli.migrate import DataOption

if TYPE_CHECKING:
    from services.chassis.discovery import Answers
    from services.chassis.tls import Identity
    from services.cli.endpoints import Endpoints
    from services.cli.instances import Place
    from services.cli.observation import Observation

WIDTH_WITHOUT_TERMINAL = 200
BROKER_MAX_S: Final = 4.0  # to connect, and for all who are expected to answer
_COLUMNS = ("program", "address", "health", "version", "up", "pid", "calls", "outbox", "consumers", "writer")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Report:
    """How a shop is doing."""

    programs: "tuple[Observation, ...]"
    notes: tuple[str, ...] = ()
    """Where what is announced, what is expected and what answers are not the same."""

    @property
    def not_serving(self) -> list[str]:
        return list(dict.fromkeys(seen.name for seen in self.programs if not seen.is_serving))


def status(
    data: DataOption = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,  # noqa: FBT002
) -> None:
    """Show every instance's health, version, age, load and lag. Exit 1 if one is not serving."""
    shop = endpoints.read(DataFolder(data))

    from rich.console import Console  # noqa: PLC0415 (heavy)

    with Console(stderr=True).status("asking"):  # who is silent is waited for
        found = asyncio.run(report(shop))
    if as_json:
        typer.echo(json.dumps(for_machines(found), indent=2))
    else:
        _show(found)
    if found.not_serving:
        typer.echo(f"bodega: not serving: {', '.join(found.not_serving)}", err=True)
        raise typer.Exit(1)


async def report(shop: "Endpoints") -> Report:
    """Asks the broker who runs, then all programs side by side: a silent one holds up nobody else."""
    import httpx  # noqa: PLC0415 (heavy)

    from services.cli import instances, observation  # noqa: PLC0415 (heavy)

    identity, unfit = _operator(shop)
    answers = await _announced(shop, identity)
    where = instances.places(shop, answers or ())
    async with httpx.AsyncClient(trust_env=False, timeout=observation.ASK_MAX_S) as http:
        observer = observation.Observer(http, identity)
        edge, broker, *services = await asyncio.gather(
            observer.gateway(shop), observation.nats(shop), *(observer.service(at) for at in where)
        )
    notes = [unfit] if unfit else []
    if answers is None:
        notes.append("nats does not tell who runs; shown is what was started")
    else:
        notes += _notes(where, services, answers)
    return Report((edge, *services, broker), tuple(notes))


def for_machines(found: Report) -> dict[str, Any]:
    """The same as JSON has it; what is not known is null."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(found)), parse_constant=lambda _: None)
    return told | {"not_serving": found.not_serving}


def duration(seconds: float) -> str:
    """`2d 3h`, `4m 10s`, `3s`: the two largest units that say anything."""
    left, parts = int(seconds), list[str]()
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _operator(shop: "Endpoints") -> "tuple[Identity | None, str]":
    """As whom we ask, and why we ask as a guest if it cannot be the operator."""
    from services.chassis.tls import Identity, TlsRefused  # noqa: PLC0415 (heavy)

    files = shop.identity()
    try:
        return (Identity(files) if files else None), ""
    except TlsRefused as refused:
        return None, f"asked as a guest: {refused}"


async def _announced(shop: "Endpoints", identity: "Identity | None") -> "list[Answers] | None":
    """What instances say at the broker; None if it could not be asked."""
    from services.chassis.discovery import find  # noqa: PLC0415 (heavy)
    from services.chassis.events.connection import BROKER_ERRORS, Connection  # noqa: PLC0415 (heavy)
    from services.chassis.tls import TlsRefused  # noqa: PLC0415 (heavy)

    expected = {name: len(at.programs(name)) for name, at in shop.services.items()}
    connection = Connection()
    try:
        async with asyncio.timeout(BROKER_MAX_S):
            await connection.open(shop.nats, name=OPERATOR, identity=identity)
            return await find(connection, expected)
    except (*BROKER_ERRORS, TlsRefused):
        return None
    finally:
        await connection.close()


def _notes(
    where: "Iterable[Place]", seen: "Iterable[Observation]", answers: "Iterable[Answers]"
) -> Iterator[str]:
    for at, found in zip(where, seen, strict=True):
        if at.announced is None:
            yield f"{at.program} at {at.address} does not announce itself"
        elif not found.answers:
            yield f"{at.program} at {at.address} announces itself, but does not answer there: {found.health}"
        elif not at.is_expected:
            yield f"{at.program} at {at.address} announces itself, but nobody here has started it"
    for those in answers:
        if those.unreadable:
            yield f"{those.service}: {those.unreadable} announcements are not what an instance says"


def _show(found: Report) -> None:
    from rich.console import Console  # noqa: PLC0415 (heavy)
    from rich.table import Table  # noqa: PLC0415 (heavy)
    from rich.text import Text  # noqa: PLC0415 (heavy)

    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for seen in found.programs:
        table.add_row(
            *(Text(cell, style) for cell, style in _row(seen))
        )  # never as markup: it is others' text
    console.print(table)
    for line in (*_lines(found.programs), *found.notes):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _lines(programs: "Iterable[Observation]") -> Iterator[str]:
    for seen in programs:
        who = f"{seen.name} at {seen.address}" if seen.address else seen.name
        for missing in seen.missing:
            yield f"{who} lacks {missing}"
        for circuit in seen.left_alone:
            yield f"{who} leaves alone {circuit}"
        if seen.load and seen.load.refused:
            by_priority = ", ".join(f"{_count(calls)} {name}" for name, calls in seen.load.shed.items())
            yield f"{who} refused calls as too many since it began: {by_priority}"


def _row(seen: "Observation") -> Iterator[tuple[str, str]]:
    """Each cell with its style."""
    yield seen.name, ""
    yield seen.address, ""
    yield (
        seen.health,
        "yellow" if seen.is_serving and seen.missing else "green" if seen.is_serving else "bold red",
    )
    yield seen.version, ""
    yield "" if seen.started_at is None else duration(max(0.0, time.time() - seen.started_at)), ""
    yield "" if seen.pid is None else str(seen.pid), ""
    yield _calls(seen), ""
    yield _outbox(seen), ""
    yield ", ".join(f"{name} {_count(lag)}" for name, lag in seen.consumer_lags.items()), ""
    yield "" if seen.writer_transactions is None else f"{seen.writer_transactions:.0f} under way", ""


def _calls(seen: "Observation") -> str:
    if seen.load is None:
        return ""
    refused = f", {_count(seen.load.refused)} refused" if seen.load.refused else ""
    return f"{_count(seen.load.calls)} of {_count(seen.load.limit)}{refused}"


def _outbox(seen: "Observation") -> str:
    if seen.outbox_rows is None:
        return ""
    if not seen.outbox_rows:
        return "0"
    return f"{seen.outbox_rows:.0f}, oldest {seen.outbox_oldest_age_s or 0:.1f} s"


def _count(number: float) -> str:
    return _UNKNOWN if math.isnan(number) else f"{number:.0f}"
