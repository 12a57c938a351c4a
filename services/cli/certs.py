"""`bodega certs`: the certificates of a shop whose programs something else than `bodega up` runs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.refusal import Refused

if TYPE_CHECKING:
    from services.cli.certificates import Certificates

KEPT_EVERY_S = 60.0


def certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where they are to be, a folder a workload.")],
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name or address that guests call the servers by; repeatable."),
    ] = None,
    new_authority: Annotated[  # noqa: FBT002 (an option, which typer passes by name)
        bool, typer.Option("--new-authority", help="Another authority, which signs from a minute later on.")
    ] = False,
    keep: Annotated[  # noqa: FBT002
        bool, typer.Option("--keep", help="Stay, and renew in time; else to be run every few hours.")
    ] = False,
) -> None:
    """Make a shop's certificates, or renew those that are there. Programs take new ones up by themselves."""
    from services.cli.certificates import Certificates, NotOurs  # noqa: PLC0415 (heavy)

    made = Certificates(folder.absolute(), hosts=host or ())
    try:
        if new_authority:
            _replace_authority(made)
        _renew(made)
        while keep:
            time.sleep(KEPT_EVERY_S)
            _renew(made)
    except NotOurs as not_ours:
        raise Refused(str(not_ours)) from None
    except OSError as error:
        raise Refused(f"{error.filename} cannot be written: {error.strerror}") from None


def _renew(made: "Certificates") -> None:
    for workload in made.renew():
        typer.echo(f"{workload}: {made.of(workload)}")


def _replace_authority(made: "Certificates") -> None:
    if not made.is_begun:
        raise Refused(f"{made.folder} has no authority yet that another could follow")
    made.replace_authority()
