"""How events are worded, and what `bodega events tail` refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from bodega.order.v1 import order_events_pb2
from bodega.user.v1 import user_pb2

from services.chassis.events.envelope import Envelope
from services.cli import events
from services.cli.refusal import Refused

ENDS_WITHIN_S: Final = 30.0
AT = datetime(2026, 11, 21, 8, 30, 0, 120_000, tzinfo=UTC)


def envelope(type_: str, data: bytes, traceparent: str = "") -> Envelope:
    return Envelope("e", "bodega/order", type_, "o-1", AT, data, "bodega.order.v1.x.o-1", traceparent)


def test_an_event_is_one_line() -> None:
    message = order_events_pb2.OrderRejected(order_id="o-1", user_id="u-1", reason="OUT\nOF STOCK")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    found = events.line(
        envelope("bodega.order.v1.OrderRejected", message.SerializeToString(), f"00-{trace}-{'1' * 16}-01")
    )
    assert found == (
        f"2026-11-21T08:30:00.120Z  order      OrderRejected        o-1  {trace}  "
        r'{"order_id":"o-1","user_id":"u-1","reason":"OUT\nOF STOCK"}'
    )


@pytest.mark.parametrize(
    ("type_", "data", "shown"),
    [
        ("bodega.order.v1.OrderDreamt", b"123", "3 bytes of a type that this release does not know"),
        ("bodega.order.v1.OrderPlaced", b"\xff", "1 bytes that are no bodega.order.v1.OrderPlaced"),
    ],
)
def test_what_cannot_be_read_is_shown_as_such(type_: str, data: bytes, shown: str) -> None:
    assert events.line(envelope(type_, data)).endswith(f"  -  [{shown}]")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = user_pb2.RegisterUserRequest(username="ada", password="correct horse")
    monkeypatch.setattr(
        events, "known_types", lambda: {secret.DESCRIPTOR.full_name: user_pb2.RegisterUserRequest.DESCRIPTOR}
    )
    found = events.line(envelope(secret.DESCRIPTOR.full_name, secret.SerializeToString()))
    assert "ada" in found
    assert "correct horse" not in found


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"service": ["notification"]}, "'notification' tells no events"),
        ({"type_": ["OrderDreamt"]}, "no event is called 'OrderDreamt'"),
        ({"since": "yesterday"}, "'yesterday' is neither a time"),
        ({"since": "99999999999999m"}, "is neither a time"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        events.tail(**arguments)  # type: ignore[arg-type]


def test_since_is_a_time_or_how_long_ago() -> None:
    assert events.moment("") is None
    assert events.moment("2026-11-21T08:30:00.12+00:00") == AT
    ago = events.moment("10m")
    assert ago is not None
    assert timedelta(minutes=9) < datetime.now(UTC) - ago < timedelta(minutes=11)


def test_types_go_by_short_and_by_full_name() -> None:
    assert events._types(["OrderPlaced", "bodega.user.v1.UserActivated"]) == {
        "bodega.order.v1.OrderPlaced",
        "bodega.user.v1.UserActivated",
    }


PIPE_BYTES: Final = 4096
ENDLESS: Final = """
import asyncio
import sys
from services.cli.events import Output

async def show():
    output = Output()
    while not output.ended.is_set():
        output.show("x" * int(sys.argv[1]))
        await asyncio.sleep(0)

asyncio.run(show())
"""


@contextmanager
def showing(length: int) -> Iterator[subprocess.Popen[bytes]]:
    """The second line, or the rest of the first, waits for a reader."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(length)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, pipesize=PIPE_BYTES,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.read(1)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("length", [PIPE_BYTES * 2 // 3, PIPE_BYTES * 3 // 2])
def test_who_pauses_the_reader_can_still_end_it(number: signal.Signals, length: int) -> None:
    with showing(length) as process:
        process.send_signal(number)
        assert process.wait(ENDS_WITHIN_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_it_ends_when_the_reader_leaves() -> None:
    with showing(PIPE_BYTES) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(ENDS_WITHIN_S) == 0
        assert process.stderr.read() == b""
