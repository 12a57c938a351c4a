"""`bodega run`: one program of the shop in the foreground, in this very process: a role of the image."""

import os
import sys
from typing import Annotated

import typer

from services.cli.data_folder import GATEWAY, SERVICES
from services.cli.refusal import Refused

MODULES = {**{name: f"services.{name}" for name in SERVICES}, GATEWAY: "gateway"}
"""What can be run, and by which module."""

# Behind the program's name everything is the program's own.
TAKES_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def run(
    context: typer.Context,
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help=f"One of {', '.join(MODULES)}.")],
) -> None:
    """Run one program, told by its settings or, the gateway, by arguments; for containers and systemd."""
    os.execv(sys.executable, command(program, *context.args))  # noqa: S606 (no shell, and that is the point)


def command(program: str, *arguments: str) -> list[str]:
    """The command line of a program. Raises Refused if there is none of that name."""
    if program not in MODULES:
        raise Refused(f"there is no program {program!r}; there are {', '.join(MODULES)}")
    return [sys.executable, "-P", "-m", MODULES[program], *arguments]
