"""`bodega admin`: who runs the shop. Who can read the data folder and its certificates is the operator."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, DataFolder
from services.cli.migrate import DataOption
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from bodega.user.v1 import user_pb2

    from services.cli.endpoints import Endpoints

STANDARD_INPUT = Path("-")

app = typer.Typer(name="admin", help="Who runs the shop.", no_args_is_help=True)


@app.callback()
def admin() -> None:
    """Has typer keep `create` as a command of its own, although it is the only one."""


@app.command()
def create(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address to sign in with.")],
    username: Annotated[
        str, typer.Option(metavar="NAME", help="What others see of a new account.")
    ] = "admin",
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the password is; - for standard input. Else it is asked for."
        ),
    ] = None,
    data: DataOption = DEFAULT,
) -> None:
    """Make sure that an account exists, is active, administers the shop and has this password.

    An account of that address is taken over: its password is replaced, its sessions and API keys are ended.
    """
    shop = endpoints.read(DataFolder(data))
    made = asyncio.run(create_administrator(shop, email, username, _password(password_file)))
    typer.echo(f"{made.username} administers the shop: user {made.user_id}")


async def create_administrator(
    shop: "Endpoints", email: str, username: str, password: str
) -> "user_pb2.User":
    """Asks the user service of a shop for an administrator, as its operator. Raises Refused."""
    import grpc  # noqa: PLC0415 (heavy)
    from bodega.user.v1 import user_pb2  # noqa: PLC0415 (heavy)
    from bodega.user.v1.user_pb2_grpc import UserServiceStub  # noqa: PLC0415 (heavy)

    from services.chassis import client  # noqa: PLC0415 (heavy)
    from services.chassis.tls import TlsRefused  # noqa: PLC0415 (heavy)

    at, identity = shop.services["user"].mesh, shop.identity()
    if not at or identity is None:
        raise Refused("this shop has no mesh port, so it knows no operator; start it again with `bodega up`")
    request = user_pb2.CreateAdministratorRequest(email=email, username=username, password=password)
    try:
        async with client.connect(at, user_pb2.DESCRIPTOR, tls=identity) as channel:
            return await UserServiceStub(channel).CreateAdministrator(request)
    except TlsRefused as refused:
        raise Refused(str(refused)) from None
    except grpc.aio.AioRpcError as error:
        raise Refused(error.details() or f"the user service answers {error.code().name}") from None


def _password(file: Path | None) -> str:
    """Never from an argument, which everybody on the machine can read. Raises Refused."""
    if file is None:
        if not sys.stdin.isatty():
            raise Refused("there is nobody to ask for the password; name a file with --password-file")
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    try:
        content = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Refused(f"{file} cannot be read") from None
    return content.removesuffix("\n").removesuffix("\r")
