"""`bodega migrate`: brings every database of a shop to the newest schema."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from services.cli.data_folder import DEFAULT, SERVICES, DataFolder, sqlite_url
from services.cli.refusal import Refused

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the shop keeps its data.")]


def migrate(data: DataOption = DEFAULT) -> None:
    """Bring every database to the newest schema (`up` does so by itself)."""
    folder = DataFolder(data)
    folder.create()
    for name in SERVICES:
        migrate_one(folder, name)
        typer.echo(f"{name}: {folder.databases[name]} is up to date")


def migrate_one(folder: DataFolder, name: str) -> None:
    """The same for one service. Safe beside the running service. Raises Refused if the database refuses."""
    import sqlalchemy as sa  # noqa: PLC0415 (heavy)

    from services.chassis.storage.migrations import migrate as upgrade  # noqa: PLC0415 (heavy)

    try:
        upgrade(sqlite_url(folder.databases[name]), _scripts(name))
    except sa.exc.DBAPIError as error:
        raise Refused(f"{folder.databases[name]} cannot be migrated: {error.orig}") from None


def _scripts(name: str) -> Path:
    spec = importlib.util.find_spec(f"services.{name}")
    assert spec is not None and spec.origin is not None, name  # noqa: PT018 (one thought)
    return Path(spec.origin).parent / "migrations"
