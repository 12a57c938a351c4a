"""`bodega events tail`: what services tell each other, as it happens."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import endpoints, probe
from services.cli.data_folder import DEFAULT, DataFolder
from services.cli.migrate import DataOption
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from services.chassis.events.envelope import Envelope
    from services.cli.endpoints import Endpoints

app = typer.Typer(help="What services tell each other.", no_args_is_help=True)

PUBLISHERS = ("user", "inventory", "order", "payment")
CONNECT_MAX_S = 5.0


@app.callback()
def events() -> None:
    """What services tell each other."""


@app.command()
def tail(
    data: DataOption = DEFAULT,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only what this service tells; repeatable.")
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="EVENT", help="Only these, e.g. OrderConfirmed; repeatable."),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="From then on: 10m, 30s, 2026-11-21T08:00. Else from now on.")
    ] = "",
) -> None:
    """Show events as they happen: time, service, event, subject, trace, content. Ctrl-C ends it."""
    began = moment(since)
    services = _services(service or [])
    types = _types(type_ or [])
    shop = endpoints.read(DataFolder(data))
    asyncio.run(_tail(shop, services, types, began))


async def _tail(
    shop: "Endpoints", services: Collection[str], types: Collection[str], since: datetime | None
) -> None:
    from services.chassis.events.jetstream import JetStream  # noqa: PLC0415 (heavy)
    from services.cli.tail import Tail  # noqa: PLC0415 (heavy)

    output = Output()

    def tell(message: "Msg") -> None:
        for line in _lines(message, types):
            output.show(line)

    async with JetStream.connect(shop.nats, name="bodega-events-tail", tls=shop.identity()) as jetstream:
        try:
            await asyncio.wait_for(jetstream.connection(), CONNECT_MAX_S)
        except TimeoutError:
            raise Refused(f"the broker at {shop.nats} does not answer") from None
        tails = [Tail(jetstream, name, since=since) for name in services]
        following = [asyncio.create_task(one.run(tell)) for one in tails]
        telling = asyncio.create_task(_say_when_listening([one.attached for one in tails]))
        asked = asyncio.create_task(output.ended.wait())
        try:
            await asyncio.wait({asked, *following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asked, telling, *following):
                task.cancel()
            results = await asyncio.gather(*following, return_exceptions=True)
            await asyncio.wait({asked, telling})
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _say_when_listening(attached: list[asyncio.Event]) -> None:
    for event in attached:
        await event.wait()
    print("listening; Ctrl-C ends", file=sys.stderr, flush=True)  # noqa: T201 (told apart from events)


class _Unread(Exception):
    """A line was being written when we were asked to end, and perhaps nobody reads it."""


class Output:
    """Standard output, until its reader leaves or a signal asks us to end.

    A reader that only pauses holds up the line being written, and with it the loop, which could not hear of
    a signal then. So a handler of our own ends the line.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_writing = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked)

    def show(self, line: str) -> None:
        """Writes a line; nothing any more once it has ended."""
        if self.ended.is_set():
            return
        try:
            self._is_writing = True
            print(line, flush=True)  # noqa: T201 (what the user wants to see)
            self._is_writing = False
        except (BrokenPipeError, _Unread):
            self._is_writing = False
            self.ended.set()
            # Python flushes what it still has of the line when it ends, and would wait again, or complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self.ended.set()
        if self._is_writing:
            raise _Unread
        with contextlib.suppress(RuntimeError):  # it has closed: we are about to leave
            self._loop.call_soon_threadsafe(lambda: None)  # else it would sleep on


def _lines(message: "Msg", types: Collection[str]) -> Iterator[str]:
    from services.chassis.events.envelope import Envelope, UnreadableEnvelope  # noqa: PLC0415 (heavy)

    try:
        envelope = Envelope.from_message(message.subject, message.headers, message.data)
    except UnreadableEnvelope as unreadable:
        yield f"unreadable, on {message.subject}: {unreadable}"
        return
    if not types or envelope.type in types:
        yield line(envelope)


def line(envelope: "Envelope") -> str:
    """One event in one line; what its contract marks as secret is not shown."""
    service = envelope.source.rpartition("/")[2]
    name = envelope.type.rpartition(".")[2]
    trace_id = envelope.traceparent.partition("-")[2].partition("-")[0] or "-"
    at = f"{envelope.time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    return f"{at}  {service:<9}  {name:<19}  {envelope.subject}  {trace_id}  {_content(envelope)}"


def _content(envelope: "Envelope") -> str:
    import orjson  # noqa: PLC0415 (with what is heavy)
    from google.protobuf import message_factory  # noqa: PLC0415 (heavy)
    from google.protobuf.message import DecodeError  # noqa: PLC0415 (heavy)

    from services.chassis.telemetry import redacted  # noqa: PLC0415 (heavy)

    kind = known_types().get(envelope.type)
    if kind is None:
        return f"[{len(envelope.data)} bytes of a type that this release does not know]"
    try:
        message = message_factory.GetMessageClass(kind).FromString(envelope.data)
    except DecodeError:
        return f"[{len(envelope.data)} bytes that are no {envelope.type}]"
    return orjson.dumps(redacted(message)).decode()


def known_types() -> dict[str, Any]:
    """The descriptor of every event that a service may tell, by its full name."""
    from bodega.inventory.v1 import inventory_events_pb2  # noqa: PLC0415 (heavy)
    from bodega.order.v1 import order_events_pb2  # noqa: PLC0415 (heavy)
    from bodega.payment.v1 import payment_events_pb2  # noqa: PLC0415 (heavy)
    from bodega.user.v1 import user_events_pb2  # noqa: PLC0415 (heavy)

    files = (user_events_pb2, inventory_events_pb2, order_events_pb2, payment_events_pb2)
    return {kind.full_name: kind for file in files for kind in file.DESCRIPTOR.message_types_by_name.values()}


def _services(wanted: list[str]) -> tuple[str, ...]:
    for name in wanted:
        if name not in PUBLISHERS:
            raise Refused(f"{name!r} tells no events; these do: {', '.join(PUBLISHERS)}")
    return tuple(dict.fromkeys(wanted)) or PUBLISHERS


def _types(wanted: list[str]) -> frozenset[str]:
    """Full names, from those or from short ones."""
    known = known_types() if wanted else {}
    found = set()
    for name in wanted:
        matches = {full for full in known if name in (full, full.rpartition(".")[2])}
        if not matches:
            raise Refused(f"no event is called {name!r}; e.g. OrderConfirmed, PaymentCaptured are")
        found |= matches
    return frozenset(found)


def moment(text: str) -> datetime | None:
    """A time of day, of which one without a zone is here; or how long ago. Raises Refused."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=probe.seconds(text))
    except (Refused, OverflowError):
        raise Refused(
            f"{text!r} is neither a time such as 2026-11-21T08:00 nor a duration such as 10m"
        ) from None
