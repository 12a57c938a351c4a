"""`bodega audit show`: what staff changed, and who was refused what, from the books of every service."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import events
from services.cli.data_folder import DEFAULT, SERVICES, DataFolder, sqlite_url
from services.cli.migrate import DataOption
from services.cli.refusal import Refused
from services.cli.verify import places

if TYPE_CHECKING:
    import sqlalchemy as sa

    from services.chassis.storage.audit_trail import Kind

ROWS_DEFAULT = 1000  # some seconds of reading for a person who searches

Row = dict[str, Any]

app = typer.Typer(name="audit", help="What staff changed, and who was refused what.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Has typer keep `show` as a command of its own, although it is the only one."""


@app.command()
def show(
    *,
    data: DataOption = DEFAULT,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only from this service's book; repeatable.")
    ] = None,
    actor: Annotated[
        str, typer.Option(metavar="WHO", help="Only by or for them: user:…, workload:operator, or an id.")
    ] = "",
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="From then on: 10m, 24h, 2026-11-21T08:00.")
    ] = "",
    denied: Annotated[bool, typer.Option("--denied", help="Only refused calls.")] = False,
    acts: Annotated[bool, typer.Option("--acts", help="Only what staff changed.")] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many rows, the newest.")
    ] = ROWS_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the audit trail, newest last. Needs no running shop."""
    from services.chassis.storage.audit_trail import Kind  # noqa: PLC0415 (heavy)

    if denied and acts:
        raise Refused("--denied and --acts exclude each other; without either both are shown")
    kind = Kind.DENIED if denied else Kind.ACT if acts else None
    books = places(DataFolder(data)).databases
    found = [
        _newest_first(name, books[name], _wanted(kind, actor, events.moment(since), limit))
        for name in _services(service or [])
    ]
    newest = list(islice(merge(*found, key=lambda row: row["create_time"], reverse=True), limit))
    try:
        for row in reversed(newest):
            print(_json(row) if as_json else line(row))  # noqa: T201 (what the user wants to see)
    except BrokenPipeError:  # nobody reads any more
        sys.stderr.close()


def line(row: Row) -> str:
    """One row in one line, whatever names it holds: other issuers of tokens choose theirs."""
    return "".join(char if char.isprintable() else "?" for char in "  ".join(_words(row)))


def _words(row: Row) -> Iterator[str]:
    at = f"{_at(row):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    yield f"{at}  {row['service']:<12}  {row['kind']:<6}  {row['outcome']:<15}"
    yield row["method"].rpartition(".")[2] or "-"
    yield row["actor"] or ("nobody" if row["method"] else "many")
    if row["on_behalf_of"]:
        yield f"for {row['on_behalf_of']}"
    if row["roles"]:
        yield f"as {row['roles']}"
    if row["address"]:
        yield f"from {row['address']}"
    yield from (f"{name}={value}" for name, value in row["subject"].items())
    if row["times"] > 1:
        yield f"{row['times']} times"
    if row["request_id"]:
        yield f"request {row['request_id']}"
    if row["trace_id"]:
        yield f"trace {row['trace_id']}"


def _json(row: Row) -> str:
    import orjson  # noqa: PLC0415 (heavy)

    shown = {**row, "create_time": _at(row)}
    return orjson.dumps(shown, option=orjson.OPT_UTC_Z).decode()


def _at(row: Row) -> datetime:
    return datetime.fromtimestamp(row["create_time"] / 1e6, UTC)


def _wanted(kind: "Kind | None", actor: str, since: datetime | None, limit: int) -> "sa.Select[Any]":
    import sqlalchemy as sa  # noqa: PLC0415 (heavy)

    from services.chassis.storage.audit_trail import TRAIL  # noqa: PLC0415 (heavy)
    from services.kernel.clock import to_micros  # noqa: PLC0415 (with what is heavy)

    wanted = sa.select(TRAIL).order_by(TRAIL.c.create_time.desc(), TRAIL.c.seq.desc()).limit(limit)
    if kind is not None:
        wanted = wanted.where(TRAIL.c.kind == kind.value)
    if since is not None:
        wanted = wanted.where(TRAIL.c.create_time >= to_micros(since))
    if actor:
        names = [actor, f"user:{actor}", f"workload:{actor}"]
        wanted = wanted.where(sa.or_(TRAIL.c.actor.in_(names), TRAIL.c.on_behalf_of.in_(names)))
    return wanted


def _newest_first(service: str, database: str, wanted: "sa.Select[Any]") -> list[Row]:
    import orjson  # noqa: PLC0415 (heavy)
    import sqlalchemy as sa  # noqa: PLC0415 (heavy)

    from services.chassis.audit import reading  # noqa: PLC0415 (heavy)

    try:
        with reading(sqlite_url(database)) as connection:
            rows = connection.execute(wanted).mappings().all()
    except sa.exc.DBAPIError as error:
        raise Refused(f"the audit trail of {service}, {database}, cannot be read: {error.orig}") from None
    return [{"service": service, **_plain(row), "subject": orjson.loads(row["subject"])} for row in rows]


def _plain(row: "sa.RowMapping") -> Row:
    return {str(column): value for column, value in row.items()}


def _services(wanted: list[str]) -> tuple[str, ...]:
    for name in wanted:
        if name not in SERVICES:
            raise Refused(f"{name!r} keeps no audit trail; these do: {', '.join(SERVICES)}")
    return tuple(dict.fromkeys(wanted)) or SERVICES
