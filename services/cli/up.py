"""`bodega up`: runs a whole shop until it is asked to stop."""

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.data_folder import DEFAULT, SERVICES, without_password
from services.cli.migrate import DataOption
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from services.cli.shop import Shop
    from services.cli.supervisor import Notice

GATEWAY_PORT = 8080
GRPC_PORT_BASE = 50051
REPLICAS_MAX = 8  # of a service: each takes a dozen of the database server's hundred connections
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    data: DataOption = DEFAULT,
    *,
    gateway_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the REST edge; 0: any free one.")
    ] = GATEWAY_PORT,
    grpc_port_base: Annotated[
        int, typer.Option(min=0, max=65_535, help="First of five gRPC ports in a row; 0: any free ones.")
    ] = GRPC_PORT_BASE,
    database: Annotated[
        str,
        typer.Option(
            metavar="URL", help="postgresql://USER:PASSWORD@HOST:PORT: a database each there; remembered."
        ),
    ] = "",
    replicas: Annotated[
        str,
        typer.Option(
            metavar="SERVICE=N,…", help="Several processes of a service, e.g. order=2; on PostgreSQL only."
        ),
    ] = "",
    otlp: Annotated[
        str, typer.Option(metavar="URL", help="Spans go to this collector, e.g. http://localhost:4317.")
    ] = "",
    sample_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Of how many requests there are spans.")
    ] = 1.0,
) -> None:
    """Run the shop: broker, five services and the REST edge. Ctrl-C stops it."""
    from services.cli.shop import Shop  # noqa: PLC0415 (heavy)

    shop = Shop(
        data,
        gateway_port=gateway_port,
        grpc_port_base=grpc_port_base,
        database=database,
        replicas=_counts(replicas),
        otlp=otlp,
        sample_ratio=sample_ratio,
        on_notice=_show,
    )
    asyncio.run(_run(shop))


def _counts(text: str) -> dict[str, int]:
    """How many there shall be of which service. Raises Refused."""
    counts: dict[str, int] = {}
    for part in text.split(",") if text else ():
        name, _, number = part.strip().partition("=")
        if name not in SERVICES or not number.isdecimal() or not 1 <= int(number) <= REPLICAS_MAX:
            raise Refused(
                f"--replicas {part.strip()!r}: say SERVICE=N, a service of {', '.join(SERVICES)}"
                f" and 1 to {REPLICAS_MAX} of it"
            )
        counts[name] = int(number)
    return counts


async def _run(shop: "Shop") -> None:
    """Starts, tells, waits to be asked to stop, stops. A second request to stop does not wait any longer."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if asked.is_set() and hasattr(shop, "programs"):
            shop.programs.kill_all()
        asked.set()

    for number in _STOPPING:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(number, stop)
    starting = asyncio.create_task(shop.start())
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _show_table(shop)
            _say("ready")
            await waiting
    finally:
        waiting.cancel()
        starting.cancel()
        await asyncio.gather(starting, waiting, return_exceptions=True)
        await shop.stop()
    _say("stopped")


def _show(notice: "Notice") -> None:
    """A line for what happens to a program; silent about what went as planned."""
    if notice.event in ("died", "restarting", "hidden", "stale"):
        _say(f"{notice.name} {notice.event} {notice.detail}")
    elif notice.event == "ready":
        _say(f"{notice.name} is up, pid {notice.pid}")


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads any more, and the shop goes on
        print(line, flush=True)  # noqa: T201 (what the user is told)


def _show_table(shop: "Shop") -> None:
    from rich.console import Console  # noqa: PLC0415 (heavy)
    from rich.table import Table  # noqa: PLC0415

    endpoints = shop.endpoints
    rows = [("gateway", endpoints.gateway, f"http://{shop.gateway_operations}/metrics", "")]
    rows += [
        (name, at.grpc, f"http://{at.http}/metrics", without_password(at.database))
        for name, at in endpoints.programs.items()
    ]
    rows += [("nats", endpoints.nats, "", str(shop.folder.nats))]
    if not sys.stdout.isatty():
        for name, where, operations, kept in rows:
            _say(f"{name:<13} {where:<28} {operations:<38} {kept}".rstrip())
        return
    table = Table(title=f"Bodega on {shop.folder.path}", title_justify="left")
    for column in ("program", "pid", "at", "health and metrics", "data"):
        table.add_column(column, overflow="fold")
    for name, where, operations, kept in rows:
        table.add_row(name, str(shop.programs.pid(name)), where, operations, kept)
    Console().print(table)
