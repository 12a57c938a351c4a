"""`bodega demo`: shops in a running shop and checks that it does as it promises."""

from typing import NoReturn

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, DataFolder
from services.cli.migrate import DataOption


def demo(data: DataOption = DEFAULT) -> None:
    """Shop in the running shop: buy, be declined, repeat, cancel, watch a parcel, send a piece back."""
    shop = endpoints.read(DataFolder(data))

    from rich.console import Console  # noqa: PLC0415 (heavy)

    from services.cli.shopper import Shopper  # noqa: PLC0415 (heavy)
    from services.cli.story import Visit  # noqa: PLC0415 (heavy)
    from services.cli.surprise import Surprise  # noqa: PLC0415 (heavy)

    try:
        with Shopper(shop) as shopper:
            Visit(shop, shopper, Console(highlight=False)).run()
    except Surprise as surprise:
        _complain(str(surprise))
    except KeyError as missing:
        _complain(f"an answer lacks {missing}")


def _complain(what: str) -> NoReturn:
    typer.echo(f"bodega: {' '.join(what.split())}", err=True)
    raise typer.Exit(1)
