"""`bodega failpoints`: faults played in the services of a running shop, to see its promises kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import endpoints
from services.cli.data_folder import DEFAULT, DataFolder
from services.cli.migrate import DataOption
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from bodega.operator.v1.failpoint_pb2 import Failpoints
    from bodega.operator.v1.failpoint_pb2_grpc import FailpointServiceStub

    from services.cli.endpoints import Endpoints

app = typer.Typer(
    name="failpoints", help="Play faults in the services of a running shop.", no_args_is_help=True
)

ServiceOption = Annotated[
    list[str] | None,
    typer.Option("--service", metavar="NAME", help="Only this one, or this replica (order-2); repeatable."),
]
_Call = Callable[["FailpointServiceStub"], Awaitable["Failpoints"]]


@app.command("list")
def list_(
    *,
    service: ServiceOption = None,
    sites: Annotated[bool, typer.Option("--sites", help="Every place where faults can be played.")] = False,
    data: DataOption = DEFAULT,
) -> None:
    """Show what is set, how often its place was visited since, and how often it was played."""
    shop = endpoints.read(DataFolder(data))
    found = asyncio.run(standing(shop, service or []))
    for name, it in found.items():
        for line in it.sites if sites else _lines(it):
            typer.echo(f"{name:14}{line}")
    if not sites and not any(it.failpoints for it in found.values()):
        typer.echo("no failpoints are set")


@app.command("set")
def set_(
    failpoints: Annotated[
        str, typer.Argument(metavar="FAILPOINTS", help="As in BODEGA_FAILPOINTS, separated by semicolons.")
    ],
    service: ServiceOption = None,
    data: DataOption = DEFAULT,
) -> None:
    """Set failpoints instead of those before; without --service in all services that have these places.

    For example `bodega failpoints set 'server.call.before[ReserveStock]=error(UNAVAILABLE)%50'`. Faults are
    exit, hang, delay(SECONDS), error(CODE) and drop-reply; behind them @3 means at the third visit only, *3
    at the first three, %5 at five of a hundred.
    """
    shop = endpoints.read(DataFolder(data))
    for name, it in asyncio.run(set_in(shop, failpoints, service or [])).items():
        for line in _lines(it):
            typer.echo(f"{name:14}{line}")


@app.command()
def clear(service: ServiceOption = None, data: DataOption = DEFAULT) -> None:
    """Set none any more; whatever hangs goes on."""
    shop = endpoints.read(DataFolder(data))
    for name in asyncio.run(cleared(shop, service or [])):
        typer.echo(f"{name:14}no failpoints are set")


async def standing(shop: "Endpoints", names: list[str]) -> "dict[str, Failpoints]":
    """What stands in these services of a shop; in all of them, where none are named. Raises Refused."""
    from bodega.operator.v1.failpoint_pb2 import GetFailpointsRequest  # noqa: PLC0415 (heavy)

    return await _asked(shop, names, lambda stub: stub.GetFailpoints(GetFailpointsRequest()))


async def set_in(shop: "Endpoints", failpoints: str, names: list[str]) -> "dict[str, Failpoints]":
    """Sets failpoints in these services; where none are named, in those with such places. Raises Refused."""
    from bodega.operator.v1.failpoint_pb2 import SetFailpointsRequest  # noqa: PLC0415 (heavy)

    names = names or await _knowing(shop, failpoints)
    request = SetFailpointsRequest(failpoints=failpoints)
    return await _asked(shop, names, lambda stub: stub.SetFailpoints(request))


async def cleared(shop: "Endpoints", names: list[str]) -> "dict[str, Failpoints]":
    """Clears the failpoints of these services; of all of them, where none are named. Raises Refused."""
    from bodega.operator.v1.failpoint_pb2 import ClearFailpointsRequest  # noqa: PLC0415 (heavy)

    return await _asked(shop, names, lambda stub: stub.ClearFailpoints(ClearFailpointsRequest()))


async def _knowing(shop: "Endpoints", failpoints: str) -> list[str]:
    from services.chassis import fault  # noqa: PLC0415 (heavy)

    try:
        wanted = {place.site for place in fault.parse(failpoints)}
    except fault.FailpointsRefused as refused:
        raise Refused(str(refused)) from None
    if names := [name for name, it in (await standing(shop, [])).items() if wanted <= {*it.sites}]:
        return names
    raise Refused(
        f"no service has a place called {' and '.join(sorted(wanted))}; see bodega failpoints list --sites"
    )


async def _asked(shop: "Endpoints", names: list[str], call: _Call) -> "dict[str, Failpoints]":
    """All at once, and all of them even if one refuses: the others' faults are played then, or cleared."""
    asked = _programs(shop, names)
    answers = await asyncio.gather(
        *(_ask(shop, service, program, call) for program, service in asked.items()), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return dict(zip(asked, answers, strict=True))  # type: ignore[arg-type]  # the others were raised


def _programs(shop: "Endpoints", names: list[str]) -> dict[str, str]:
    """Each program, a replica perhaps, and its service. Names may be of either; none are all."""
    every = {program: name for name, service in shop.services.items() for program in service.programs(name)}
    known = {*every, *every.values()}
    if unknown := [name for name in names if name not in known]:
        raise Refused(f"there is no service {unknown[0]}, only {', '.join(shop.services)}")
    return {
        program: service
        for program, service in every.items()
        if not names or program in names or service in names
    }


async def _ask(shop: "Endpoints", service: str, program: str, call: _Call) -> Any:
    import grpc  # noqa: PLC0415 (heavy)
    from bodega.operator.v1 import failpoint_pb2  # noqa: PLC0415 (heavy)
    from bodega.operator.v1.failpoint_pb2_grpc import FailpointServiceStub  # noqa: PLC0415 (heavy)

    from services.chassis import client  # noqa: PLC0415 (heavy)
    from services.chassis.tls import TlsRefused  # noqa: PLC0415 (heavy)

    at, identity = shop.programs[program].mesh, shop.identity()
    if not at or identity is None:
        raise Refused("this shop has no mesh port, so it knows no operator; start it again with `bodega up`")
    try:
        async with client.connect(at, failpoint_pb2.DESCRIPTOR, tls=identity, workload=service) as channel:
            return await call(FailpointServiceStub(channel))
    except TlsRefused as refused:
        raise Refused(str(refused)) from None
    except grpc.aio.AioRpcError as error:
        raise Refused(f"{program}: {error.details() or error.code().name}") from None


def _lines(standing: "Failpoints") -> list[str]:
    return [f"{it.place}={it.fault}  {it.plays} of {it.visits} visits" for it in standing.failpoints]
