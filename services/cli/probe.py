"""`bodega probe`: asks a program whether it is healthy; for containers and scripts. Needs grpc at most.

Services say so over gRPC (`host:port`), the edge over HTTP (`http://host:port/health/ready`), and the broker
greets whoever connects (`nats://host:port`).
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from services.cli import readiness
from services.cli.refusal import Refused

if TYPE_CHECKING:
    import grpc

TIMEOUT_DEFAULT_S = 3.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def probe(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A gRPC target, e.g. 127.0.0.1:50053.")],
    service: Annotated[str, typer.Option(help="Full name of a gRPC service; empty: the whole server.")] = "",
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait: 3s, 500ms.")] = "3s",
    identity: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A workload's folder of certificates, to probe a mesh port."),
    ] = None,
    workload: Annotated[str, typer.Option(metavar="NAME", help="Who must answer at the mesh port.")] = "",
) -> None:
    """Exit with 0 if a server says SERVING (grpc.health.v1), else with 1. Also takes http:// and nats://."""
    timeout_s = seconds(timeout)
    if (ready := _plain(target)) is not None:
        raise typer.Exit(0 if _answers(ready, timeout_s) else 1)
    import grpc  # noqa: PLC0415 (heavy)

    if bool(identity) != bool(workload):
        raise Refused("--identity and --workload go together")
    with _mesh(target, identity, workload) if identity else grpc.insecure_channel(target) as channel:
        answer = check(channel, service, timeout_s=timeout_s)
    typer.echo(answer, err=answer != SERVING)
    raise typer.Exit(0 if answer == SERVING else 1)


def _plain(target: str) -> readiness.Ready | None:
    """How to ask those who do not speak gRPC; None for those who do. Raises Refused."""
    if not target.startswith(("http://", "nats://")):
        return None
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise Refused(f"{target!r} must name host and port")
    if parts.scheme == "nats":
        return readiness.nats_with_jetstream(host, port)
    return readiness.http_ok(host, port, parts.path or "/")


def _answers(ready: readiness.Ready, timeout_s: float) -> bool:
    async def ask() -> bool:
        return await asyncio.wait_for(ready(), timeout_s)

    try:
        said = asyncio.run(ask())
    except TimeoutError:
        said = False
    typer.echo("ready" if said else "NOT ready", err=not said)
    return said


def _mesh(target: str, identity: Path, workload: str) -> "grpc.Channel":
    import grpc  # noqa: PLC0415 (heavy)

    from services.chassis import tls  # noqa: PLC0415 (heavy)
    from services.cli.certificates import papers  # noqa: PLC0415 (heavy)

    try:
        shown = tls.channel_credentials(tls.Identity(papers(identity)).present())
    except tls.TlsRefused as refused:
        raise Refused(str(refused)) from None
    return grpc.secure_channel(target, shown, options=tls.channel_options(workload))


SERVING = "SERVING"


def check(channel: "grpc.Channel", service: str = "", *, timeout_s: float = TIMEOUT_DEFAULT_S) -> str:
    """What the server says of its health, e.g. `SERVING`; the status code's name if it does not say."""
    import grpc  # noqa: PLC0415 (heavy)
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415 (heavy)

    try:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # whose published types lack its methods
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
    except grpc.RpcError as error:
        return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def seconds(duration: str) -> float:
    """`5s`, `500ms`, `2m`, `24h`, `7d`, or plain seconds. Raises Refused for anything else."""
    for unit in (*_UNITS, ""):
        if duration.endswith(unit):
            try:
                found = float(duration.removesuffix(unit)) * _UNITS.get(unit, 1.0)
            except ValueError:
                break
            if 0 <= found < float("inf"):
                return found
            break
    raise Refused(f"{duration!r} is not a duration such as 5s or 500ms")
