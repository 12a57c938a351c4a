"""`bodega verify`: checks every invariant against the books of a shop."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, PROVIDER, SERVICES, DataFolder
from services.cli.migrate import DataOption
from services.cli.probe import seconds
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from services.cli.audit.books import Places
    from services.cli.audit.reading import Verdict

WIDTH_WITHOUT_TERMINAL = 160


def verify(
    data: DataOption = DEFAULT,
    settle: Annotated[
        str,
        typer.Option(metavar="DURATION", help="A difference counts if it is still there after this long."),
    ] = "5s",
) -> None:
    """Check every invariant: databases, the provider's books, streams. Exit 1 if one is violated."""
    settle_s = seconds(settle)
    where = places(DataFolder(data))

    from rich.console import Console  # noqa: PLC0415 (heavy)

    from services.cli.audit import reading  # noqa: PLC0415 (heavy)

    with Console(stderr=True).status("reading the books") as status:

        def wait() -> None:
            status.update(f"there are differences; reading again in {settle} whether they stay")
            time.sleep(settle_s)

        verdicts = reading.verify(where, wait=wait)
    _show(verdicts)
    violated = sum(verdict.is_violated for verdict in verdicts)
    if violated:
        typer.echo(f"bodega: {violated} of {len(verdicts)} checks are violated", err=True)
        raise typer.Exit(1)
    skipped = sum(verdict.finding is None for verdict in verdicts)
    typer.echo(f"all holds: {len(verdicts) - skipped} checks" + (f", {skipped} skipped" if skipped else ""))


def places(folder: DataFolder) -> "Places":
    """Where the books of a shop are, whether it runs or not. Raises Refused if there are none."""
    from services.cli.audit.books import Places  # noqa: PLC0415 (heavy)

    try:
        shop = endpoints.read(folder)
    except Refused:
        if not folder.server and not all(file.exists() for file in folder.databases.values()):
            raise Refused(f"there is no shop on {folder.path}: neither a running one nor databases") from None
        return Places({name: folder.address(name) for name in SERVICES}, folder.address(PROVIDER))
    return Places(
        {name: shop.services[name].database for name in SERVICES},
        shop.services["payment"].provider_database,
        shop.nats,
        shop.identity(),
    )


def _show(verdicts: "list[Verdict]") -> None:
    from rich.console import Console  # noqa: PLC0415 (heavy)
    from rich.table import Table  # noqa: PLC0415 (heavy)
    from rich.text import Text  # noqa: PLC0415 (heavy)

    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "check", "what must hold", "figures"):
        table.add_column(column, overflow="fold")
    for verdict in verdicts:
        table.add_row(_mark(verdict), verdict.name, verdict.sentence, Text(_figures(verdict)))
    console.print(table)
    for verdict in verdicts:
        for example in verdict.finding.examples if verdict.finding else ():
            console.print(f"{verdict.name}: {example}", style="red", markup=False, soft_wrap=True)


def _mark(verdict: "Verdict") -> str:
    if verdict.finding is None:
        return "[yellow]skipped[/]"
    return "[green]holds[/]" if verdict.finding.holds else "[bold red]VIOLATED[/]"


def _figures(verdict: "Verdict") -> str:
    if verdict.finding is None:
        return verdict.skipped
    return ", ".join(f"{name} {number:,}" for name, number in verdict.finding.figures.items())
