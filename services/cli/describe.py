"""`bodega describe`: the contracts as one file, which is all that the edge wants to know of its services."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.data_folder import write_whole
from services.cli.refusal import Refused


def describe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the FileDescriptorSet is to be.")],
) -> None:
    """Write this release's contracts, for the gateway's `--descriptor-set`."""
    from services.cli import contracts  # noqa: PLC0415 (heavy)

    try:
        write_whole(file, contracts.descriptor_set())
        file.chmod(0o644)  # nothing in it is secret, and whoever runs the edge is somebody else perhaps
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}") from None
