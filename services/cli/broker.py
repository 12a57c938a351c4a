"""`bodega nats`: the shop's broker in the foreground, for those who start the programs themselves.

A nats-server configured as `bodega up` does it, and told (SIGHUP) when its certificate was renewed.
"""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.data_folder import OPERATOR, SERVICES
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from services.chassis.events.server import NatsServer
    from services.chassis.tls import Identity

PORT_DEFAULT = 4222
LOOK_EVERY_S = 10.0  # a leaf is renewed hours before the one before it ends
PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def nats(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where it keeps its streams.")],
    identity: Annotated[Path, typer.Option(metavar="DIR", help="The broker's own folder of certificates.")],
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = PORT_DEFAULT,
) -> None:
    """Run the broker: JetStream, mutual TLS, and what each workload may say and hear."""
    from services.chassis.events.permissions import users  # noqa: PLC0415
    from services.chassis.events.server import MissingBinary, NatsServer  # noqa: PLC0415
    from services.chassis.tls import Identity, TlsRefused  # noqa: PLC0415 (heavy)
    from services.cli.certificates import papers  # noqa: PLC0415 (heavy)

    files = papers(identity)
    everybody = users(SERVICES, operator=OPERATOR)
    broker = NatsServer(folder, host=host, port=port, tls=files, users=everybody, keeps_log=False)
    try:
        code = asyncio.run(_run(broker, Identity(files)))
    except (MissingBinary, TlsRefused) as refused:
        raise Refused(str(refused)) from None
    raise typer.Exit(code)


async def _run(broker: "NatsServer", identity: "Identity") -> int:
    """Until it ends; its exit code."""
    server = await asyncio.create_subprocess_exec(*broker.command())
    loop = asyncio.get_running_loop()
    for number in PASSED_ON:
        loop.add_signal_handler(number, _tell, server, number)
    renewing = asyncio.create_task(_pass_on_renewals(server, identity))
    try:
        return await server.wait()
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})


async def _pass_on_renewals(server: asyncio.subprocess.Process, identity: "Identity") -> None:
    known = identity.present()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        present = identity.present()
        if present is not known:
            known = present
            _tell(server, signal.SIGHUP)


def _tell(server: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if server.returncode is None:
        server.send_signal(number)
