"""`bodega migrate`: brings every database of a shop to the newest schema."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from services.cli.data_folder import DEFAULT, SERVICES, DataFolder, sqlite_url, without_password
from services.cli.refusal import Refused

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the shop keeps its data.")]


def migrate(
    data: DataOption = DEFAULT,
    service: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The database that this service's own settings name; repeatable."),
    ] = None,
) -> None:
    """Bring every database to the newest schema (`up` does so by itself)."""
    if service:
        _migrate_as_told(service)
        return
    folder = DataFolder(data)
    folder.create()
    for name in SERVICES:
        migrate_one(folder, name)
        typer.echo(f"{name}: {without_password(folder.address(name))} is up to date")


def _migrate_as_told(services: list[str]) -> None:
    """Where there is no data folder: containers, other databases."""
    from services.chassis import config  # noqa: PLC0415 (heavy)

    for name in services:
        if name not in SERVICES:
            raise Refused(f"there is no service {name!r}; there are {', '.join(SERVICES)}")
        variable = f"BODEGA_{name}__DATABASE_URL".upper()
        try:
            url = config.secret(variable)
        except config.SettingsRefused as refused:
            raise Refused(str(refused)) from None
        if not url:
            raise Refused(f"{variable} is told neither by a secret nor by the environment")
        _upgrade(url, name, shown=f"the database of {name}")  # its address may hold a password
        typer.echo(f"{name}: up to date")


def migrate_one(folder: DataFolder, name: str) -> None:
    """The same for one service. Safe beside the running service. Raises Refused if the database refuses."""
    where = folder.address(name)
    _upgrade(sqlite_url(where), name, shown=without_password(where))


def _upgrade(url: str, name: str, *, shown: str) -> None:
    import sqlalchemy as sa  # noqa: PLC0415 (heavy)

    from services.chassis.storage.migrations import migrate as upgrade  # noqa: PLC0415 (heavy)

    try:
        upgrade(url, _scripts(name))
    except sa.exc.DBAPIError as error:
        raise Refused(f"{shown} cannot be migrated: {error.orig}") from None


def _scripts(name: str) -> Path:
    spec = importlib.util.find_spec(f"services.{name}")
    assert spec is not None and spec.origin is not None, name  # noqa: PT018 (one thought)
    return Path(spec.origin).parent / "migrations"
